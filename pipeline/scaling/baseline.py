"""Measures the base case of a scaling run: one process that trains on all rows alone."""

import contextlib
import dataclasses
import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from distributed import Client, Future

from pipeline.cluster import affinity
from pipeline.runtime.context import new_run
from pipeline.runtime.placement import Placement
from pipeline.runtime.sessions import close_run, open_run
from pipeline.scaling.baseline_process import ProcessAssignment, SingleProcess
from pipeline.scaling.workloads import ScalingLayout, WorkloadSource
from pipeline.training.trainer import TrainingResult
from pipeline.training.xgboost.dispatch import run_training
from pipeline.training.xgboost.spec import RoundsSpec

IN_A_WORKER = "measured in one worker of the cluster with all its threads, not in a process without Dask"


@dataclass(frozen=True)
class Baseline:
    """A base case, ready to be measured."""

    rows: int
    threads: int
    train: Callable[[], Sequence[float]]  # trains once and returns the seconds of every round
    note: str = ""


@contextlib.contextmanager
def in_a_process(
    client: Client, workload: WorkloadSource, where: Placement, rows: int, spec: RoundsSpec
) -> Iterator[Baseline]:
    """A process without Dask on the cores of all workers, with as many threads as they have together.

    For workers on this machine.
    """
    found = client.run(affinity.allowed_cores, workers=[worker.address for worker in where.workers])
    cores = sorted({core for allowed in found.values() for core in allowed})
    threads = min(len(cores), sum(worker.threads for worker in where.workers))
    fields = dataclasses.asdict(dataclasses.replace(spec, threads=threads))
    with tempfile.TemporaryDirectory(prefix="single-") as folder:
        synthetic = workload.export(where, rows, Path(folder))
        with SingleProcess(ProcessAssignment(threads, tuple(cores), fields, synthetic, folder)) as process:
            yield Baseline(process.rows, threads, process.train)


def in_a_worker(client: Client, layout: Callable[[], ScalingLayout], spec: RoundsSpec, threads: int) -> Baseline:
    """One worker of a cluster elsewhere, or one GPU; `layout` gives all rows on that worker."""
    spec = dataclasses.replace(spec, threads=threads)
    return Baseline(sum(layout().rows), threads, functools.partial(_train, client, layout, spec), IN_A_WORKER)


def _train(client: Client, layout: Callable[[], ScalingLayout], spec: RoundsSpec) -> Sequence[float]:
    partitions = layout().partitions
    (meter,) = train_once(client, partitions.futures, partitions.workers, spec).meters
    return tuple(float(value) for value in meter.wall + meter.between)


def train_once(
    client: Client, partitions: Sequence[Future], workers: Sequence[str], spec: RoundsSpec
) -> TrainingResult:
    """Trains on these partitions, as a run of its own, and leaves nothing of it on the workers."""
    run = new_run()
    try:
        open_run(client, run)
        return run_training(client, partitions, workers, dataclasses.replace(spec, run=run))
    finally:
        close_run(client, run)
