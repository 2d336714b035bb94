"""Tracks how far each stage of a run is, which one is current, and which work is repeated after a loss.

A completed pass does not restart: only the fragments of a lost worker are repeated, which is counted separately
(`Again`), so that both are shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.events.types import Event
from pipeline.monitoring.state.bounds import STAGES, short

PASSES = ("survey", "statistics", "blocks", "matrix", "rounds", "evaluate", "predict", "generate")  # in their order
TRAINING = ("survey", "statistics", "blocks", "matrix", "rounds", "evaluate")  # each follows the one before it
TELLING = ("statistics", "blocks", "matrix")  # stages whose end has its own event, after the last fragment
AGAIN = "blocks"  # the stage where a training continues that has lost a part of its matrix


class Again(NamedTuple):
    """Work repeated after a stage had ended: the latest repetition, not their sum."""

    done: int
    total: int  # fragments; 0: no count
    seconds: float  # so far, or in total
    ended: bool


class Stage(NamedTuple):
    """Progress of a stage: fragments, or rounds."""

    done: int
    total: int  # 0: no count
    seconds: float  # so far, or in total
    ended: bool
    again: Again | None = None


class Turns(NamedTuple):
    """The events of a run that its stages depend on; times are seconds since the epoch, 0: never."""

    now: float  # time of the last event
    running: bool
    lost: float  # time when a worker was lost, or waited for
    restarted: float
    round: int
    rounds: int  # 0: unknown
    rounds_ended: bool


class Stages:
    """The known stages."""

    def __init__(self) -> None:
        self._known: dict[str, _Course] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def heard(self, name: str, event: Event) -> "_Course":
        """Records an event of this stage."""
        name, course = short(name), _Course(event.time, event.time)
        if name in self._known or len(self._known) < STAGES:  # else dropped: there are not so many stages
            course = self._known.setdefault(name, course)
        course.began, course.last = min(course.began, event.time), max(course.last, event.time)
        return course

    def counted(self, name: str, event: Event, done: int, total: int) -> None:
        """Records that `done` of its fragments are done."""
        course = self.heard(name, event)
        course.whole = max(course.whole, total)
        if event.time >= course.counted:
            course.counted, course.done, course.total = event.time, done, total

    def ended(self, name: str, event: Event, seconds: float) -> None:
        """Records the end of the stage, the first or a repeated one."""
        course = self.heard(name, event)
        course.began = min(course.began, event.time - seconds)
        end = (event.time, seconds)
        course.first_end = min(course.first_end or end, end)
        course.last_end = max(course.last_end or end, end)

    def complete(self, name: str) -> float | None:
        """Time at which the last fragment was done; None: some are left."""
        course = self._known.get(name)
        return course.last if course is not None and 0 < course.total == course.done else None

    def youngest(self) -> float:
        """Time of the youngest event of any stage."""
        return max((course.last for course in self._known.values()), default=0.0)

    def interrupted(self, turns: Turns) -> bool:
        """Whether a worker was lost and the run has not continued since."""
        return turns.running and turns.lost > max(turns.restarted, self.youngest())

    def seen(self, turns: Turns) -> dict[str, Stage]:
        """All stages, in order."""
        known = [name for name in PASSES if name in self._known]
        names = known + [name for name in self._known if name not in PASSES]
        return {name: self._seen(name, names[i + 1 :], turns) for i, name in enumerate(names)}

    def going(self, turns: Turns) -> str:
        """The current stage; "" where there is none, or it is unknown."""
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
        """Sort key by order; a count may arrive after events of the next stage, because counts are delayed."""
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
    """The events of one stage, which may come in any order."""

    began: float
    last: float
    counted: float = 0.0  # time of its last fragment count
    done: int = 0
    total: int = 0
    whole: int = 0  # the largest number of fragments
    first_end: tuple[float, float] | None = None  # (time, duration in seconds)
    last_end: tuple[float, float] | None = None

    def again(self, turns: Turns, ended: float, *, passed: bool) -> Again | None:
        """Work done since the last restart, if the stage had `ended` before; `passed`: later stages had events since."""
        if not self.last > turns.restarted > ended:
            return None
        done, total = (self.done, self.total) if self.counted > turns.restarted else (0, 0)
        if self.last_end is not None and self.last_end[0] > turns.restarted:
            return Again(total, total, self.last_end[1], ended=True)
        end = self.last if passed or not turns.running else max(self.last, turns.now)
        return Again(done, total, end - turns.restarted, ended=passed)
