"""Runs the protocol of a scaling run: predict, then measure, alternating the points; writes every sample to disk at
once.

1. Every point's matrices are built, and all stay on the workers: without that, points could not alternate.
2. What the model predicts for every point is written into result.json, before the first sample of any.
3. A repetition measures the single process and every point once, each repetition beginning with a different one.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distributed import Client, KilledWorker
from distributed.scheduler import NoValidWorkerError

from pipeline.cluster import affinity
from pipeline.cluster.scheduler_info import scheduler_info
from pipeline.efficiency import records
from pipeline.efficiency.cost import from_configuration, predict
from pipeline.efficiency.machine import Machine
from pipeline.efficiency.records import Mode, Point, Result, ScalingSample, Single
from pipeline.errors import ClusterError, TrainingError
from pipeline.events.types import EventHandler, Note, discard
from pipeline.runtime.placement import Placement
from pipeline.scaling import samples
from pipeline.scaling.baseline import Baseline, in_a_process, in_a_worker, train_once
from pipeline.scaling.environment import circumstances, now
from pipeline.scaling.plan import Plan, listed
from pipeline.scaling.sample_record import configuration_of, of_ranks, per_round, sample_of
from pipeline.scaling.workloads import ScalingLayout, WorkloadSource
from pipeline.training.xgboost.spec import RoundsSpec

BACK_SECONDS = 60.0  # for a lost worker to reconnect


@dataclass(frozen=True)
class ExperimentContext:
    """The client, workers and workload of the measurements."""

    client: Client
    workload: WorkloadSource
    place: Callable[[], Placement]  # the current workers; they change when one is lost
    machine: Machine | None  # None: no predictions
    on_event: EventHandler = discard
    folder: Path | None = None  # None: no files


@dataclass(frozen=True)
class RunMetadata:
    """Metadata of the run in its result."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    circumstances: Mapping[str, Any] = field(default_factory=circumstances)


def measure(context: ExperimentContext, plan: Plan, metadata: RunMetadata | None = None) -> Result:
    """Measures the plan.  Waits for a lost worker, and repeats its repetition once."""
    return _Run(context, plan, metadata or RunMetadata()).measure()


