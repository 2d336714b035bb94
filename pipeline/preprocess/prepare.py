"""Runs the passes over the data from the client: survey, statistics, blocks.

Each is one task per fragment; statistics and blocks run on the worker that will keep the fragment.
"""

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from distributed import Future

from pipeline.cluster.launchers.launched import launched
from pipeline.config.metric_registry import check_metrics
from pipeline.config.parameters import check_fitting
from pipeline.data.groups import join_groups
from pipeline.data.opened_sources import Inputs, reader
from pipeline.data.rows import RowPlan, Split
from pipeline.data.schema.label_limits import check_validation_labels, with_gain
from pipeline.data.schema.target import Target
from pipeline.data.schema.target_inference import check_held_out, decide_split, decide_target
from pipeline.data.schema.target_survey import Survey, merge_surveys, training_share
from pipeline.data.skipped import SkippedFragment, note
from pipeline.data.source import cut_by_rows
from pipeline.events.types import BlocksDone, Planned, Skipped, StatisticsDone
from pipeline.planning.assignment import assign
from pipeline.planning.memory import (
    FITTING_SHARE,
    MIB,
    MemoryShape,
    StorageChoice,
    choose_block_storage,
    choose_matrix,
    estimate,
    spare_nbytes,
    worker_need,
)
from pipeline.preprocess.constraints import check_constraints
from pipeline.preprocess.fit import (
    BlockFacts,
    Fitted,
    FragmentTask,
    PassConfig,
    block_facts,
    collect_unit,
    count_unit,
    fit,
    make_block,
    merge_in_order,
    survey_unit,
)
from pipeline.preprocess.fragment_tasks import FragmentTasks, InMemoryRows, identity
from pipeline.runtime.context import RunContext
from pipeline.runtime.placement import WorkerInfo
from pipeline.runtime.shared_value import SharedValue

VALIDATION_COST = 0.2  # cost of a validation row relative to a training row: it is read and evaluated


@dataclass(frozen=True)
class PreparedData:
    """The results of the first reading of all training rows."""

    inputs: Inputs
    target: Target
    units: tuple[FragmentTask, ...]  # in the order of the fragments
    fitted: Fitted
    in_memory_rows: InMemoryRows
    shape: MemoryShape  # what memory depends on, as far as known at this point

    def storage(self, asked: StorageChoice, rows: int, memory_limit_nbytes: int) -> "Storage":
        """Where a worker with `rows` rows and this limit (0: none) keeps its matrix and codes; ClusterError."""
        matrix = choose_matrix(asked, self.shape, rows, memory_limit_nbytes)
        codes = choose_block_storage(matrix, self.shape, rows, memory_limit_nbytes)
        return Storage(matrix, codes, worker_need(self.shape, rows).nbytes(matrix, codes))


@dataclass(frozen=True)
class Storage:
    """Where a worker keeps its matrix and codes."""

    matrix: Literal["memory", "disk"]
    codes: Literal["memory", "disk"]  # of the blocks, until the matrix is built
    planned_nbytes: int  # expected peak of the worker


def prepare(context: RunContext, inputs: Inputs) -> PreparedData:
    """From files to a recipe and cuts: the survey and the statistics pass.

    DataError, from whichever task finds it, where the rows cannot be trained on.
    """
    in_memory_rows = InMemoryRows(context.client)
    with context.clock.stage("survey"):
        inputs, target, split, shares = survey(context, inputs, in_memory_rows)
        units = _units(inputs, _row_plans(context, inputs, target, split))
        known = itertools.chain(shares, itertools.repeat(1.0))
        units = tuple(dataclasses.replace(unit, training_share=next(known)) for unit in units)
        shape = _shape(context, inputs, target, units)
        first = _first_guess(context, shape)
        context.emit(_planned(context, inputs, shape, len(units)))
        compare_with_limit(context, shape, first)
    with context.clock.stage("statistics"):
        start = time.monotonic()
        shared = PassConfig(
            run=context.run,
            preprocess=context.job.preprocess,
            training=context.job.training,
            target=target,
            expected_rows=inputs.rows,
            keep_nbytes=spare_nbytes(shape) // shape.workers if first == "memory" else 0,
        )
        placed = assign_units(context.placement.workers, units)
        fit_them = functools.partial(_fitted, context, shared)
        fitted = FragmentTasks(context, inputs, in_memory_rows).run(
            "statistics", placed, fit_them, collect_unit, shared
        )
        in_memory_rows.keep_fragments()
        check_constraints(context.job.training, fitted.recipe, target.kind)
        context.emit_note(*fitted.recipe.notes, *fitted.findings)
        context.emit(StatisticsDone(rows=fitted.statistics.rows, seconds=time.monotonic() - start))
    statistics = fitted.statistics
    check_held_out(context.job.data, statistics.rows, statistics.validation_rows)
    missing = any(column.missing for column in statistics.columns.values())
    now_known = dataclasses.replace(shape, rows=statistics.rows + statistics.validation_rows, missing=missing)
    return PreparedData(inputs, target, units, fitted, in_memory_rows, now_known)


