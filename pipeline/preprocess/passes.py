"""The passes over the data, seen from the client: survey, statistics, blocks.

Each is one task per fragment; statistics and blocks run on the worker that will keep the fragment.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dask.delayed import Delayed
from dask.typing import Key
from distributed import Client, Future, KilledWorker, as_completed
from distributed.scheduler import NoValidWorkerError

from pipeline.cluster.partitions import assign
from pipeline.data.decide import decide_split, decide_target
from pipeline.data.fragments import Fragment, Piece
from pipeline.data.groups import join_groups
from pipeline.data.inputs import Inputs, reader
from pipeline.data.rows import RowPlan, Split
from pipeline.data.source import Source
from pipeline.data.target import Target
from pipeline.data.target_survey import merge_surveys, training_share
from pipeline.errors import DataError, TrainingError
from pipeline.events import BlocksDone, FragmentDone, Listener, Planned, StatisticsDone
from pipeline.planning.memory import Shape, estimate, spare_nbytes
from pipeline.preprocess.fit import (
    BlockFacts,
    Fitted,
    Pass,
    Unit,
    block_facts,
    collect_unit,
    fit,
    make_block,
    merge_in_order,
    survey_unit,
)
from pipeline.walk import Walk

VALIDATION_COST = 0.2  # of a validation row over a training row: it is read and evaluated

Sent = dict[tuple[Piece, ...], Future]  # rows that were in memory, by what their fragment is made of


@dataclass(frozen=True)
class Prepared:
    """What is known once every training row has been read once."""

    inputs: Inputs
    target: Target
    units: tuple[Unit, ...]  # in the order of the fragments
    fitted: Fitted
    fitted_future: Future  # the same, on the cluster


@dataclass(frozen=True)
class Share:
    """The blocks of one worker."""

    worker: str  # address
    blocks: tuple[Future, ...]  # in the order of the fragments


@dataclass(frozen=True)
class Blocks:
    """All blocks, by the workers that take part in the training."""

    shares: tuple[Share, ...]
    train_rows: int
    validation_rows: int


def prepare(walk: Walk, inputs: Inputs) -> Prepared:
    """From files to a recipe and cuts: the survey and the statistics pass.

    DataError, of whatever task finds it, where the rows cannot be trained on.
    """
    with walk.clock.stage("survey"):
        sent: Sent = {}
        inputs, target, split, shares = survey(walk, inputs, sent)
        units = _units(walk, inputs, _row_plans(walk, inputs, target, split), sent)
        known = itertools.chain(shares, itertools.repeat(1.0))
        units = tuple(dataclasses.replace(unit, training_share=next(known)) for unit in units)
        units = assign_units(walk, units)
        sent.clear()  # the units hold what they need; rows of fragments that were joined since may go
        shape = _shape(walk, inputs, target, units)
        walk.listen(_planned(walk, inputs, shape, len(units)))
    with walk.clock.stage("statistics"):
        start = time.time()
        shared = Pass(
            run=walk.run,
            preprocess=walk.job.preprocess,
            training=walk.job.training,
            target=target,
            expected_rows=inputs.rows,
            keep_nbytes=spare_nbytes(shape) // shape.workers,
        )
        parts = submit_units(walk.client, collect_unit, units, shared)
        merged = merge_in_order(walk.client, parts)
        wait_for(parts, "statistics", walk.listen, units)
        del parts  # the cluster may forget what has been merged
        future = walk.client.submit(fit, merged, shared, pure=False)
        fitted: Fitted = result_of(future)
        walk.note(*fitted.recipe.notes)
        walk.listen(StatisticsDone(rows=fitted.statistics.rows, seconds=time.time() - start))
    return Prepared(inputs, target, units, fitted, future)


def survey(walk: Walk, inputs: Inputs, sent: Sent) -> tuple[Inputs, Target, Split, list[float]]:
    """A first look at target, time and group columns; ranking sources get fragments that split no query.

    Also the share of each training fragment's rows that will train; none where fragments were joined.  Rows that were in memory and are on the cluster now are kept in `sent`.
    """
    data, training = walk.job.data, walk.job.training
    plan = RowPlan(roles=inputs.roles, derivation=inputs.derivation, seed=training.seed)
    units = _units(walk, inputs, [plan] * len(inputs.sources), sent)
    futures = submit_units(walk.client, survey_unit, units)
    wait_for(futures, "survey", walk.listen, units)
    found = walk.client.gather(futures)
    first = len(inputs.training.fragments)
    surveys = [merge_surveys(part) for part in (found[:first], found[first:]) if part]
    target = decide_target(data, training, surveys[0], inputs.schema)
    split = decide_split(data, surveys[0], inputs.schema, training.seed)
    shares = [training_share(part, split) for part in found[:first]]
    if inputs.roles.group is not None:
        shares = []
        joined = [
            join_groups(source, inputs.roles.group, found.runs)
            for source, found in zip(inputs.sources, surveys, strict=True)
        ]
        inputs = inputs.with_sources(joined)
    return inputs, target, split, shares


def make_blocks(walk: Walk, prepared: Prepared) -> Blocks:
    """The second pass: every fragment as a block on its worker.  DataError where no row is left to train on."""
    start = time.time()
    units = prepared.units
    shared = Pass(
        run=walk.run,
        preprocess=walk.job.preprocess,
        training=walk.job.training,
        target=prepared.target,
        expected_rows=None,
        keep_nbytes=0,
    )
    blocks = submit_units(walk.client, make_block, units, shared, prepared.fitted_future)
    wait_for(blocks, "blocks", walk.listen, units)
    known = [
        walk.client.submit(block_facts, block, workers=[str(unit.worker)], pure=False)
        for block, unit in zip(blocks, units, strict=True)
    ]
    facts: list[BlockFacts] = walk.client.gather(known)
    train, validation = sum(fact.train_rows for fact in facts), sum(fact.validation_rows for fact in facts)
    if train == 0:
        raise DataError("no row is left to train on: see data.where, data.validation and the target's missing values")
    walk.listen(
        BlocksDone(rows=train + validation, nbytes=sum(fact.nbytes for fact in facts), seconds=time.time() - start)
    )
    return Blocks(_shares(units, blocks, facts), train, validation)


def _shares(units: Sequence[Unit], blocks: Sequence[Future], facts: Sequence[BlockFacts]) -> tuple[Share, ...]:
    """The blocks by worker.  A worker without training rows cannot take part: its blocks go to the first that has."""
    train_rows: dict[str, int] = {}
    for unit, fact in zip(units, facts, strict=True):
        train_rows[str(unit.worker)] = train_rows.get(str(unit.worker), 0) + fact.train_rows
    # In the order of their first fragments: addresses hold random ports, and sums follow the order of the ranks.
    workers = [worker for worker, rows in train_rows.items() if rows > 0]
    mine: dict[str, list[Future]] = {worker: [] for worker in workers}
    for unit, block in zip(units, blocks, strict=True):
        mine.get(str(unit.worker), mine[workers[0]]).append(block)
    return tuple(Share(worker, tuple(futures)) for worker, futures in mine.items())


def submit_units(client: Client, task: Callable[..., Any], units: Iterable[Unit], *arguments: Any) -> list[Future]:
    """One future of `task(unit, payload, *arguments)` for each unit, in their order, on the unit's worker if it has one."""
    return [
        client.submit(
            task,
            dataclasses.replace(unit, payload=None),
            unit.payload,
            *arguments,
            workers=None if unit.worker is None else [unit.worker],
            allow_other_workers=False,
            pure=False,
        )
        for unit in units
    ]


