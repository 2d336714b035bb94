"""Keeps training states on the workers until the client fetches them: checkpoints, and the last state of an attempt.

All ranks have the same trees after a round.  When they end an attempt by agreement, because a worker has announced that
it leaves or the result is no longer wanted, the first rank that stays keeps the state, so that no round is lost.
"""

import functools
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from distributed import Client

from pipeline.runtime.rpc import ask_workers
from pipeline.runtime.worker_session import Content, RunResource, WorkerSession, session_of
from pipeline.training.state import State

ANSWER_SECONDS = 5.0  # for a worker to return its state
MOST_RUNS = 4  # whose states a worker keeps: benchmarks train again and again, and fetch none


@dataclass(frozen=True)
class Handover(RunResource):
    """A state to be transferred from a worker to the client."""

    state: State
    leaving: tuple[int, ...] = ()  # ranks that have announced that they leave, if that ended the attempt

    @property
    def age(self) -> tuple[int, bool]:
        """Orders states: a later one compares greater."""
        return self.state.round, self.state.stopped

    def contents(self) -> tuple[Content, ...]:
        return (Content(f"the state after round {self.state.round}", len(self.state.content)),)


def put(session: WorkerSession, run: str, handover: Handover) -> None:
    """On the worker: keeps the state until it is fetched, the run ends, or a later one comes."""
    with session.lock:
        session.put(run, handover)
        for oldest in list(session.each(Handover))[:-MOST_RUNS]:
            drop(session, oldest)


def drop(session: WorkerSession, run: str) -> None:
    """On the worker: drops the state; it is no longer wanted."""
    session.pop(run, Handover)


def pop_checkpoint(run: str, dask_worker: Any) -> Handover | None:
    """On the worker: returns and removes the state that is kept for the client."""
    return session_of(dask_worker).pop(run, Handover)


def collect(client: Client, workers: Collection[str], run: str) -> Handover | None:
    """Returns the latest state that these workers have of the run; workers that do not answer in time are left out."""
    answers = ask_workers(client, dict.fromkeys(workers, functools.partial(pop_checkpoint, run)), ANSWER_SECONDS)
    found = [answer for answer in answers.values() if isinstance(answer, Handover)]
    return max(found, key=lambda handover: handover.age, default=None)
