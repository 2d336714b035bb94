"""Calibrates the analytic model on a connected cluster: within seconds, on all workers at once; saves the result for
the next run.

1. Compute: every worker boosts on synthetic rows by itself, all at the same time (memory bandwidth is shared), over a
   small grid of rows, features and depths; non-negative least squares of relative errors give the coefficients.
2. Collectives: allreduces from 16 B to 32 MiB in a real communicator of each requested size.
3. Dask: empty tasks, and one array sent from a worker to another.
"""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import xgboost
from distributed import Client, KilledWorker
from distributed.scheduler import NoValidWorkerError

from pipeline.cluster.affinity import allowed_cores
from pipeline.cluster.machine import processor
from pipeline.efficiency.machine import Fill, Machine
from pipeline.errors import ClusterError, TrainingError
from pipeline.runtime.membership import WorkerMembership
from pipeline.runtime.placement import Placement
from pipeline.scaling.compute_calibration import GRID, TYPICAL, Fit, Grid, fit_grid, solve
from pipeline.scaling.environment import now
from pipeline.scaling.network_calibration import collectives, dask_costs, ring_of
from pipeline.training.xgboost.communicator import worker_locks

BUSY = 1.25  # times as long as on a quiet machine: above it a note is emitted


def load_or_calibrate(
    client: Client, where: Placement, sizes: Sequence[int], *, recalibrate: bool = False
) -> tuple[Machine, tuple[str, ...]]:
    """The calibration saved for such workers, or a new one; and notes for the user about it.

    `sizes`: the numbers of workers whose collectives are needed.  ClusterError where the workers cannot be calibrated.
    """
    path = calibrations() / f"{fingerprint_of(client, where)}.json"
    saved = None if recalibrate else load(path)
    if saved is not None and set(sizes) - {1} <= set(saved.collectives):
        return saved, (f"calibration of {_age(saved)}; --recalibrate makes a new one",)
    machine = calibrate(client, where, sizes)
    said = f"calibrated in {machine.seconds:.1f} s"
    try:
        _save(machine, path)
    except OSError as error:  # the calibration is usable without being saved
        return machine, (f"{said}; not kept: {path.parent}: {error.strerror or error}", *busy_notes(machine))
    return machine, (f"{said}; kept for the next run on such workers", *busy_notes(machine))


def busy_notes(machine: Machine) -> tuple[str, ...]:
    """A note if other programs slowed a calibration that was just made; none on a quiet machine."""
    if machine.busy < BUSY:
        return ()
    slower = f"rounds take {machine.busy:.1f} x as long as on a quiet one"
    return (
        f"this machine is busy now: {slower}; the calibration is in CPU time, and predictions are for a quiet machine",
    )


def calibrations() -> Path:
    """The folder of the saved calibrations: in XDG_CACHE_HOME, or ~/.cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "dask-train-pipeline" / "calibrations"


def load(path: Path) -> Machine | None:
    """A saved calibration; None where there is none that this version can read."""
    try:
        return Machine.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):  # a calibration takes seconds: repeat it
        return None


def _save(machine: Machine, path: Path) -> None:
    """Writes it whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(machine.to_dict(), indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)


def _age(machine: Machine) -> str:
    seconds = (datetime.now(UTC) - datetime.fromisoformat(machine.made)).total_seconds()
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if (count := int(seconds // length)) >= 1:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def calibrate(client: Client, where: Placement, sizes: Sequence[int], grid: Grid = GRID) -> Machine:
    """Calibrates the current workers; `sizes`: the numbers of workers whose collectives are to be measured.

    Takes about 10 s.  ClusterError where a worker fails.
    """
    start = time.perf_counter()
    workers = where.workers
    fingerprint = fingerprint_of(client, where)
    try:
        fits = _fits(client, where, grid)
        tables = {size: collectives(client, workers[:size]) for size in sorted(set(sizes)) if size > 1}
        task_seconds, bandwidth = dask_costs(client, workers)
    except (TrainingError, KilledWorker, NoValidWorkerError, xgboost.core.XGBoostError, OSError) as error:
        raise ClusterError(f"the workers cannot be calibrated: {error}") from error
    solved = solve(fits, TYPICAL if where.device == "cpu" else None, oversubscribed=where.oversubscribed)
    return Machine(
        fingerprint=fingerprint,
        made=now(),
        device=where.device,
        threads=min(worker.threads for worker in workers),
        coefficients=solved.coefficients,
        capabilities=solved.capabilities,
        collectives=tables,
        ring=ring_of(tables),
        fill=Fill(),
        dask_task_seconds=task_seconds,
        dask_bytes_per_second=bandwidth,
        spread=solved.spread,
        typical=solved.typical,
        delay=solved.delay,
        jitter=solved.jitter,
        busy=solved.busy,
        seconds=time.perf_counter() - start,
    )


def fingerprint_of(client: Client, where: Placement) -> str:
    """The fingerprint of what a calibration is valid for: processors, threads, versions, device, and which workers
    share a host.
    """
    tasks = [client.submit(_describe, workers=[worker.address], pure=False) for worker in where.workers]
    hosts = [worker.host for worker in where.workers]
    facts = [
        [*task.result(), worker.threads, hosts.index(worker.host)]
        for task, worker in zip(tasks, where.workers, strict=True)
    ]
    return hashlib.sha256(json.dumps([where.device, facts]).encode()).hexdigest()[:16]


def _describe() -> list[Any]:
    """Processor, cores of this process, version of XGBoost."""
    return [processor(), len(allowed_cores()), xgboost.__version__]


def _fits(client: Client, where: Placement, grid: Grid) -> list[list[Fit]]:
    """Every worker's fits, made at the same time."""
    addresses = [worker.address for worker in where.workers]
    with WorkerMembership(client) as membership, worker_locks(membership, addresses, "calibration"):
        tasks = [
            client.submit(
                fit_grid, number, worker.threads, where.device, grid,
                workers=[worker.address], allow_other_workers=False, pure=False,
            )
            for number, worker in enumerate(where.workers)
        ]  # fmt: skip
        fits: list[list[Fit]] = membership.results(tasks, addresses)
    return fits
