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

from pipeline.config.metric_names import check_metrics
from pipeline.config.parameters import check_fitting
from pipeline.data.groups import join_groups
from pipeline.data.inputs import Inputs, reader
from pipeline.data.rows import RowPlan, Split
from pipeline.data.schema.decide import check_held_out, decide_split, decide_target
from pipeline.data.schema.label_limits import check_validation_labels, with_gain
from pipeline.data.schema.target import Target
from pipeline.data.schema.target_survey import Survey, merge_surveys, training_share
from pipeline.data.skipping import Bad, note
from pipeline.data.source import cut_by_rows
from pipeline.events.types import BlocksDone, Planned, Skipped, StatisticsDone
from pipeline.planning.assignment import assign
from pipeline.planning.memory import (
    FITTING_SHARE,
    MIB,
    Shape,
    Where,
    choose_codes,
    choose_matrix,
    estimate,
    spare_nbytes,
    worker_need,
)
from pipeline.preprocess.constraints import check_constraints
from pipeline.preprocess.fit import (
    BlockFacts,
    Fitted,
    Pass,
    Unit,
    block_facts,
    collect_unit,
    count_unit,
    fit,
    make_block,
    merge_in_order,
    survey_unit,
)
from pipeline.preprocess.task_map import Passing, Payloads, as_it_is
from pipeline.runtime.context import Walk
from pipeline.runtime.nannies import more_memory
from pipeline.runtime.placement import WorkerInfo
from pipeline.runtime.shared_value import SharedValue

VALIDATION_COST = 0.2  # cost of a validation row relative to a training row: it is read and evaluated


@dataclass(frozen=True)
class Prepared:
    """The results of the first reading of all training rows."""

    inputs: Inputs
    target: Target
    units: tuple[Unit, ...]  # in the order of the fragments
    fitted: Fitted
    payloads: Payloads
    shape: Shape  # what memory depends on, as far as known at this point

    def storage(self, asked: Where, rows: int, memory_limit_nbytes: int) -> "Storage":
        """Where a worker with `rows` rows and this limit (0: none) keeps its matrix and codes; ClusterError."""
        matrix = choose_matrix(asked, self.shape, rows, memory_limit_nbytes)
        codes = choose_codes(matrix, self.shape, rows, memory_limit_nbytes)
        return Storage(matrix, codes, worker_need(self.shape, rows).nbytes(matrix, codes))


@dataclass(frozen=True)
class Storage:
    """Where a worker keeps its matrix and codes."""

    matrix: Literal["memory", "disk"]
    codes: Literal["memory", "disk"]  # of the blocks, until the matrix is built
    planned_nbytes: int  # expected peak of the worker


def prepare(walk: Walk, inputs: Inputs) -> Prepared:
    """From files to a recipe and cuts: the survey and the statistics pass.

    DataError, from whichever task finds it, where the rows cannot be trained on.
    """
    payloads = Payloads(walk.client)
    with walk.clock.stage("survey"):
        inputs, target, split, shares = survey(walk, inputs, payloads)
        units = _units(inputs, _row_plans(walk, inputs, target, split))
        known = itertools.chain(shares, itertools.repeat(1.0))
        units = tuple(dataclasses.replace(unit, training_share=next(known)) for unit in units)
        shape = _shape(walk, inputs, target, units)
        first = _first_guess(walk, shape)
        walk.listen(_planned(walk, inputs, shape, len(units)))
        _compare_with_limit(walk, shape, first)
    with walk.clock.stage("statistics"):
        start = time.monotonic()
        shared = Pass(
            run=walk.run,
            preprocess=walk.job.preprocess,
            training=walk.job.training,
            target=target,
            expected_rows=inputs.rows,
            keep_nbytes=spare_nbytes(shape) // shape.workers if first == "memory" else 0,
        )
        placed = assign_units(walk.placement.workers, units)
        fit_them = functools.partial(_fitted, walk, shared)
        fitted = Passing(walk, inputs, payloads).run("statistics", placed, fit_them, collect_unit, shared)
        payloads.keep_fragments()
        check_constraints(walk.job.training, fitted.recipe, target.kind)
        walk.note(*fitted.recipe.notes, *fitted.findings)
        walk.listen(StatisticsDone(rows=fitted.statistics.rows, seconds=time.monotonic() - start))
    statistics = fitted.statistics
    check_held_out(walk.job.data, statistics.rows, statistics.validation_rows)
    missing = any(column.missing for column in statistics.columns.values())
    now_known = dataclasses.replace(shape, rows=statistics.rows + statistics.validation_rows, missing=missing)
    return Prepared(inputs, target, units, fitted, payloads, now_known)


