"""States of a training that wait on its workers until the client fetches them: checkpoints, and the last one of an attempt.

All ranks have the same trees after a round.  Where they end an attempt by agreement, because a worker has announced that
it leaves or nobody wants the result any more, the first rank that stays keeps the state, so that no round is lost.
"""

import functools
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

from distributed import Client

from pipeline.runtime.rpc import ask_workers
from pipeline.training.checkpoint import State

ANSWER_SECONDS = 5.0  # for a worker to hand its state over
MOST_RUNS = 4  # whose states wait on a worker: benchmarks train again and again, and fetch none


@dataclass(frozen=True)
class Handover:
    """A state on its way from a worker to the client."""

    state: State
    leaving: tuple[int, ...] = ()  # ranks that have announced that they leave, where that ended the attempt

    @property
    def age(self) -> tuple[int, bool]:
        """Later states compare greater."""
        return self.state.round, self.state.stopped


_waiting: dict[str, Handover] = {}  # on a worker, by run: the latest
_ended: deque[str] = deque(maxlen=64)  # runs that are over, though their ranks may still be about to end


def put(run: str, handover: Handover) -> None:
    """On the worker: keeps the state until it is fetched, the run ends, or later ones come."""
    _waiting.pop(run, None)
    if run in _ended:
        return
    _waiting[run] = handover
    for oldest in list(_waiting)[:-MOST_RUNS]:
        _waiting.pop(oldest, None)


def take(run: str) -> Handover | None:
    """On the worker: what waits there for the client."""
    return _waiting.pop(run, None)


def drop(run: str) -> None:
    """On the worker: nobody wants it any more."""
    _waiting.pop(run, None)


def end(run: str) -> None:
    """On the worker: the run is over; what its ranks still put here is dropped."""
    _ended.append(run)
    _waiting.pop(run, None)


def waiting_runs() -> list[str]:
    """On the worker: the runs whose states wait there."""
    return list(_waiting)


def collect(client: Client, workers: Collection[str], run: str) -> Handover | None:
    """The latest state that these workers have of the run; those that do not answer in time are left out."""
    answers = ask_workers(client, dict.fromkeys(workers, functools.partial(take, run)), ANSWER_SECONDS)
    found = [answer for answer in answers.values() if isinstance(answer, Handover)]
    return max(found, key=lambda handover: handover.age, default=None)
