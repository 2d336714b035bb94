"""Runs the passes over the data from the client: survey, statistics, blocks.

Each is one task per fragment; statistics and blocks run on the worker that will keep the fragment.
"""

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distributed import Future

from pipeline.config.job import Training
from pipeline.config.metric_registry import check_metrics
from pipeline.config.parameters import check_fitting, resolved_params, with_defaults
from pipeline.data.groups import join_groups
from pipeline.data.opened_sources import Inputs, reader
from pipeline.data.rows import RowPlan, Split
from pipeline.data.schema.label_limits import check_validation_labels, with_gain
from pipeline.data.schema.target import Target
from pipeline.data.schema.target_inference import check_held_out, decide_split, decide_target
from pipeline.data.schema.target_survey import TargetSurvey, merge_surveys, training_share
from pipeline.data.skipped import SkippedFragment, note
from pipeline.data.source import cut_by_rows
from pipeline.events.types import BlocksDone, Planned, Skipped, StatisticsDone
from pipeline.planning.assignment import assign
from pipeline.planning.job_size import trees_of_a_round
from pipeline.planning.memory import MIB
from pipeline.planning.plan import Plan
from pipeline.planning.storage_plan import Location, StoragePlan
from pipeline.preprocess.category_splits import with_category_threshold
from pipeline.preprocess.constraints import check_constraints
from pipeline.preprocess.findings import target_findings
from pipeline.preprocess.fit import (
    BlockFacts,
    Fitted,
    FragmentTask,
    PassConfig,
    TableCache,
    block_facts,
    collect_unit,
    count_unit,
    fit,
    make_block,
    merge_in_order,
    survey_unit,
)
from pipeline.preprocess.fragment_tasks import FragmentTasks, InMemoryRows, identity
from pipeline.preprocess.row_cache import drop_tables
from pipeline.runtime.context import RunContext
from pipeline.runtime.placement import WorkerInfo
from pipeline.runtime.rpc import ANSWER_SECONDS, ask_workers
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
    plan: StoragePlan  # with what the passes have shown
    label_params: Mapping[str, Any]  # XGBoost's parameters that follow from the labels


def prepare(context: RunContext, inputs: Inputs) -> PreparedData:
    """From files to a recipe and cuts: the survey and the statistics pass.

    DataError, from whichever task finds it, where the rows cannot be trained on.
    """
    in_memory_rows = InMemoryRows(context.client)
    with context.clock.stage("survey"):
        surveyed = survey_target(context, inputs, in_memory_rows)
        inputs, target = surveyed.inputs, surveyed.target
        units = _units(inputs, _row_plans(context, inputs, target, surveyed.split))
        shares = itertools.chain(surveyed.training_shares, itertools.repeat(1.0))
        units = tuple(dataclasses.replace(unit, training_share=next(shares)) for unit in units)
        trees = max(1, len(target.classes) if target.kind == "multiclass" else 1)
        _plan_trees(context, surveyed.training, trees)
        survey = inputs.survey()
        known = dataclasses.replace(
            survey,
            objective=target.objective,
            trees=trees,
            params=surveyed.training.params,
            matrix="disk" if survey.matrix == "auto" and _planned_on_disk(context) else survey.matrix,
        )
        plan = context.plan = StoragePlan.of(known, context.placement.resources)
        plan.validate()
        context.emit(_planned(plan, inputs.rows, context.resource_plan))
        context.emit_note(*plan.notes)
    with context.clock.stage("statistics"):
        start = time.monotonic()
        shared = PassConfig(
            run=context.run,
            preprocess=context.job.preprocess,
            training=context.job.training,
            target=target,
            expected_rows=inputs.rows,
            keep_nbytes=plan.keep_nbytes,
            row_order=plan.row_order,
        )
        placed = assign_units(context.placement.workers, units)
        fit_them = functools.partial(_fitted, context, shared)
        fitted = FragmentTasks(context, inputs, in_memory_rows).run(
            "statistics", placed, fit_them, collect_unit, shared
        )
        in_memory_rows.keep_fragments()
        if surveyed.cached:
            _drop_tables(context)
        check_constraints(context.job.training, fitted.recipe, target.kind)
        context.emit_note(*fitted.recipe.notes, *fitted.findings)
        context.emit(StatisticsDone(rows=fitted.statistics.rows, seconds=time.monotonic() - start))
    statistics = fitted.statistics
    check_held_out(context.job.data, statistics.rows, statistics.validation_rows)
    missing = any(column.missing for column in statistics.columns.values())
    context.plan = plan.revised(
        rows=statistics.rows + statistics.validation_rows,
        missing=missing,
        params=params_of_rounds(surveyed.training.params, fitted),
    )
    asked = inputs.job.training.params
    label_params = {name: value for name, value in surveyed.training.params.items() if name not in asked}
    return PreparedData(inputs, target, units, fitted, in_memory_rows, context.plan, label_params)


def params_of_rounds(params: Mapping[str, Any], fitted: Fitted) -> dict[str, Any]:
    """XGBoost's parameters of the rounds: `params`, with what follows from the rows and our defaults for the others."""
    return with_defaults(with_category_threshold(params, fitted.recipe.levels, fitted.statistics.rows))


