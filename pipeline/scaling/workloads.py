"""Provides the workloads of a scaling run: a job's files, or synthetic rows; laid out over given workers.

A subject creates layouts; the protocol in `scaling` measures them and does not depend on the source of the rows.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from distributed import Client, wait

from pipeline.cluster.devices import array_namespace
from pipeline.config import xgboost as objective
from pipeline.data.opened_sources import Inputs
from pipeline.efficiency.records import Mode
from pipeline.errors import DataError
from pipeline.events.findings import text_of
from pipeline.events.types import EventHandler
from pipeline.preprocess import prepare
from pipeline.preprocess.fragment_tasks import result_of
from pipeline.runtime.context import RunContext
from pipeline.runtime.membership import WorkerMembership
from pipeline.runtime.placement import Placement
from pipeline.runtime.sessions import close_run, open_run
from pipeline.runtime.task_errors import task
from pipeline.runtime.timing import StageTimer, monotonic_epoch
from pipeline.scaling.block_files import write_block, write_cuts
from pipeline.scaling.synthetic import Synthetic, cuts_of, make_blocks
from pipeline.training.trainer import WorkerMatrices
from pipeline.training.workset import WorkSet
from pipeline.training.xgboost.booster_probe import total_bins
from pipeline.training.xgboost.matrix import Partition, build_partition
from pipeline.training.xgboost.spec import RoundsSpec
from pipeline.training.xgboost.trainer import XGBoostTrainer, spec_for

MIN_ROWS = 1_000  # per worker: below, a round lasts about as long as its collectives


@dataclass(frozen=True)
class ScalingLayout:
    """A training laid out over workers."""

    partitions: WorkerMatrices
    spec: RoundsSpec  # as in a training of this workload
    rows: tuple[int, ...]  # training rows of each rank
    features: int
    bins: int  # B_tot: of all features together, the missing ones not counted

    def first(self, ranks: int) -> "ScalingLayout":
        """The same layout, restricted to the first ranks."""
        partitions = WorkerMatrices(self.partitions.workers[:ranks], self.partitions.futures[:ranks])
        return dataclasses.replace(self, partitions=partitions, rows=self.rows[:ranks])


class WorkloadSource(Protocol):
    """A workload."""

    name: str  # description

    def rows(self, mode: Mode, workers: int) -> int:
        """Training rows of this many workers together; `workers` is the largest number of the run."""

    def layout(self, where: Placement, rows: int, shares: Sequence[float] = ()) -> ScalingLayout:
        """A layout of `rows` rows over all workers of the placement, by these shares."""

    def export(self, where: Placement, rows: int, folder: Path) -> dict[str, Any] | None:
        """The input of a single process on this machine for the same rows: the fields of `Synthetic`, or files."""

    def close(self) -> None:
        """Releases the data on the workers."""


class SyntheticWorkload:
    """Rows that each worker generates for itself."""

    def __init__(self, client: Client, data: Synthetic, seed: int = 0) -> None:
        self.client, self.data, self.name, self._seed = client, data, str(data), seed

    def rows(self, mode: Mode, workers: int) -> int:
        return self.data.rows * (workers if mode == "weak" else 1)

    def layout(self, where: Placement, rows: int, shares: Sequence[float] = ()) -> ScalingLayout:
        """Shares default to threads: capabilities are probed, and the probe scatters."""
        parts = np.array(shares or [worker.threads for worker in where.workers], dtype=np.float64)
        edges = [0, *(int(edge) for edge in np.round(np.cumsum(parts / parts.sum()) * rows))]
        for worker, (first, stop) in zip(where.workers, itertools.pairwise(edges), strict=True):
            _too_few(stop - first, worker.name)
        futures = tuple(
            self.client.submit(
                _synthetic_partition, self.data, first, stop, worker.threads, where.device,
                workers=[worker.address], allow_other_workers=False, pure=False,
            )
            for worker, (first, stop) in zip(where.workers, itertools.pairwise(edges), strict=True)
        )  # fmt: skip
        partitions = WorkerMatrices(tuple(worker.address for worker in where.workers), futures)
        return _laid_out(self.client, partitions, _synthetic_spec(self.data, where, self._seed))

    def export(self, where: Placement, rows: int, folder: Path) -> dict[str, Any] | None:
        return dataclasses.asdict(dataclasses.replace(self.data, rows=rows))

    def close(self) -> None:
        pass


@task
def _synthetic_partition(
    data: Synthetic, first: int, stop: int, threads: int, device: Literal["cpu", "cuda"]
) -> Partition:
    return build_partition(
        make_blocks(data, first, stop), cuts_of(data), data.names, threads=threads, xp=array_namespace(device)
    )


def _synthetic_spec(data: Synthetic, where: Placement, seed: int) -> RoundsSpec:
    """The spec every worker needs to train on synthetic rows."""
    shape = objective.ModelShape(data.names, classes=data.classes)
    params = {"max_depth": data.depth, "grow_policy": data.growth, "max_leaves": data.max_leaves}
    return RoundsSpec(
        run="synthetic",
        params=objective.xgboost_params(data.objective, shape, 0.5, params, seed),
        rounds=1,
        metrics=(),
        seed=seed,
        threads=min(worker.threads for worker in where.workers),
        device=where.device,
    )


class JobWorkload:
    """A job's files, which are surveyed once; each layout rebuilds its blocks and matrices.

    Rows stay in source order, as those are that the model of the time was calibrated with.
    """

    def __init__(self, client: Client, inputs: Inputs, where: Placement, on_event: EventHandler) -> None:
        training = inputs.job.training.model_copy(update={"row_order": "source"})
        inputs = dataclasses.replace(inputs, job=inputs.job.model_copy(update={"training": training}))
        self._membership = WorkerMembership(client, inputs.job.cluster.hang_seconds)
        self._membership.__enter__()
        self._context = RunContext(
            client, self._membership, inputs.job, where, [on_event], StageTimer(begin=monotonic_epoch())
        )
        try:
            open_run(client, self._context.run)
            self._prepared = prepare.prepare(self._context, inputs)
        except BaseException:
            self.close()
            raise
        rows, features = self._prepared.fitted.statistics.rows, len(self._prepared.fitted.recipe.features)
        self.name = f"{self._prepared.target.column}, {rows:,} rows x {features} features"

    @property
    def notes(self) -> list[str]:
        return list(map(text_of, self._context.notes))

    def rows(self, mode: Mode, workers: int) -> int:
        return self._prepared.fitted.statistics.rows

    def layout(self, where: Placement, rows: int, shares: Sequence[float] = ()) -> ScalingLayout:
        """Shares default to capability, as in a training; whole fragments in any case."""
        if shares:
            pairs = zip(where.workers, shares, strict=True)
            workers = tuple(dataclasses.replace(worker, capability=share) for worker, share in pairs)
            where = dataclasses.replace(where, workers=workers)
        context = dataclasses.replace(self._context, placement=where)
        partitions = WorkSet(context, self._prepared, XGBoostTrainer()).ensure_matrices()
        if len(partitions.workers) < len(where.workers):
            raise DataError(
                f"{len(where.workers)} workers, but the training rows lie in fragments for {len(partitions.workers)}: ask for "
                "fewer workers, or for smaller fragments with data.fragment_mib"
            )
        made = _laid_out(
            context.client, partitions, spec_for(context, self._prepared, partitions, context.job.training.rounds)
        )
        for rows, worker in zip(made.rows, partitions.workers, strict=True):
            _too_few(rows, worker)
        return made

    def export(self, where: Placement, rows: int, folder: Path) -> dict[str, Any] | None:
        """Writes every block's training rows and the cuts to files; the workers, which are on this machine, write
        them.
        """
        context, prepared = dataclasses.replace(self._context, placement=where), self._prepared
        write_cuts(folder, prepared.fitted.cuts, prepared.fitted.recipe.names)
        units = prepare.assign_units(where.workers, prepared.units)
        made = prepare.make_blocks(context, prepared, {place: str(unit.worker) for place, unit in enumerate(units)})
        written = [context.client.submit(write_block, block, str(folder), pure=False) for block in made.blocks.values()]
        wait(written)
        for future in written:
            result_of(future)
        return None

    def close(self) -> None:
        self._membership.__exit__()
        close_run(self._context.client, self._context.run)


def _too_few(rows: int, worker: str) -> None:
    """DataError where a worker has too few rows for a meaningful measurement."""
    if rows < MIN_ROWS:
        raise DataError(f"worker {worker} gets {rows:,} rows, {MIN_ROWS:,} are needed: more rows, or fewer workers")


def _laid_out(client: Client, partitions: WorkerMatrices, spec: RoundsSpec) -> ScalingLayout:
    """The layout, once its matrices are built."""
    facts = [
        result_of(client.submit(_facts, future, workers=[worker], pure=False))
        for future, worker in zip(partitions.futures, partitions.workers, strict=True)
    ]
    return ScalingLayout(partitions, spec, tuple(rows for rows, _, _ in facts), facts[0][1], facts[0][2])


def _facts(partition: Partition) -> tuple[int, int, int]:
    """Training rows, features and bins."""
    matrix = partition.train.matrix
    return partition.train.rows, matrix.num_col(), total_bins(matrix)