def for_params(context: RunContext, prepared: PreparedData) -> PreparedData:
    """The same rows for other parameters of the trees: plans their memory; ClusterError where neither memory nor disk suffices."""
    shape = dataclasses.replace(prepared.shape, depth=_depth(context.job.training.params.get("max_depth")))
    compare_with_limit(context, shape, _first_guess(context, shape))
    return dataclasses.replace(prepared, shape=shape)


def _first_guess(context: RunContext, shape: MemoryShape) -> Literal["memory", "disk"]:
    """Where the matrices will be, from metadata alone; ClusterError, before a row is read, where neither memory nor
    disk would do.
    """
    return choose_matrix(asked_matrix(context), shape, _rows_of_one(shape), _least_limit(context))


def compare_with_limit(context: RunContext, shape: MemoryShape, matrix: Literal["memory", "disk"]) -> None:
    """Records the expected memory of a worker; emits a note where it hardly fits."""
    limit, rows = _least_limit(context), _rows_of_one(shape)
    planned = worker_need(shape, rows).nbytes(matrix, choose_block_storage(matrix, shape, rows, limit))
    context.planned_nbytes = planned
    if limit and planned > FITTING_SHARE * limit:
        context.emit_note(
            f"a worker is expected to take {planned / MIB:,.0f} MiB, and is ended near its limit of "
            f"{limit / MIB:,.0f} MiB: {launched(context.client).more_memory}"
        )


def _least_limit(context: RunContext) -> int:
    """The smallest of the workers' memory limits, in bytes; 0: none."""
    return min((worker.memory_limit for worker in context.placement.workers if worker.memory_limit), default=0)