def _planned_on_disk(context: RunContext) -> bool:
    """Whether the resource plan, which knows what other stages take, has put the matrix on disk.  Workers of several
    sizes are decided one by one.
    """
    plan, limits = context.resource_plan, {worker.memory_limit for worker in context.placement.workers}
    return plan is not None and len(limits) == 1 and plan.layouts[0].storage.worker.matrix == "disk"


def _plan_trees(context: RunContext, training: Training, classes: int) -> None:
    """Plans again where the target's classes make other trees; ClusterError where a worker would surely be ended."""
    plan = context.resource_plan
    trees = trees_of_a_round(resolved_params(training.params), classes, len(training.quantiles))
    if plan is not None and trees != plan.size.trees:
        context.resource_plan = plan.with_size(trees=trees)
        context.resource_plan.validate()


def for_params(context: RunContext, prepared: PreparedData) -> PreparedData:
    """The same rows for other parameters of the trees: plans their memory; ClusterError where neither memory nor disk
    suffices.
    """
    params = {**prepared.label_params, **context.job.training.params}
    plan = prepared.plan.revised(params=params_of_rounds(params, prepared.fitted))
    plan.validate()
    context.plan = plan
    context.emit_note(*plan.notes)
    return dataclasses.replace(prepared, plan=plan)


def _drop_tables(context: RunContext) -> None:
    """Has the workers drop parsed tables that the statistics did not use: of fragments that were moved."""
    drop = functools.partial(drop_tables, context.run)
    ask_workers(context.client, {one.address: drop for one in context.placement.workers}, ANSWER_SECONDS)


def _fitted(context: RunContext, shared: PassConfig, parts: list[Future]) -> Callable[[], Fitted]:
    """Merges statistics while others are still collected."""
    merged = merge_in_order(context.client, parts)
    future = context.client.submit(fit, merged, shared, pure=False)
    return future.result  # a closure's frame would keep the future, with the error


@dataclass(frozen=True)
class SurveyedTarget:
    """What the survey of the target, time and group columns has shown."""

    inputs: Inputs  # without what cannot be read; ranking sources have fragments that split no query
    target: Target
    split: Split
    training_shares: tuple[float, ...]  # of each training fragment's rows; empty where fragments were joined
    training: Training  # the job's, with the parameters that follow from the labels
    cached: bool  # whether workers keep tables that were parsed for it


def survey_target(context: RunContext, inputs: Inputs, in_memory_rows: InMemoryRows) -> SurveyedTarget:
    """Surveys the target, time and group columns."""
    data, training = context.job.data, context.job.training
    plan = RowPlan(roles=inputs.roles, derivation=inputs.derivation, seed=training.seed)
    inputs = _cut_by_rows(context, inputs, in_memory_rows, plan)
    plans = [dataclasses.replace(plan) for _ in inputs.sources]  # `assign_units` tells the sources apart by their plans
    units = _units(inputs, plans)
    cache = TableCache(context.run, StoragePlan.of(inputs.survey(), context.placement.resources).keep_nbytes)
    cached = any(map(cache.takes, units))
    if cached:  # on the workers that will collect the statistics, but for what the survey moves
        units = assign_units(context.placement.workers, units)
    found = FragmentTasks(context, inputs, in_memory_rows).run(
        "survey", units, functools.partial(_gathered, context), survey_unit, cache
    )
    inputs, found = _without_bad(context, inputs, found)
    first = len(inputs.training.fragments)
    surveys = [merge_surveys(part) for part in (found[:first], found[first:]) if part]
    target = decide_target(data, training, surveys[0], inputs.schema)
    assert surveys[0].label is not None  # the target's
    context.emit_note(*target_findings(surveys[0].label, target, training.objective))
    check_metrics(training.metrics, target.objective)  # with metrics "auto" the task is known only now
    check_fitting(training.params, target.objective)
    for merged in surveys:
        if merged.label is not None:
            training = with_gain(training, target, merged.label)
            check_validation_labels(target.column, target.objective, training, merged.label)
    split = decide_split(data, surveys[0], inputs.schema, training.seed)
    shares = tuple(training_share(part, split) for part in found[:first])
    if inputs.roles.group is not None:
        shares = ()
        joined = [
            join_groups(source, inputs.roles.group, found.runs)
            for source, found in zip(inputs.sources, surveys, strict=True)
        ]
        inputs = inputs.with_sources(joined)
        in_memory_rows.recut()
    return SurveyedTarget(inputs, target, split, shares, training, cached)


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
    context: RunContext, inputs: Inputs, found: Sequence[TargetSurvey | SkippedFragment]
) -> tuple[Inputs, list[TargetSurvey]]:
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
    codes: Location = "memory",
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


def _planned(plan: StoragePlan, rows: int | None, resources: Plan | None) -> Planned:
    low, high = plan.nbytes, plan.nbytes_missing
    expected: dict[str, Any] = {}
    if resources is not None:
        one = resources.layouts[0]
        expected = {
            "seconds": (one.wall.low, one.wall.middle, one.wall.high),
            "round_seconds": one.forecast.round_seconds,
            "round_compute": one.forecast.round_compute,
        }
    return Planned(
        rows=rows,
        features=plan.shape.features,
        fragments=len(plan.survey.fragments),
        workers=plan.shape.workers,
        threads=plan.shape.threads,
        nbytes=low,
        note=f"{high / 1e9:.2f} GB if values are missing" if high > 1.1 * low else "",
        **expected,
    )
