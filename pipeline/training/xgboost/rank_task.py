"""Defines the Dask task of one rank: boosts on its worker, and sends what it reports to the scheduler."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from distributed import get_worker
from distributed.core import Status

from pipeline.cluster.devices import gpu_now
from pipeline.cluster.memory import rss_nbytes
from pipeline.efficiency.round_meter import ResourceUse
from pipeline.events.topics import RUN_EVENTS, WORKER_EVENTS
from pipeline.events.types import RoundDone, WorkerRounds, encode
from pipeline.runtime.task_errors import task
from pipeline.runtime.worker_session import session_of
from pipeline.training import handover
from pipeline.training.handover import Handover
from pipeline.training.state import State
from pipeline.training.trainer import RoundsResult
from pipeline.training.xgboost.abandoned import Pulse, freed_when
from pipeline.training.xgboost.matrix import Partition
from pipeline.training.xgboost.rank_exit import training_thread
from pipeline.training.xgboost.rounds import RoundHooks, train_rounds
from pipeline.training.xgboost.spec import RoundsSpec

STAYING = (Status.running, Status.paused)  # status of a worker that is not about to leave


@task
def train_task(
    partition: Partition,
    spec: RoundsSpec,
    rank_args: Mapping[str, Any] | None,
    start: State | None,
    name: str,
    published: bool,
) -> RoundsResult:
    """Trains on a worker; `name`: that worker's; `published`: of `TrainingCallbacks`."""
    worker = get_worker()
    key, session = worker.get_current_task(), session_of(worker)
    topics = [WORKER_EVENTS, RUN_EVENTS] if published else [WORKER_EVENTS]  # one message, whatever the number

    def cancelled() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state not in ("executing", "long-running")

    def leaving() -> bool:
        pulse.beat()  # once in each vote
        return worker.status not in STAYING

    def report(event: RoundDone) -> None:
        worker.log_event(topics, {"run": spec.run, "event": encode(event)})

    def account(first: int, last: int, spent: ResourceUse) -> None:
        now = {**asdict(spent), "memory_nbytes": rss_nbytes(os.getpid()), **(gpu_now() if spec.device != "cpu" else {})}
        event = WorkerRounds(worker=name, first=first, round=last, **now)
        worker.log_event(WORKER_EVENTS, {"run": spec.run, "event": encode(event)})

    def keep(state: State) -> None:
        handover.put(session, spec.run, Handover(state))
        worker.log_event(WORKER_EVENTS, {"run": spec.run, "checkpoint": state.round})

    def hand_over(state: State, leaving: tuple[int, ...]) -> None:
        handover.put(session, spec.run, Handover(state, leaving))

    pulse = Pulse()
    with (
        partition.lock,  # an earlier attempt may not have ended yet
        training_thread(session, spec.run) as thread,
        freed_when(cancelled, pulse, thread.cpu_seconds, session),
    ):
        handover.drop(session, spec.run)
        hooks = RoundHooks(cancelled, leaving, report, account, keep, hand_over)
        return train_rounds(partition, spec, rank_args, start=start, hooks=hooks)
