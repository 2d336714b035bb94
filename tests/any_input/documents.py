"""Documents that are almost right: valid ones with a part replaced, removed or added, and damaged bytes."""

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

Path = tuple[str | int, ...]

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.sampled_from([2**31, 2**53 + 1, -(2**63), 10**30, 0.5, -0.0, 1e308, float("inf"), float("nan")]),
    st.sampled_from(
        ["", "auto", "a\nb", "../x", "/etc/passwd", "c.\x00", "double", "timestamp[us", "mean", "🤖", "x" * 500]
    ),
    st.text(max_size=4),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """The paths to all that is in a document, itself last."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from places(inner, (*path, place))
    yield path


@st.composite
def mutated(draw: st.DrawFn, document: Any) -> Any:
    """The document with one to three changes."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        paths = [path for path in places(document) if path]
        if not paths:
            return document
        *way, last = draw(st.sampled_from(paths))
        holder = document
        for part in way:
            holder = holder[part]
        change = draw(st.sampled_from(["replace", "replace", "remove", "add", "swap"]))
        if change == "replace":
            holder[last] = draw(JSON)
        elif change == "remove":
            del holder[last]
        elif change == "add" and isinstance(holder, dict):
            holder[draw(st.text(min_size=1, max_size=6))] = draw(JSON)
        elif change == "add":
            holder.insert(draw(st.integers(0, len(holder))), draw(JSON))
        else:
            holder[last] = copy.deepcopy(_at(document, draw(st.sampled_from(paths)), holder[last]))
    return document


def _at(document: Any, path: Path, default: Any) -> Any:
    """The value at a path; the default where an earlier change has removed it."""
    for part in path:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            return default
    return document


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The bytes with some changed, cut out, doubled or added."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 40))
        change = draw(st.sampled_from(["set", "cut", "double", "insert", "end"]))
        if change == "set" and place < len(data):
            data[place] = draw(st.integers(0, 255))
        elif change == "cut":
            del data[place : place + length]
        elif change == "double":
            data[place:place] = data[place : place + length]
        elif change == "insert":
            data[place:place] = draw(st.binary(max_size=8))
        elif change == "end":
            del data[place:]
    return bytes(data)


def toml(table: dict[str, Any]) -> str:
    """A job's tables as TOML, all of it inline."""
    return "".join(f"{_text(key)} = {_value(value)}\n" for key, value in table.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(key)} = {_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return _text(value) if isinstance(value, str) else '"none"' if value is None else repr(value)


def _text(text: str) -> str:
    signs = (sign if sign.isprintable() and sign not in '"\\' else f"\\U{ord(sign):08X}" for sign in text)
    return f'"{"".join(signs)}"'
