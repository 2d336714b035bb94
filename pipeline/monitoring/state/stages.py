"""How far each stage of a run has come, which one goes on now, and what is done again after a loss.

A pass that ended is not begun anew: the fragments of a lost worker are gone through once more, which is counted apart
(`Again`), and whoever looks sees both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.events.types import Event
from pipeline.monitoring.state.bounds import STAGES, short

PASSES = ("survey", "statistics", "blocks", "matrix", "rounds", "evaluate", "predict", "generate")  # in their order
TRAINING = ("survey", "statistics", "blocks", "matrix", "rounds", "evaluate")  # each follows the one before it
TELLING = ("statistics", "blocks", "matrix")  # whose end has an event of its own, after the last fragment
AGAIN = "blocks"  # where a training goes on that has lost a part of its matrix


class Again(NamedTuple):
    """What is done once more after a stage had ended: of late, not all times together."""

    done: int
    total: int  # fragments; 0: nothing to count
    seconds: float  # so far, or all of it
    ended: bool


class Stage(NamedTuple):
    """How far a stage has come: fragments, or rounds."""

    done: int
    total: int  # 0: nothing to count
    seconds: float  # so far, or all of it
    ended: bool
    again: Again | None = None


class Turns(NamedTuple):
    """What of a run's own turns its stages depend on; times are seconds since the epoch, 0: never."""

    now: float  # when it was last heard of
    running: bool
    lost: float  # when a worker was lost, or waited for
    restarted: float
    round: int
    rounds: int  # 0: not known
    rounds_ended: bool


class Stages:
    """The stages heard of."""

    def __init__(self) -> None:
        self._known: dict[str, _Course] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def heard(self, name: str, event: Event) -> "_Course":
        """The event belongs to this stage."""
        name, course = short(name), _Course(event.time, event.time)
        if name in self._known or len(self._known) < STAGES:  # else nobody's: there are not so many
            course = self._known.setdefault(name, course)
        course.began, course.last = min(course.began, event.time), max(course.last, event.time)
        return course

    def counted(self, name: str, event: Event, done: int, total: int) -> None:
        """So many of its fragments are done."""
        course = self.heard(name, event)
        course.whole = max(course.whole, total)
        if event.time >= course.counted:
            course.counted, course.done, course.total = event.time, done, total

    def ended(self, name: str, event: Event, seconds: float) -> None:
        """It has ended, for the first time or once more."""
        course = self.heard(name, event)
        course.began = min(course.began, event.time - seconds)
        end = (event.time, seconds)
        course.first_end = min(course.first_end or end, end)
        course.last_end = max(course.last_end or end, end)

    def complete(self, name: str) -> float | None:
        """When the last of its fragments was done; None: some are left."""
        course = self._known.get(name)
        return course.last if course is not None and 0 < course.total == course.done else None

    def youngest(self) -> float:
        """When a stage was last heard of."""
        return max((course.last for course in self._known.values()), default=0.0)

    def interrupted(self, turns: Turns) -> bool:
        """A worker was lost, and nothing has gone on since."""
        return turns.running and turns.lost > max(turns.restarted, self.youngest())

    def seen(self, turns: Turns) -> dict[str, Stage]:
        """All of them, in their order."""
        known = [name for name in PASSES if name in self._known]
        names = known + [name for name in self._known if name not in PASSES]
        return {name: self._seen(name, names[i + 1 :], turns) for i, name in enumerate(names)}

    def going(self, turns: Turns) -> str:
        """The one that goes on now; "" where that is none, or unknown."""
        if not self._known or not turns.running or self.interrupted(turns):
            return ""
        since = [name for name in self._known if self._known[name].last > turns.restarted]
        if not since and "rounds" in self:
            return AGAIN
        name = max(since or self._known, key=self._order)
        stage = self.seen(turns)[name]
        if name == "rounds":
            ended = turns.rounds_ended or 0 < turns.rounds <= turns.round
        else:
            ended = stage.ended if stage.again is None else stage.again.ended
        if not ended:
            return name
        following = TRAINING[TRAINING.index(name) + 1 :] if name in TRAINING else ()
        return following[0] if following else ""

    def _order(self, name: str) -> tuple[int, float]:
        """Of two stages the later one; a count may arrive after what follows it, because counts are held back."""
        return TRAINING.index(name) if name in TRAINING else -1, self._known[name].last

    def _seen(self, name: str, following: Sequence[str], turns: Turns) -> Stage:
        course, later = self._known[name], [self._known[other] for other in following]
        if name == "rounds":
            ended = turns.rounds_ended
            seconds = (course.last if ended or not turns.running else max(course.last, turns.now)) - course.began
            return Stage(turns.round, turns.rounds, seconds, ended)
        if course.first_end is not None:
            passed = any(other.last > turns.restarted for other in later)
            again = course.again(turns, course.first_end[0], passed=passed)
            return Stage(course.whole, course.whole, course.first_end[1], ended=True, again=again)
        ended = bool(later) or (0 < course.total == course.done and name not in TELLING)
        end = course.last if ended or not turns.running else max(course.last, turns.now)
        return Stage(course.done, course.total, end - course.began, ended)


@dataclass
class _Course:
    """What was heard of one stage; of events that come in any order."""

    began: float
    last: float
    counted: float = 0.0  # when its fragments were last counted, as
    done: int = 0
    total: int = 0
    whole: int = 0  # the most that were ever to be gone through
    first_end: tuple[float, float] | None = None  # (time, seconds that it took)
    last_end: tuple[float, float] | None = None

    def again(self, turns: Turns, ended: float, *, passed: bool) -> Again | None:
        """What was done since the last restart, where it had `ended` before; `passed`: what follows was heard of since."""
        if not self.last > turns.restarted > ended:
            return None
        done, total = (self.done, self.total) if self.counted > turns.restarted else (0, 0)
        if self.last_end is not None and self.last_end[0] > turns.restarted:
            return Again(total, total, self.last_end[1], ended=True)
        end = self.last if passed or not turns.running else max(self.last, turns.now)
        return Again(done, total, end - turns.restarted, ended=passed)