def _first_guess(walk: Walk, shape: Shape) -> Literal["memory", "disk"]:
    """Where the matrices will be, from metadata alone; ClusterError, before a row is read, where neither memory nor
    disk would do.
    """
    return choose_matrix(asked_matrix(walk), shape, _rows_of_one(shape), _least_limit(walk))


def _compare_with_limit(walk: Walk, shape: Shape, matrix: Literal["memory", "disk"]) -> None:
    """Records the expected memory of a worker; emits a note where it hardly fits."""
    limit, rows = _least_limit(walk), _rows_of_one(shape)
    planned = worker_need(shape, rows).nbytes(matrix, choose_codes(matrix, shape, rows, limit))
    walk.planned_nbytes = planned
    if limit and planned > FITTING_SHARE * limit:
        walk.note(
            f"a worker is expected to take {planned / MIB:,.0f} MiB, and is ended near its limit of "
            f"{limit / MIB:,.0f} MiB: {more_memory(walk.client)}"
        )


def _least_limit(walk: Walk) -> int:
    """The smallest of the workers' memory limits, in bytes; 0: none."""
    return min((worker.memory_limit for worker in walk.placement.workers if worker.memory_limit), default=0)


def _rows_of_one(shape: Shape) -> int:
    return -(-shape.rows // shape.workers)


def asked_matrix(walk: Walk) -> Where:
    """The job's setting; on GPUs "auto" means memory: Dask's limit is not about GPU memory."""
    asked = walk.job.training.matrix
    return "memory" if asked == "auto" and walk.placement.device == "cuda" else asked


def _fitted(walk: Walk, shared: Pass, parts: list[Future]) -> Callable[[], Fitted]:
    """Merges statistics while others are still collected."""
    merged = merge_in_order(walk.client, parts)
    future = walk.client.submit(fit, merged, shared, pure=False)
    return future.result  # a closure's frame would keep the future, with the error


def survey(walk: Walk, inputs: Inputs, payloads: Payloads) -> tuple[Inputs, Target, Split, list[float]]:
    """Surveys the target, time and group columns; ranking sources get fragments that split no query.

    Also the share of each training fragment's rows that will train; none where fragments were joined.
    """
    data, training = walk.job.data, walk.job.training
    plan = RowPlan(roles=inputs.roles, derivation=inputs.derivation, seed=training.seed)
    inputs = _cut_by_rows(walk, inputs, payloads, plan)
    units = _units(inputs, [plan] * len(inputs.sources))
    found = Passing(walk, inputs, payloads).run("survey", units, functools.partial(_gathered, walk), survey_unit)
    inputs, found = _without_bad(walk, inputs, found)
    first = len(inputs.training.fragments)
    surveys = [merge_surveys(part) for part in (found[:first], found[first:]) if part]
    target = decide_target(data, training, surveys[0], inputs.schema)
    check_metrics(training.metrics, target.objective)  # with metrics "auto" the task is known only now
    check_fitting(training.params, target.objective)
    for merged in surveys:
        if merged.label is not None:
            walk.job = with_gain(walk.job, target, merged.label)
            check_validation_labels(target.column, target.objective, walk.job.training, merged.label)
    split = decide_split(data, surveys[0], inputs.schema, training.seed)
    shares = [training_share(part, split) for part in found[:first]]
    if inputs.roles.group is not None:
        shares = []
        joined = [
            join_groups(source, inputs.roles.group, found.runs)
            for source, found in zip(inputs.sources, surveys, strict=True)
        ]
        inputs = inputs.with_sources(joined)
        payloads.recut()
    return inputs, target, split, shares


def _cut_by_rows(walk: Walk, inputs: Inputs, payloads: Payloads, plan: RowPlan) -> Inputs:
    """Cuts a Dask collection into fragments that do not depend on its partitioning: its partitions are computed and
    counted.

    The partitions stay on the cluster: the passes need them.
    """
    source = inputs.training
    if source.format != "dask":
        return inputs
    counts = [fragment.rows for fragment in source.fragments]
    if None in counts:
        units = tuple(Unit(reader(source), fragment, plan) for fragment in source.fragments)
        counts = Passing(walk, inputs, payloads).run("count", units, functools.partial(_gathered, walk), count_unit)
        payloads.recut()
    cut = cut_by_rows(source, [rows or 0 for rows in counts], walk.job.data.fragment_mib * MIB)
    return inputs.with_sources([cut, *inputs.sources[1:]])


def _without_bad(walk: Walk, inputs: Inputs, found: Sequence[Survey | Bad]) -> tuple[Inputs, list[Survey]]:
    """The inputs and the surveys without the fragments that cannot be read; emits a note for them."""
    bad = [item for item in found if isinstance(item, Bad)]
    for item in bad:
        walk.happened(Skipped(fragment=item.fragment, reason=item.reason))
    if bad:
        walk.note(note(bad, len(found)))
        inputs = inputs.without(bad)
    return inputs, [item for item in found if not isinstance(item, Bad)]


def _gathered(walk: Walk, parts: list[Future]) -> Callable[[], list[Any]]:
    return functools.partial(walk.client.gather, parts)


@dataclass(frozen=True)
class Made:
    """Blocks on the cluster, by their places among the units."""

    blocks: dict[int, Future]
    facts: dict[int, BlockFacts]


def make_blocks(
    walk: Walk, prepared: Prepared, workers: Mapping[int, str], codes: Literal["memory", "disk"] = "memory"
) -> Made:
    """The second pass: fragments (by their places among the units) as blocks, on these workers (addresses).

    `codes`: where blocks are kept until their matrix is built.  If a worker dies, its blocks are made elsewhere.
    """
    start = time.monotonic()
    places = sorted(workers)
    units = [dataclasses.replace(prepared.units[place], worker=workers[place]) for place in places]
    shared = Pass(
        run=walk.run,
        preprocess=walk.job.preprocess,
        training=walk.job.training,
        target=prepared.target,
        expected_rows=None,
        keep_nbytes=0,
        scratch=walk.job.cluster.scratch,
        codes=codes,
    )
    # As a task, not as scattered data, which would be lost with the worker that holds it.
    coding = SharedValue(functools.partial(walk.client.submit, as_it_is, prepared.fitted.coding, pure=False))
    blocks, facts = Passing(walk, prepared.inputs, prepared.payloads).run(
        "blocks", units, functools.partial(_with_facts, walk), make_block, shared, coding
    )
    train, validation = sum(fact.train_rows for fact in facts), sum(fact.validation_rows for fact in facts)
    walk.listen(
        BlocksDone(rows=train + validation, nbytes=sum(fact.nbytes for fact in facts), seconds=time.monotonic() - start)
    )
    return Made(dict(zip(places, blocks, strict=True)), dict(zip(places, facts, strict=True)))


def _with_facts(walk: Walk, blocks: list[Future]) -> Callable[[], tuple[list[Future], list[BlockFacts]]]:
    facts = [walk.client.submit(block_facts, block, pure=False) for block in blocks]
    return functools.partial(_both, walk, blocks, facts)


def _both(walk: Walk, blocks: list[Future], facts: list[Future]) -> tuple[list[Future], list[BlockFacts]]:
    return blocks, walk.client.gather(facts)


def _row_plans(walk: Walk, inputs: Inputs, target: Target, split: Split) -> list[RowPlan]:
    """How the rows of each source are read: all rows of a validation source validate."""
    plan = RowPlan(
        roles=inputs.roles, derivation=inputs.derivation, target=target, split=split, seed=walk.job.training.seed
    )
    return [plan, dataclasses.replace(plan, split=Split("all_validation"))][: len(inputs.sources)]


def _units(inputs: Inputs, plans: Sequence[RowPlan]) -> tuple[Unit, ...]:
    """Every fragment of every source, in order."""
    return tuple(
        Unit(reader(source), fragment, plan)
        for source, plan in zip(inputs.sources, plans, strict=True)
        for fragment in source.fragments
    )


def assign_units(workers: Sequence[WorkerInfo], units: Sequence[Unit]) -> tuple[Unit, ...]:
    """The units with their workers: by capability, for training and validation files apart."""
    placed: dict[int, str] = {}
    for plan in dict.fromkeys(id(unit.rows) for unit in units):
        places = [place for place, unit in enumerate(units) if id(unit.rows) == plan]
        sizes = [load(units[place]) for place in places]
        for worker, share in zip(workers, assign(sizes, [w.capability for w in workers]), strict=True):
            placed |= {places[index]: worker.address for index in share}
    return tuple(dataclasses.replace(unit, worker=placed[place]) for place, unit in enumerate(units))


def load(unit: Unit) -> int:
    """The unit's bytes, validation rows weighted by their cost relative to a training row.

    The load is the remaining work: validation rows are read like the others, but no trees are grown on them.
    """
    return max(1, round(unit.fragment.nbytes * (VALIDATION_COST + (1 - VALIDATION_COST) * unit.training_share)))


def _shape(walk: Walk, inputs: Inputs, target: Target, units: Sequence[Unit]) -> Shape:
    """What the run's memory depends on, as far as metadata show; rows of text files are estimated from their bytes."""
    training, workers = walk.job.training, walk.placement.workers
    features = len(inputs.roles.features)
    rows = [unit.fragment.rows or unit.fragment.nbytes // (8 * max(1, features)) for unit in units]
    return Shape(
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


def _planned(walk: Walk, inputs: Inputs, shape: Shape, fragments: int) -> Planned:
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