class _Run:
    """One scaling run."""

    def __init__(self, context: ExperimentContext, plan: Plan, metadata: RunMetadata) -> None:
        self._context, self._plan = context, plan
        self._where = self._placed()
        self._layouts: dict[tuple[object, ...], ScalingLayout] = {}
        self._writing = False
        self.result = Result(
            name=context.workload.name,
            arguments=metadata.arguments,
            circumstances=metadata.circumstances,
            calibration=context.machine.to_dict() if context.machine else {},
            singles=(),
            points=(),
            notes=metadata.notes,
        )

    def measure(self) -> Result:
        """The whole protocol."""
        order = [(mode, workers) for mode in self._plan.modes for workers in self._plan.workers]
        points = tuple(self._point(mode, workers) for mode, workers in order)
        self._writing = True  # from here on an early end would lose results
        if self._context.folder is not None:
            _empty(self._context.folder)
        self._update(points=points)
        with contextlib.ExitStack() as stack:
            bases = self._bases(stack) if self._plan.single else []
            for repetition in range(self._plan.repeat):
                turns: list[Callable[[], None]] = [
                    *(functools.partial(self._measure_base, base, repetition) for base in bases),
                    *(functools.partial(self._measure_point, index, repetition) for index in range(len(order))),
                ]
                first = repetition % len(turns)
                for turn in turns[first:] + turns[:first]:
                    turn()
        return self.result

    def _update(self, **changes: Any) -> None:
        """Updates the result so far, in memory and on disk."""
        self.result = dataclasses.replace(self.result, **changes)
        if self._writing and self._context.folder is not None:
            records.write(self.result, self._context.folder)

    def _note(self, message: str) -> None:
        if message not in self.result.notes:
            self._update(notes=(*self.result.notes, message))
            self._context.on_event(Note(message=message))

    def _point(self, mode: Mode, workers: int) -> Point:
        """A point with its prediction; its matrices are built before it returns."""
        layout = self._layout(mode, workers)
        threads, cores = workers * layout.spec.threads, affinity.cores()
        oversubscribed = self._where.local and self._where.device == "cpu" and threads > cores
        if oversubscribed:
            self._note(
                f"oversubscribed: {threads} threads on {_counted(cores, 'core')}; such points do not count for the model"
            )
        configuration = configuration_of(layout, self._plan, mode, oversubscribed)
        machine = self._machine(layout)
        if machine is None:
            return Point(configuration, None, note="nothing was calibrated")
        predicted = predict(machine, from_configuration(configuration))
        return Point(configuration, dataclasses.replace(predicted, time=now("milliseconds")))

    def _layout(self, mode: Mode, workers: int) -> ScalingLayout:
        """The matrices of a point; those of weak scaling are the first ranks of its largest point."""
        most = self._plan.most if mode == "weak" else workers
        shares = self._plan.shares if len(self._plan.shares) == most else ()
        return self._laid_out(self._context.workload.rows(mode, most), most, shares).first(workers)

    def _laid_out(self, rows: int, workers: int, shares: tuple[float, ...] = ()) -> ScalingLayout:
        """A layout of `rows` rows over the first workers; built once."""
        key = (rows, workers, shares)
        if key not in self._layouts:
            where = dataclasses.replace(self._where, workers=self._where.workers[:workers])
            self._layouts[key] = self._context.workload.layout(where, rows, shares)
        return self._layouts[key]

    def _measure_point(self, index: int, repetition: int) -> None:
        point = self.result.points[index]
        what = f"{point.configuration.mode}, {_counted(point.configuration.workers, 'worker')}"
        try:
            sample = self._sample(point, repetition)
        except (TrainingError, KilledWorker, NoValidWorkerError) as error:
            if not self._lost():
                raise
            self._note(f"repetition {repetition + 1} of {what}: {error}; it was repeated once")
            self._recover()
            sample = dataclasses.replace(self._sample(point, repetition), retried=True)
        points = list(self.result.points)
        points[index] = dataclasses.replace(point, samples=(*point.samples, sample))
        if self._context.folder is not None:
            with open(self._context.folder / samples.SAMPLES, "a", encoding="utf-8") as file:
                file.writelines(samples.lines(point.configuration, sample))
        self._update(points=tuple(points))
        said = f" (predicted {1e3 * point.predicted.seconds:.2f})" if point.predicted else ""
        self._say(repetition, f"{what}: {1e3 * sample.seconds:.2f} ms a round{said}")

    def _sample(self, point: Point, repetition: int) -> ScalingSample:
        """One training on the point's matrices."""
        if lost := self._lost():
            raise TrainingError(f"worker {lost[0]} was lost")
        begin, layout = now("milliseconds"), self._layout(point.configuration.mode, point.configuration.workers)
        futures, workers = layout.partitions.futures, layout.partitions.workers
        trained = train_once(self._context.client, futures, workers, self._spec(layout))
        names = [self._where.workers[place].name for place in self._places(layout)]
        sample = sample_of(trained.meters, names, point.configuration, self._machine(layout))
        return dataclasses.replace(sample, repetition=repetition, time=begin)

    def _places(self, layout: ScalingLayout) -> list[int]:
        """The number of each rank's worker: ranks follow the order of the rows."""
        places = {worker.address: place for place, worker in enumerate(self._where.workers)}
        return [places[address] for address in layout.partitions.workers]

    def _machine(self, layout: ScalingLayout) -> Machine | None:
        machine = self._context.machine
        return None if machine is None else of_ranks(machine, self._places(layout))

    def _spec(self, layout: ScalingLayout) -> RoundsSpec:
        """The spec of boosting alone: no metrics, no early stopping."""
        rounds = self._plan.warmup + self._plan.rounds
        return dataclasses.replace(layout.spec, rounds=rounds, metrics=(), early_stopping=0, full_meter=True)

    def _say(self, repetition: int, what: str) -> None:
        self._context.on_event(Note(message=f"{repetition + 1}/{self._plan.repeat} {what}"))

    def _placed(self) -> Placement:
        """The current workers."""
        where = self._context.place()
        if len(where.workers) < self._plan.most:
            raise ClusterError(f"--workers {listed(self._plan.workers)}, but the cluster has {len(where.workers)}")
        return dataclasses.replace(where, workers=where.workers[: self._plan.most])

    def _lost(self) -> list[str]:
        """Workers of this run that have left the cluster."""
        present = scheduler_info(self._context.client)["workers"]
        return [worker.name for worker in self._where.workers if worker.address not in present]

    def _recover(self) -> None:
        """Waits for lost workers and rebuilds all matrices: a restarted worker has another address."""
        self._layouts.clear()
        try:
            self._context.client.wait_for_workers(self._plan.most, timeout=BACK_SECONDS)
        except TimeoutError:
            raise TrainingError(f"the lost worker was not back after {BACK_SECONDS:.0f} s") from None
        self._where = self._placed()
        for point in self.result.points:
            self._layout(point.configuration.mode, point.configuration.workers)

    def _bases(self, stack: contextlib.ExitStack) -> list[Baseline]:
        """The base cases: a single one if all modes have the same rows."""
        most, bases = self._plan.most, {}
        for mode in self._plan.modes:
            rows, layout = self._context.workload.rows(mode, most), self._layout(mode, most)
            if rows not in bases:
                bases[rows] = self._base(stack, rows, self._spec(layout))
            base = bases[rows]
            self._update(singles=(*self.result.singles, Single(mode, base.rows, base.threads, (), base.note)))
        return list(bases.values())

    def _base(self, stack: contextlib.ExitStack, rows: int, spec: RoundsSpec) -> Baseline:
        client, where = self._context.client, self._where
        if where.local and where.device == "cpu":
            return stack.enter_context(in_a_process(client, self._context.workload, where, rows, spec))
        return in_a_worker(client, lambda: self._laid_out(rows, 1), spec, where.workers[0].threads)

    def _measure_base(self, base: Baseline, repetition: int) -> None:
        seconds = per_round(base.train(), self._plan.warmup)
        singles = (
            dataclasses.replace(single, seconds=(*single.seconds, seconds)) if single.rows == base.rows else single
            for single in self.result.singles
        )
        self._update(singles=tuple(singles))
        self._say(repetition, f"single process, {_counted(base.threads, 'thread')}: {1e3 * seconds:.2f} ms a round")


def _counted(many: int, what: str) -> str:
    return f"{many} {what}{'s' * (many != 1)}"


def _empty(folder: Path) -> None:
    """Makes the folder, or removes what an earlier run left in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
