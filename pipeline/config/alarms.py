"""Parses the condition of an alarm once and checks it against the quantities that a run reports.

    QUANTITY < NUMBER [for TIME]        also <=, > and >=
    METRIC drops NUMBER [for TIME]      below its best value so far: metrics of which more is better
    METRIC rises NUMBER [for TIME]      above its best value so far: metrics of which less is better
    no_progress for TIME

TIME is a number with s, m or h.  With `for`, every value reported during that time has to fulfil the condition.

| quantity           | what it is                                                                         | reported    |
|--------------------|------------------------------------------------------------------------------------|-------------|
| pe, lb             | parallel efficiency and load balance of the last rounds, 0 to 1                    | every 4 s, rarer with over 400 workers |
| e, j               | E and J of the last rounds (pipeline.efficiency.definitions)                       | as pe       |
| memory             | of the worker that is nearest to its limit: resident bytes over the limit          | as pe       |
| no_progress        | seconds since a fragment, pass, matrix, round, checkpoint or evaluation ended      | each second |
| restarts           | how often training began again after a failure                                     | then        |
| rows_per_second    | rows boosted                                                                       | rounds 1, 2, 5, 10, 20, 50... and every 2 s |
| train.METRIC, validation.METRIC | a metric of the rounds, one of training.metrics                       | as rows_per_second; of training rows in rounds 1, 2, 5, 10, 20, 50... |
"""

import math
import re
from dataclasses import dataclass
from typing import Literal

from pipeline.config.metric_registry import OF_ROUNDS, rising
from pipeline.config.suggestions import closest

Test = Literal["<", "<=", ">", ">=", "drops", "rises"]

LONGEST = 100  # characters
LONGEST_SECONDS = 30 * 86_400.0
SHARES = frozenset(("pe", "lb", "memory"))  # 0 to 1
LIVE = ("pe", "e", "j", "lb")
NO_PROGRESS = "no_progress"
PLAIN = (*LIVE, "memory", NO_PROGRESS, "restarts", "rows_per_second")
DURATIONS = frozenset((NO_PROGRESS,))  # in seconds
OCCASIONAL = frozenset((NO_PROGRESS, "restarts"))  # a run without a value of these was watched all the same
SETS = ("validation", "train")

_COMPARISONS: dict[str, Test] = {"<": "<", "<=": "<=", ">": ">", ">=": ">="}
_CHANGES: dict[str, Test] = {"drops": "drops", "rises": "rises"}
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_TOKEN = re.compile(
    r"\s*([A-Za-z_][A-Za-z_0-9.@-]*|[+-]?(?:[0-9][0-9_]*\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[<>=!]+|\S)"
)
_NEAR = 0.6  # similarity above which a name may be a misspelling of the other


class ExpressionError(ValueError):
    """An invalid expression; names the character, counted from 1, and what is expected there."""


@dataclass(frozen=True)
class Condition:
    """The condition of an alarm."""

    text: str  # as written, with single spaces
    quantity: str
    test: Test
    threshold: float  # for drops and rises: the distance from the best value
    seconds: float = 0.0  # duration for which it has to hold; 0: one value is enough

    def holds(self, value: float, best: float) -> bool:
        """Whether a value fulfils it; `best`: the best value so far, used by drops and rises only."""
        match self.test:
            case "<":
                return value < self.threshold
            case "<=":
                return value <= self.threshold
            case ">":
                return value > self.threshold
            case ">=":
                return value >= self.threshold
            case "drops":
                return best - value >= self.threshold * (1 - 1e-9)  # 0.3 - 0.28 is a little less than 0.02
            case "rises":
                return value - best >= self.threshold * (1 - 1e-9)


def parse(text: str) -> Condition:
    """The condition of an expression; ExpressionError where it is invalid.

    >>> parse("pe < 0.6 for 60s")
    Condition(text='pe < 0.6 for 60s', quantity='pe', test='<', threshold=0.6, seconds=60.0)
    >>> parse("no_progress for 2m").threshold
    120.0
    >>> parse("mem > 0.9")
    Traceback (most recent call last):
    pipeline.config.alarms.ExpressionError: at character 1: unknown quantity mem; did you mean memory?
    """
    if len(text) > LONGEST:
        raise ExpressionError(f"at character {LONGEST + 1}: an expression has at most {LONGEST} characters")
    reader = _Reader(text)
    written, quantity = " ".join(text.split()), _quantity(reader)
    if quantity == NO_PROGRESS:
        reader.word("for", f"for and a time, e.g. {NO_PROGRESS} for 120s")
        condition = Condition(written, quantity, ">=", _time(reader))
    else:
        test = _test(reader, quantity)
        threshold = _threshold(reader, quantity, test)
        condition = Condition(written, quantity, test, threshold, _window(reader))
    reader.end()
    return condition