def wait_for(futures: Sequence[Future], stage: str, listen: Listener, units: Sequence[Unit]) -> None:
    """Waits for all futures and says how many are done; the first error cancels the others and is raised."""
    rows: dict[Key, int] = {
        future.key: unit.fragment.rows or 0 for future, unit in zip(futures, units, strict=True)
    }  # fmt: skip
    done = done_rows = 0
    try:
        for future in as_completed(futures):
            if future.status != "finished":
                result_of(future)
            done += 1
            done_rows += rows[future.key]
            listen(FragmentDone(stage=stage, done=done, total=len(futures), rows=done_rows))
    except BaseException:
        if futures:
            futures[0].client.cancel(list(futures))  # in one call: each asks the scheduler and waits
        raise


def result_of(future: Future) -> Any:
    """What the task returned or raised; a worker that died under it becomes a TrainingError."""
    try:
        return future.result()
    except (KilledWorker, NoValidWorkerError) as error:
        raise TrainingError(f"a worker died while it worked on the data, perhaps out of memory: {error}") from None


def _row_plans(walk: Walk, inputs: Inputs, target: Target, split: Split) -> list[RowPlan]:
    """How the rows of each source are read: those of a validation source all validate."""
    plan = RowPlan(
        roles=inputs.roles, derivation=inputs.derivation, target=target, split=split, seed=walk.job.training.seed
    )
    return [plan, dataclasses.replace(plan, split=Split("all_validation"))][: len(inputs.sources)]


def _units(walk: Walk, inputs: Inputs, plans: Sequence[RowPlan], sent: Sent) -> tuple[Unit, ...]:
    """Every fragment of every source, in order."""
    return tuple(
        Unit(reader(source), fragment, plan, payload=_payload(walk.client, source, fragment, sent))
        for source, plan in zip(inputs.sources, plans, strict=True)
        for fragment in source.fragments
    )


def _payload(client: Client, source: Source, fragment: Fragment, sent: Sent) -> Any:
    """Rows in memory travel once: partitions of a Dask DataFrame are computed on the cluster, Arrow slices are sent."""
    if source.frame is None:
        return None
    if fragment.pieces not in sent:
        rows = source.payload(fragment)
        sent[fragment.pieces] = client.compute(rows) if isinstance(rows, Delayed) else client.scatter(rows, hash=False)
    return sent[fragment.pieces]


def assign_units(walk: Walk, units: Sequence[Unit]) -> tuple[Unit, ...]:
    """The units with their workers: by capability, for training and validation files apart.

    What counts is the work to come: rows that validate are read like the others, but trees are not grown on them.
    """
    workers = walk.placement.workers
    placed: dict[int, str] = {}
    for plan in dict.fromkeys(id(unit.rows) for unit in units):
        places = [place for place, unit in enumerate(units) if id(unit.rows) == plan]
        sizes = [_load(units[place]) for place in places]
        for worker, share in zip(workers, assign(sizes, [w.capability for w in workers]), strict=True):
            placed |= {places[index]: worker.address for index in share}
    return tuple(dataclasses.replace(unit, worker=placed[place]) for place, unit in enumerate(units))


def _load(unit: Unit) -> int:
    """The unit's bytes, those of validation rows counted by what they cost of a training row."""
    return max(1, round(unit.fragment.nbytes * (VALIDATION_COST + (1 - VALIDATION_COST) * unit.training_share)))


def _shape(walk: Walk, inputs: Inputs, target: Target, units: Sequence[Unit]) -> Shape:
    """What the run's memory depends on, as far as metadata tell; rows of text files are estimated from their bytes."""
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
    """The depth of trees; XGBoost's default of 6 where none, or nothing that is a depth, is asked for."""
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
