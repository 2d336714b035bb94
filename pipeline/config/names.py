"""Names of columns: which of them a pattern means, and what to suggest for one that is not there."""

import difflib
import fnmatch
import re
from collections.abc import Iterable

MOST_NEAR = 3  # suggestions
SEPARATORS = ";\t|,"  # of CSV files
MOST_SHOWN = 20  # names that are listed where none is near
_ALIKE = 0.6  # of difflib's ratio: less is another name
_AS_GOOD = 0.15  # of the ratio: names that much less similar than the best are not meant
_FUZZY = 20_000  # names; of more only those that differ in case or signs are suggested, the others would take seconds


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern of the job means this column: its name, or one in which * and ? stand for other signs.

    A name is a name before it is a pattern: brackets are signs of names too, as in those of flattened JSON.

    >>> matches("tags[0]", "tags[0]"), matches("tags[*]", "tags[17]"), matches("dep_*", "arr_delay")
    (True, True, False)
    """
    return name == pattern or fnmatch.fnmatchcase(name, pattern) or wildcard(pattern).fullmatch(name) is not None


def wildcard(pattern: str) -> re.Pattern[str]:
    """A regular expression for a pattern in which only * and ? are special."""
    return re.compile("".join({"*": ".*", "?": "."}.get(sign, re.escape(sign)) for sign in pattern), re.DOTALL)


def same_name(name: str) -> str:
    """What two spellings of one name have in common: neither case nor blanks, hyphens and underscores tell them apart."""
    return re.sub(r"[\W_]+", "", name).casefold() or name


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """Up to three of the names, the most similar first; none that is not similar at all."""
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
    """What to add to the message of an unknown name: the nearest of `names`, those that could be meant, or what there is.

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
    """The names as one writes them.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else last


def separator_hint(names: Iterable[str]) -> str:
    """What to add where a column is missing and the only one there is holds a separator: a CSV file written with another.

    >>> separator_hint(["x;z;y"])
    "; the only column is 'x;z;y': is data.csv.separator = ';' meant?"
    >>> separator_hint(["x"]), separator_hint(["x;y", "z"])
    ('', '')
    """
    known = list(names)
    found = next((mark for mark in SEPARATORS if len(known) == 1 and mark in known[0]), None)
    return "" if found is None else f"; the only column is {known[0]!r}: is data.csv.separator = {found!r} meant?"
