"""Checks the fields of an event from another process against its kind: types, ranges, lengths.

Any client of a scheduler can log anything there under the topics of our events.  A single event with a text for a
round, a time that is no number or a name of megabytes would otherwise break the pages and metrics of all runs.
"""

import dataclasses
import functools
import math
import numbers
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

LONGEST_NAME = 1_000  # characters: of workers, stages, paths, ids
LONGEST_METRIC = 200  # of a metric, or of a field of a job
LONGEST_MESSAGE = 10_000  # longer ones are truncated: a note may name thousands of columns
MOST_ENTRIES = 1_000  # metrics, or fields of a job
MOST_WORKERS = 100_000
LARGEST = 2**63 - 1
LATEST = 1e11  # seconds since the epoch
MESSAGES = frozenset({"message", "reason", "note"})

Check = Callable[[str, Any], Any]  # (name of the field, its value) -> the accepted value; ValueError for an invalid one


def checked(kind: type, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields, with long messages truncated; ValueError names the first that is invalid, without its value, or
    that this kind does not have.
    """
    checks = _checks(kind)
    if unknown := [str(name)[:LONGEST_METRIC] for name in fields if name not in checks]:
        raise ValueError(f"not the fields of {kind.__name__}: {', '.join(unknown[:5])}")
    return {name: checks[name](f"{kind.__name__}.{name}", value) for name, value in fields.items()}


@functools.cache
def _checks(kind: type) -> dict[str, Check]:
    hints = typing.get_type_hints(kind)
    return {field.name: _check_of(field.name, hints[field.name]) for field in dataclasses.fields(kind)}


def _check_of(name: str, hint: Any) -> Check:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is int:
        return _whole
    if hint is float:
        return _time if name == "time" else _finite
    if hint is bool:
        return _truth
    if hint is str:
        return _message if name in MESSAGES else _name
    if origin in (types.UnionType, typing.Union) and type(None) in arguments and len(arguments) == 2:
        inner = _check_of(name, next(one for one in arguments if one is not type(None)))
        return lambda where, value: None if value is None else inner(where, value)
    if origin is Mapping and arguments[0] is str:
        return functools.partial(_entries, _number if arguments[1] is float else _check_of("message", arguments[1]))
    if origin is tuple and len(arguments) == 2 and arguments[1] is ...:
        of = arguments[0]
        item = functools.partial(_record, of) if dataclasses.is_dataclass(of) else _check_of(name, of)
        return functools.partial(_items, item)
    raise TypeError(f"{name}: no check for {hint}")  # of a new event: its test reports this


def _whole(where: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not 0 <= int(value) <= LARGEST:
        raise ValueError(f"{where} is not a whole number from 0 on")
    return value


def _number(where: str, value: Any) -> Any:
    """The number; metrics may be NaN: not measured."""
    try:
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise ValueError
        float(value)
    except (ValueError, OverflowError):  # integers of 400 digits
        raise ValueError(f"{where} is not a number") from None
    return value


def _finite(where: str, value: Any) -> Any:
    if not math.isfinite(_number(where, value)):
        raise ValueError(f"{where} is not a finite number")
    return value


def _time(where: str, value: Any) -> Any:
    if not 0 <= _finite(where, value) <= LATEST:
        raise ValueError(f"{where} is not a time in seconds since the epoch")
    return value


def _truth(where: str, value: Any) -> Any:
    if not isinstance(value, bool):
        raise ValueError(f"{where} is neither true nor false")
    return value


def _text(longest: int, where: str, value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError(f"{where} is not a text")
    if len(value) > longest:
        raise ValueError(f"{where} has {len(value):,} characters, at most {longest:,} are taken")
    return value


_name: Check = functools.partial(_text, LONGEST_NAME)


def _message(where: str, value: Any) -> Any:
    return _text(LARGEST, where, value)[:LONGEST_MESSAGE]


def _entries(check: Check, where: str, value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is not a mapping")
    if len(value) > MOST_ENTRIES:
        raise ValueError(f"{where} has {len(value):,} entries, at most {MOST_ENTRIES:,} are taken")
    return {
        _text(LONGEST_METRIC, f"a key of {where}", name): check(f"{where}.{name}", inner)
        for name, inner in value.items()
    }


def _items(check: Check, where: str, value: Any) -> Any:
    if not isinstance(value, (list, tuple)) or len(value) > MOST_WORKERS:
        raise ValueError(f"{where} is not a list of at most {MOST_WORKERS:,}")
    return tuple(check(where, inner) for inner in value)


def _record(kind: Any, where: str, value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is not a {kind.__name__}")
    return kind(**checked(kind, value))
