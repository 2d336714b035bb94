"""Builds frozen dataclasses from the values of a JSON document, checking every type: files are not trusted."""

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

LARGEST_DEPTH = 100  # of nested values


def from_json[T](kind: type[T], value: Any) -> T:
    """A `kind` (a dataclass, with dataclasses, tuples and mappings inside) from the result of `json.loads`.

    TypeError or ValueError where a field is missing, unknown, or not of its type.  No value is converted, except that
    lists become tuples.
    """
    built: T = _build(kind, value, 0)
    return built


def _build(hint: Any, value: Any, depth: int) -> Any:
    if depth > LARGEST_DEPTH:
        raise ValueError(f"nested deeper than {LARGEST_DEPTH}")
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return _plain(value, depth)
    if origin in (types.UnionType, typing.Union):
        return _member(arguments, value, depth)
    if origin is typing.Literal:
        if value not in arguments:
            raise ValueError("none of the values that are allowed")
        return value
    if origin is tuple:
        if not isinstance(value, list) or (arguments[-1] is not Ellipsis and len(value) != len(arguments)):
            raise TypeError("not a list of the right length")
        hints = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(_build(inner, item, depth + 1) for inner, item in zip(hints, value, strict=True))
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            raise TypeError("not a table")
        return {_build(arguments[0], key, depth): _build(arguments[1], item, depth + 1) for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        return _dataclass(hint, value, depth)
    if hint is float and type(value) is int:
        return value
    if type(value) is not hint or (hint is float and not math.isfinite(value)):
        raise TypeError(f"not {hint.__name__}")
    return value


def _dataclass(kind: Any, value: Any, depth: int) -> Any:
    if not isinstance(value, dict):
        raise TypeError("not a table")
    hints = _hints(kind)
    if not value.keys() <= hints.keys():
        raise TypeError(f"unknown field of a {kind.__name__}")
    return kind(**{name: _build(hints[name], item, depth + 1) for name, item in value.items()})


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _member(hints: tuple[Any, ...], value: Any, depth: int) -> Any:
    """The value as the first matching member of a union; a member of the value's own type goes first (1 is no 1.0)."""
    for hint in sorted(hints, key=lambda hint: type(value) is not hint):
        try:
            return _build(hint, value, depth)
        except (TypeError, ValueError):
            continue
    raise TypeError("of none of the types that are allowed")


def _plain(value: Any, depth: int) -> Any:
    """A value of any type: only its depth is bounded, so that recursion over it is bounded."""
    if isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            _build(Any, item, depth + 1)
    return value