class _Reader:
    """Reads the words of an expression in order."""

    def __init__(self, text: str) -> None:
        self._words = [(match[1], match.start(1)) for match in _TOKEN.finditer(text)]
        self._length = len(text.rstrip())
        self._next = 0

    @property
    def ahead(self) -> str:
        """The next word; empty at the end."""
        return self._words[self._next][0] if self._next < len(self._words) else ""

    def take(self) -> str:
        word = self.ahead
        self._next += 1
        return word

    def word(self, wanted: str, said: str) -> None:
        if self.ahead != wanted:
            raise self.expected(said)
        self.take()

    def number(self, said: str) -> float:
        """The next word as a number; it is not consumed, so that an error can point to it."""
        try:
            number = float(self.ahead)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise self.expected(said)
        return number

    def end(self) -> None:
        if self.ahead:
            raise self.expected("for and a time, e.g. for 60s, or the end", "; write two conditions as two alarms")

    def error(self, wrong: str) -> ExpressionError:
        """The error for the next word."""
        start = self._words[self._next][1] if self.ahead else self._length
        return ExpressionError(f"at character {start + 1}: {wrong}")

    def expected(self, wanted: str, hint: str = "") -> ExpressionError:
        """The error where the next word is not the expected one."""
        return self.error(f"expected {wanted}{f', not {self.ahead}' if self.ahead else ''}{hint}")


def _quantity(reader: _Reader) -> str:
    if not reader.ahead:
        raise reader.expected("a quantity and a condition, e.g. pe < 0.6 for 60s")
    name = reader.ahead.lower()
    of, dot, metric = name.partition(".")
    known = of in SETS and dot and metric.partition("@")[0] in OF_ROUNDS
    if not known and name not in PLAIN:
        raise reader.error(f"unknown quantity {reader.ahead}{_meant(name)}")
    reader.take()
    return name


def _meant(name: str) -> str:
    """The likely meant names for an unknown name; else all known names."""
    of, _, metric = name.partition(".")
    if name in OF_ROUNDS:
        return f"; did you mean validation.{name}?"
    if of in SETS:
        near = closest(metric, OF_ROUNDS, _NEAR)
        return f"; did you mean {of}.{near}?" if near else f"; known metrics: {', '.join(sorted(OF_ROUNDS))}"
    names = [*PLAIN, *(f"{of}.{metric}" for of in SETS for metric in sorted(OF_ROUNDS))]
    begun = [known for known in PLAIN if len(name) > 2 and known.startswith(name)]
    if near := begun[0] if begun else closest(name, names, _NEAR):
        return f"; did you mean {near}?"
    return f"; known: {', '.join(PLAIN)}, and metrics of the rounds, e.g. train.logloss or validation.auc"


def _test(reader: _Reader, quantity: str) -> Test:
    _, dot, metric = quantity.partition(".")
    change = "drops" if rising(metric) else "rises"
    expected = f"<, <=, >, >= or {change}" if dot else "<, <=, > or >="
    if reader.ahead in _COMPARISONS:
        return _COMPARISONS[reader.take()]
    if reader.ahead not in _CHANGES:
        near = dot and closest(reader.ahead, _CHANGES, _NEAR)
        raise reader.expected(change if near else expected)
    if not dot:
        raise reader.expected(expected, "; drops and rises are for metrics, e.g. validation.auc")
    if reader.ahead != change:
        raise reader.error(f"{'more' if rising(metric) else 'less'} {metric} is better; did you mean {change}?")
    return _CHANGES[reader.take()]


def _threshold(reader: _Reader, quantity: str, test: Test) -> float:
    number = reader.number("a number")
    if test in _CHANGES and number <= 0:
        raise reader.expected(f"a number above 0 after {test}")
    if quantity in SHARES and not 0 <= number <= 1:
        meant = f"; did you mean {number / 100:g}?" if 1 < number <= 100 else ""
        raise reader.error(f"{quantity} is a share, 0 to 1{meant}")
    reader.take()
    return number


def _window(reader: _Reader) -> float:
    if reader.ahead != "for":
        return 0.0
    reader.take()
    return _time(reader)


def _time(reader: _Reader) -> float:
    wanted = "a time with its unit, e.g. 60s, 5m or 2h"
    number = reader.number(wanted)
    if not 0 < number <= LONGEST_SECONDS:
        raise reader.expected("a time above 0 and of at most 30 days")
    reader.take()
    if reader.ahead not in _UNITS:
        raise reader.expected(wanted)
    seconds = number * _UNITS[reader.ahead]
    if seconds > LONGEST_SECONDS:
        raise reader.expected("at most 30 days")
    reader.take()
    return seconds
