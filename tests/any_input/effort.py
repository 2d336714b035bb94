"""How much is tried, and what may come out: a result, or one line for the user; in bounded time."""

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, settings

from pipeline.errors import UserError

TIMES = int(
    os.environ.get("ANY_INPUT_TIMES", "0")
)  # so many times as many examples, at random; 0: CI's, always the same
SEED = os.environ.get("ANY_INPUT_SEED")  # with TIMES: the seed, to try the same examples again
LONGEST_LINE = 1_200  # characters of a message
SECRET = "ROWDATA"  # part of texts in the tables; no message may hold it


def trying(examples: int, *, shrink: bool = True) -> settings:
    """Hypothesis' settings for so many examples.  Where one is dear, `shrink=False` stops at the first failure."""
    phases = [Phase.explicit, Phase.generate, *([Phase.shrink] if shrink else [])]
    return settings(
        max_examples=examples * max(1, TIMES),
        derandomize=not TIMES,
        database=None,
        deadline=None,
        phases=phases,
        verbosity=Verbosity.normal,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )


class Hung(AssertionError):
    """An example took longer than anything should."""


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Hung after so many seconds, also where the main thread waits for another one."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Hung(f"an example took more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome[T](call: Callable[[], T], seconds: float = 60.0) -> T | UserError:
    """What the call gives, or the error it refuses with; anything else that it raises passes through."""
    try:
        with at_most(seconds):
            return call()
    except UserError as error:
        check_line(error)
        return error


def check_line(error: UserError) -> None:
    """An error of the user: exit code 2, one clear line without row data."""
    text = str(error)
    assert error.exit_code == 2
    assert text.strip() == text != ""
    assert len(text.splitlines()) == 1, text
    assert text.isprintable(), text
    assert len(text) <= LONGEST_LINE, text
    assert SECRET not in text, text


class Tally:
    """Counts outcomes, so that a suite in which everything is refused does not pass for a good one."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()

    def note(self, result: Any) -> None:
        self.found[type(result).__name__ if isinstance(result, UserError) else "good"] += 1

    def check(self, *, good: float, refused: float) -> None:
        """At least these shares of the examples.

        Well below what was seen: Hypothesis also draws constants of the modules that happen to be imported.
        """
        total = self.found.total()
        assert self.found["good"] >= good * total, self.found
        assert total - self.found["good"] >= refused * total, self.found
