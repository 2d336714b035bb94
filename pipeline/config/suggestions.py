"""Suggests words for an unknown word of a fixed vocabulary: a setting, parameter, metric or function.

Column names, whose spellings vary more, have their own suggestions (`pipeline.config.names`).
"""

import difflib
from collections.abc import Iterable

ALIKE = 0.5  # of difflib's ratio: below, it is another word


def closest(word: str, known: Iterable[str], alike: float = ALIKE) -> str | None:
    """The most similar of the known words; None where none is similar."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=alike)), None)


def suggestion(word: str, known: Iterable[str]) -> str:
    """The hint for the message about an unknown word: the most similar known word, or all in order.

    >>> suggestion("max_dept", ["max_depth", "eta"]), suggestion("zzz", ["max_depth", "eta"])
    ('; did you mean max_depth?', '; known: max_depth, eta')
    """
    known = list(known)
    near = closest(word, known)
    return f"; did you mean {near}?" if near else f"; known: {', '.join(known)}"
