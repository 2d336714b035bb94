"""Dataclasses from JSON: what fits is built, all else is refused."""

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from pipeline.config.records import LARGEST_DEPTH, from_json


@dataclass(frozen=True)
class Inner:
    """A field of another."""

    name: str
    size: int = 0


@dataclass(frozen=True)
class Outer:
    """One field of every kind."""

    inner: Inner
    several: tuple[Inner, ...] = ()
    pair: tuple[float, float] | None = None
    named: dict[str, int] | None = None
    kind: Literal["a", "b"] = "a"
    value: str | int | float | bool = ""
    anything: Any = None


RIGHT = {"inner": {"name": "x"}}


def test_what_fits_is_built() -> None:
    more = {"several": [{"name": "y", "size": 2}], "pair": [1, 2.5], "named": {"a": 1}, "kind": "b", "anything": [{}]}
    found = from_json(Outer, {**RIGHT, **more})
    assert found == Outer(Inner("x"), (Inner("y", 2),), (1, 2.5), {"a": 1}, "b", anything=[{}])
    for value in (True, 1, 1.0, "1"):
        assert type(from_json(Outer, {**RIGHT, "value": value}).value) is type(value)


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        {},
        {"inner": {}},
        {"inner": {"name": 3}},
        {"inner": {"name": "x", "size": True}},
        {"inner": {"name": "x", "size": 1.0}},
        {**RIGHT, "unknown": 1},
        {**RIGHT, "several": {"name": "y"}},
        {**RIGHT, "several": [{"name": "y", "more": 1}]},
        {**RIGHT, "pair": [1]},
        {**RIGHT, "pair": [1, float("nan")]},
        {**RIGHT, "pair": "ab"},
        {**RIGHT, "named": {"a": "b"}},
        {**RIGHT, "kind": "c"},
        {**RIGHT, "kind": ["a"]},
        {**RIGHT, "value": None},
    ],
)
def test_what_does_not_fit_is_refused(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        from_json(Outer, wrong)


def test_documents_that_are_too_deep_are_refused() -> None:
    deep: Any = None
    for _ in range(LARGEST_DEPTH + 1):
        deep = [deep]
    with pytest.raises(ValueError, match="deeper"):
        from_json(Outer, {**RIGHT, "anything": deep})
