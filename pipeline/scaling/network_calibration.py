"""Calibrates communication: XGBoost's allreduce in a real communicator, Dask's tasks and transfers."""

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.optimize
from distributed import Client, wait
from xgboost import collective

from pipeline.efficiency.machine import Ring, Table
from pipeline.efficiency.round_meter import timed, undisturbed
from pipeline.runtime.membership import WorkerMembership
from pipeline.runtime.placement import WorkerInfo
from pipeline.training.xgboost.communicator import communicator, start_tracker, stop_tracker, worker_locks

SIZES = (
    2,
    32,
    512,
    *(1 << power for power in range(12, 23)),
)  # doubles: 16 B to 32 MiB, closely spaced where caches end
PASSES = 4
REPETITIONS, SIZE_SECONDS = 5, 0.1  # of one size in one pass
SLOW_SECONDS, SLOWEST_SECONDS = 0.1, 0.5  # of one allreduce: no more passes, nothing larger
TASKS, SENT_NBYTES = 200, 16 << 20
TIMEOUT_SECONDS = 120


def collectives(client: Client, workers: Sequence[WorkerInfo]) -> Table:
    """(payload bytes, seconds) of an allreduce among these workers, as measured by the rank that arrived last."""
    addresses, run = [worker.address for worker in workers], f"calibration-{uuid.uuid4().hex[:12]}"
    with WorkerMembership(client) as membership, worker_locks(membership, addresses, run):
        arguments = start_tracker(membership, addresses, run, TIMEOUT_SECONDS)
        orderly = False
        try:
            tasks = [
                client.submit(_time_collectives, args, workers=[address], allow_other_workers=False, pure=False)
                for args, address in zip(arguments, addresses, strict=True)
            ]
            tables: list[list[tuple[int, float]]] = membership.results(tasks, addresses)
            orderly = True
        finally:
            stop_tracker(membership, addresses, run, leave=orderly)
    sizes, seconds = zip(*tables[0], strict=True)  # all ranks have the same
    return tuple(zip(sizes, np.maximum.accumulate(seconds).tolist(), strict=True))


def _time_collectives(arguments: Mapping[str, Any]) -> list[tuple[int, float]]:
    """One rank's table; ranks agree on the repetitions by the slowest of them.

    On loopback one size takes one of two times, by a factor of up to two, for a second or so: hence several passes.
    """

    def most(value: float) -> float:
        return float(collective.allreduce(np.array([value]), collective.Op.MAX)[0])

    found: dict[int, list[np.ndarray]] = {}
    slow = False
    with communicator(arguments):
        for _ in range(PASSES):
            for elements in SIZES:
                first = most(float(timed(_sum, elements, 1, _no_queue)[0, 0]))
                repetitions = max(2, min(REPETITIONS, int(SIZE_SECONDS / max(first, 1e-6))))
                last = -collective.allreduce(-timed(_sum, elements, repetitions, _no_queue)[:, 0], collective.Op.MAX)
                found.setdefault(elements, []).append(last[undisturbed(last)])
                slow = slow or first > SLOW_SECONDS
                if first > SLOWEST_SECONDS:
                    break
            if slow:  # a link this slow dominates the time, which is the same on every pass
                break
    return [(elements * 8, float(np.mean([part.mean() for part in parts]))) for elements, parts in found.items()]


def _no_queue() -> float:
    return 0.0


def _sum(values: np.ndarray) -> np.ndarray:
    return np.asarray(collective.allreduce(values, collective.Op.SUM))


def ring_of(tables: Mapping[int, Table]) -> Ring:
    """Latency and bandwidth from all tables: least squares of relative errors; zeros without a table."""
    rows, ones = [], []
    for workers, table in tables.items():
        for nbytes, seconds in table:
            rows.append([(2 * workers - 1) / seconds, (2 * workers - 1) / workers * nbytes / seconds])
            ones.append(1.0)
    if not rows:
        return Ring(0.0, 0.0)
    (alpha, beta), _ = scipy.optimize.nnls(np.array(rows), np.array(ones))
    return Ring(float(alpha), float(beta))


def dask_costs(client: Client, workers: Sequence[WorkerInfo]) -> tuple[float, float]:
    """Seconds of an empty task when many are submitted at once; bytes a second from one worker to another."""
    addresses = [worker.address for worker in workers]
    start = time.perf_counter()
    client.gather(client.map(_nothing, range(TASKS), workers=addresses, pure=False))
    task_seconds = (time.perf_counter() - start) / TASKS
    if len(addresses) == 1:
        return task_seconds, 0.0
    block = client.submit(np.ones, SENT_NBYTES // 8, workers=[addresses[0]], pure=False)
    wait(block)
    start = time.perf_counter()
    wait(client.submit(len, block, workers=[addresses[1]], allow_other_workers=False, pure=False))
    return task_seconds, SENT_NBYTES / max(1e-6, time.perf_counter() - start - task_seconds)


def _nothing(number: int) -> None:
    """An empty task."""
