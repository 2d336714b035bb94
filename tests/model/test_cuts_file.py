"""cuts.json: back as it was to the bit, and refused if it is not a model's."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.errors import ModelError
from pipeline.model.cuts_file import parse, render
from pipeline.model.manifest import NamedType
from pipeline.preprocess.bins import Cuts

FEATURES = (NamedType("a", "q"), NamedType("b", "c"))
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def cuts(points: list[float], levels: int = 3) -> Cuts:
    return Cuts((np.array(points, np.float32), np.empty(0, np.float32)), (None, levels))


@example(points=[float(np.finfo(np.float32).min), float(np.finfo(np.float32).max)], levels=0)
@given(st.lists(FLOATS.map(lambda value: value + 0.0), max_size=252, unique=True), st.integers(0, 254))
def test_back_to_the_bit(points: list[float], levels: int) -> None:
    made = cuts(sorted(points), levels)
    content = render(made, ["a", "b"])
    found = parse(content, FEATURES)
    assert found.levels == made.levels
    assert [one.dtype for one in found.points] == [np.float32, np.float32]
    assert found.points[0].tobytes() == made.points[0].tobytes()
    assert render(found, ["a", "b"]) == content


def test_what_it_looks_like() -> None:
    assert render(cuts([0.1, 2]), ["a", "b"]).decode() == (
        '{"format_version": 1, "features": [\n{"name": "a", "cuts": [0.1, 2.0]},\n{"name": "b", "levels": 3}\n]}\n'
    )


@pytest.mark.parametrize(
    "first",
    [
        {"name": "b", "cuts": [1.0]}, {"name": "a"}, {"name": "a", "levels": 3}, {"name": "a", "cuts": [1.0, 1.0]},
        {"name": "a", "cuts": [2.0, 1.0]}, {"name": "a", "cuts": [1e300]}, {"name": "a", "cuts": [10**400]}, [],
        {"name": "a", "cuts": [float("nan")]}, {"name": "a", "cuts": ["1"]}, {"name": "a", "cuts": [[1.0]]}, None, 3,
        {"name": "a", "cuts": [True]}, {"name": "a", "cuts": 3}, {"name": "a", "cuts": list(range(253))},
        {"name": "a", "cuts": [1.0, 1.00000001]},
    ],
)  # fmt: skip
def test_what_is_none_is_refused(first: Any) -> None:
    document = {"format_version": 1, "features": [first, {"name": "b", "levels": 3}]}
    with pytest.raises(ModelError, match=r"cuts\.json: damaged"):
        parse(json.dumps(document).encode(), FEATURES)


@pytest.mark.parametrize("levels", [-1, 255, 2.0, True, None, "3"])
def test_levels_that_are_none_are_refused(levels: Any) -> None:
    document = {"format_version": 1, "features": [{"name": "a", "cuts": []}, {"name": "b", "levels": levels}]}
    with pytest.raises(ModelError, match=r"cuts\.json: damaged"):
        parse(json.dumps(document).encode(), FEATURES)


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"{}", b"\xff", b"[" * 100_000, b'{"format_version": 1}'])
def test_what_is_no_document_is_refused(content: bytes) -> None:
    with pytest.raises(ModelError, match=r"cuts\.json: damaged"):
        parse(content, FEATURES)


def test_a_newer_format_is_refused_with_both_numbers() -> None:
    with pytest.raises(ModelError, match="format version 2, this program reads 1: install a newer release"):
        parse(b'{"format_version": 2, "features": []}', ())