def _rows_of_one(shape: MemoryShape) -> int:
    return -(-shape.rows // shape.workers)


def asked_matrix(context: RunContext) -> StorageChoice:
    """The job's setting; on GPUs "auto" means memory: Dask's limit is not about GPU memory."""
    asked = context.job.training.matrix
    return "memory" if asked == "auto" and context.placement.device == "cuda" else asked


def _fitted(context: RunContext, shared: PassConfig, parts: list[Future]) -> Callable[[], Fitted]:
    """Merges statistics while others are still collected."""
    merged = merge_in_order(context.client, parts)
    future = context.client.submit(fit, merged, shared, pure=False)
    return future.result  # a closure's frame would keep the future, with the error


def survey(
    context: RunContext, inputs: Inputs, in_memory_rows: InMemoryRows
) -> tuple[Inputs, Target, Split, list[float]]:
    """Surveys the target, time and group columns; ranking sources get fragments that split no query.

    Also the share of each training fragment's rows that will train; none where fragments were joined.
    """
    data, training = context.job.data, context.job.training
    plan = RowPlan(roles=inputs.roles, derivation=inputs.derivation, seed=training.seed)
    inputs = _cut_by_rows(context, inputs, in_memory_rows, plan)
    units = _units(inputs, [plan] * len(inputs.sources))
    found = FragmentTasks(context, inputs, in_memory_rows).run(
        "survey", units, functools.partial(_gathered, context), survey_unit
    )
    inputs, found = _without_bad(context, inputs, found)
    first = len(inputs.training.fragments)
    surveys = [merge_surveys(part) for part in (found[:first], found[first:]) if part]
    target = decide_target(data, training, surveys[0], inputs.schema)
    check_metrics(training.metrics, target.objective)  # with metrics "auto" the task is known only now
    check_fitting(training.params, target.objective)
    for merged in surveys:
        if merged.label is not None:
            context.job = with_gain(context.job, target, merged.label)
            check_validation_labels(target.column, target.objective, context.job.training, merged.label)
    split = decide_split(data, surveys[0], inputs.schema, training.seed)
    shares = [training_share(part, split) for part in found[:first]]
    if inputs.roles.group is not None:
        shares = []
        joined = [
            join_groups(source, inputs.roles.group, found.runs)
            for source, found in zip(inputs.sources, surveys, strict=True)
        ]
        inputs = inputs.with_sources(joined)
        in_memory_rows.recut()
    return inputs, target, split, shares


def _cut_by_rows(context: RunContext, inputs: Inputs, in_memory_rows: InMemoryRows, plan: RowPlan) -> Inputs:
    """Cuts a Dask collection into fragments that do not depend on its partitioning: its partitions are computed and
    counted.

    The partitions stay on the cluster: the passes need them.
    """
    source = inputs.training
    if source.format != "dask":
        return inputs
    counts = [fragment.rows for fragment in source.fragments]
    if None in counts:
        units = tuple(FragmentTask(reader(source), fragment, plan) for fragment in source.fragments)
        counts = FragmentTasks(context, inputs, in_memory_rows).run(
            "count", units, functools.partial(_gathered, context), count_unit
        )
        in_memory_rows.recut()
    cut = cut_by_rows(source, [rows or 0 for rows in counts], context.job.data.fragment_mib * MIB)
    return inputs.with_sources([cut, *inputs.sources[1:]])


def _without_bad(
    context: RunContext, inputs: Inputs, found: Sequence[Survey | SkippedFragment]
) -> tuple[Inputs, list[Survey]]:
    """The inputs and the surveys without the fragments that cannot be read; emits a note for them."""
    bad = [item for item in found if isinstance(item, SkippedFragment)]
    for item in bad:
        context.emit_incident(Skipped(fragment=item.fragment, reason=item.reason))
    if bad:
        context.emit_note(note(bad, len(found)))
        inputs = inputs.without(bad)
    return inputs, [item for item in found if not isinstance(item, SkippedFragment)]


def _gathered(context: RunContext, parts: list[Future]) -> Callable[[], list[Any]]:
    return functools.partial(context.client.gather, parts)


@dataclass(frozen=True)
class BlockFutures:
    """Blocks on the cluster, by their places among the units."""

    blocks: dict[int, Future]
    facts: dict[int, BlockFacts]


def make_blocks(
    context: RunContext,
    prepared: PreparedData,
    workers: Mapping[int, str],
    codes: Literal["memory", "disk"] = "memory",
    owner: str | None = None,
) -> BlockFutures:
    """The second pass: fragments (by their places among the units) as blocks, on these workers (addresses).

    `codes`: where blocks are kept until their matrix is built.  `owner`: the run that read the rows, which may have
    kept some, and whose files the codes are; default: this one.  If a worker dies, its blocks are made elsewhere.
    """
    start = time.monotonic()
    places = sorted(workers)
    units = [dataclasses.replace(prepared.units[place], worker=workers[place]) for place in places]
    shared = PassConfig(
        run=owner or context.run,
        preprocess=context.job.preprocess,
        training=context.job.training,
        target=prepared.target,
        expected_rows=None,
        keep_nbytes=0,
        scratch=context.job.cluster.scratch,
        codes=codes,
    )
    # As a task, not as scattered data, which would be lost with the worker that holds it.
    coding = SharedValue(functools.partial(context.client.submit, identity, prepared.fitted.encoder, pure=False))
    blocks, facts = FragmentTasks(context, prepared.inputs, prepared.in_memory_rows).run(
        "blocks", units, functools.partial(_with_facts, context), make_block, shared, coding
    )
    train, validation = sum(fact.train_rows for fact in facts), sum(fact.validation_rows for fact in facts)
    context.emit(
        BlocksDone(rows=train + validation, nbytes=sum(fact.nbytes for fact in facts), seconds=time.monotonic() - start)
    )
    return BlockFutures(dict(zip(places, blocks, strict=True)), dict(zip(places, facts, strict=True)))


def _with_facts(context: RunContext, blocks: list[Future]) -> Callable[[], tuple[list[Future], list[BlockFacts]]]:
    facts = [context.client.submit(block_facts, block, pure=False) for block in blocks]
    return functools.partial(_both, context, blocks, facts)


def _both(context: RunContext, blocks: list[Future], facts: list[Future]) -> tuple[list[Future], list[BlockFacts]]:
    return blocks, context.client.gather(facts)


def _row_plans(context: RunContext, inputs: Inputs, target: Target, split: Split) -> list[RowPlan]:
    """How the rows of each source are read: all rows of a validation source validate."""
    plan = RowPlan(
        roles=inputs.roles, derivation=inputs.derivation, target=target, split=split, seed=context.job.training.seed
    )
    return [plan, dataclasses.replace(plan, split=Split("all_validation"))][: len(inputs.sources)]


def _units(inputs: Inputs, plans: Sequence[RowPlan]) -> tuple[FragmentTask, ...]:
    """Every fragment of every source, in order."""
    return tuple(
        FragmentTask(reader(source), fragment, plan)
        for source, plan in zip(inputs.sources, plans, strict=True)
        for fragment in source.fragments
    )


def assign_units(workers: Sequence[WorkerInfo], units: Sequence[FragmentTask]) -> tuple[FragmentTask, ...]:
    """The units with their workers: by capability, for training and validation files apart."""
    placed: dict[int, str] = {}
    for plan in dict.fromkeys(id(unit.rows) for unit in units):
        places = [place for place, unit in enumerate(units) if id(unit.rows) == plan]
        sizes = [load(units[place]) for place in places]
        for worker, share in zip(workers, assign(sizes, [w.capability for w in workers]), strict=True):
            placed |= {places[index]: worker.address for index in share}
    return tuple(dataclasses.replace(unit, worker=placed[place]) for place, unit in enumerate(units))


def load(unit: FragmentTask) -> int:
    """The unit's bytes, validation rows weighted by their cost relative to a training row.

    The load is the remaining work: validation rows are read like the others, but no trees are grown on them.
    """
    return max(1, round(unit.fragment.nbytes * (VALIDATION_COST + (1 - VALIDATION_COST) * unit.training_share)))


def _shape(context: RunContext, inputs: Inputs, target: Target, units: Sequence[FragmentTask]) -> MemoryShape:
    """What the run's memory depends on, as far as metadata show; rows of text files are estimated from their bytes."""
    training, workers = context.job.training, context.placement.workers
    features = len(inputs.roles.features)
    rows = [unit.fragment.rows or unit.fragment.nbytes // (8 * max(1, features)) for unit in units]
    return MemoryShape(
        rows=sum(rows),
        features=features,
        bins=training.max_bin,
        depth=_depth(training.params.get("max_depth")),
        classes=max(1, len(target.classes) if target.kind == "multiclass" else 1),
        workers=len(workers),
        threads=max(worker.threads for worker in workers),
        fragment_rows=max(rows, default=0),
        missing=False,
    )


def _depth(asked: Any) -> int:
    """The depth of trees; XGBoost's default of 6 where the setting is missing or is no valid depth."""
    return int(asked) or 6 if str(asked).isdecimal() else 6


def _planned(context: RunContext, inputs: Inputs, shape: MemoryShape, fragments: int) -> Planned:
    low, high = estimate(shape).peak_nbytes, estimate(dataclasses.replace(shape, missing=True)).peak_nbytes
    return Planned(
        rows=inputs.rows,
        features=shape.features,
        fragments=fragments,
        workers=shape.workers,
        threads=shape.threads,
        nbytes=low,
        note=f"{high / 1e9:.2f} GB if values are missing" if high > 1.1 * low else "",
    )
