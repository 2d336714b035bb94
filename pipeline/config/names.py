"""Matches column names with patterns, and suggests names for one that does not exist."""

import difflib
import fnmatch
import re
from collections.abc import Iterable

MOST_NEAR = 3  # suggestions
SEPARATORS = ";\t|,"  # of CSV files
MOST_SHOWN = 20  # names listed if none is similar
_ALIKE = 0.6  # of difflib's ratio: below, it is another name
_AS_GOOD = 0.15  # of the ratio: names that much less similar than the best are left out
_FUZZY = 20_000  # names; among more, only spellings that differ in case or signs are suggested: the rest takes seconds


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern of the job matches this column: its name, or a pattern in which * and ? replace characters.

    An exact name takes precedence over a pattern: brackets may be part of a name, as in flattened JSON.

    >>> matches("tags[0]", "tags[0]"), matches("tags[*]", "tags[17]"), matches("dep_*", "arr_delay")
    (True, True, False)
    """
    return name == pattern or fnmatch.fnmatchcase(name, pattern) or wildcard(pattern).fullmatch(name) is not None


def wildcard(pattern: str) -> re.Pattern[str]:
    """A regular expression for a pattern in which only * and ? are special."""
    return re.compile("".join({"*": ".*", "?": "."}.get(sign, re.escape(sign)) for sign in pattern), re.DOTALL)


def same_name(name: str) -> str:
    """A key that is equal for spellings that differ only in case, blanks, hyphens and underscores."""
    return re.sub(r"[\W_]+", "", name).casefold() or name


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """Up to three of the names, the most similar first; none that is not similar."""
    known = list(dict.fromkeys(names))
    bare = same_name(name)
    same = [other for other in known if same_name(other) == bare]
    if same or len(known) > _FUZZY:
        return same[:MOST_NEAR]
    by_bare: dict[str, str] = {}
    for other in known:
        by_bare.setdefault(same_name(other), other)
    found = difflib.get_close_matches(bare, by_bare, n=MOST_NEAR, cutoff=_ALIKE)
    ratios = [difflib.SequenceMatcher(None, near, bare).ratio() for near in found]
    return [by_bare[near] for near, ratio in zip(found, ratios, strict=True) if ratio > ratios[0] - _AS_GOOD]


def hint(name: str, names: Iterable[str]) -> str:
    """The hint for the message about an unknown name: the nearest of `names`, the candidates, or all names.

    >>> hint("Arr delay", ["dep_delay", "arr_delay"]), hint("delay", ["dep_delay", "arr_delay"]), hint("zzz", ["hour", "day"])
    ('; did you mean arr_delay?', '; did you mean dep_delay or arr_delay?', '; there are hour, day')
    """
    known = list(dict.fromkeys(names))
    if near := nearest(name, known):
        return f"; did you mean {listed(near, 'or')}?"
    if not known:
        return ""
    more = f" and {len(known) - MOST_SHOWN:,} more" if len(known) > MOST_SHOWN else ""
    return f"; there are {', '.join(known[:MOST_SHOWN])}{more}"


def listed(names: Iterable[str], word: str = "and") -> str:
    """The names as an enumeration.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else last


def separator_hint(names: Iterable[str]) -> str:
    """The hint where a column is missing and the only column holds a separator: the CSV file uses another one.

    >>> separator_hint(["x;z;y"])
    "; the only column is 'x;z;y': is data.csv.separator = ';' meant?"
    >>> separator_hint(["x"]), separator_hint(["x;y", "z"])
    ('', '')
    """
    known = list(names)
    found = next((mark for mark in SEPARATORS if len(known) == 1 and mark in known[0]), None)
    return "" if found is None else f"; the only column is {known[0]!r}: is data.csv.separator = {found!r} meant?"
