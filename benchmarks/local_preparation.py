"""Prepares rows in this process: from a job to blocks, what the cluster's tasks do, one after the other."""

import dataclasses
import itertools
import uuid
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pipeline.config.job import Job
from pipeline.config.metric_registry import check_metrics
from pipeline.config.parameters import check_fitting
from pipeline.data.frames import computed
from pipeline.data.groups import join_groups
from pipeline.data.opened_sources import Inputs, reader
from pipeline.data.reading import count_rows
from pipeline.data.rows import RowPlan, Split
from pipeline.data.schema.target import Target
from pipeline.data.schema.target_inference import check_held_out, decide_split, decide_target
from pipeline.data.schema.target_survey import TargetSurvey, merge_surveys
from pipeline.data.source import cut_by_rows
from pipeline.errors import DataError
from pipeline.preprocess.block import Block
from pipeline.preprocess.constraints import check_constraints
from pipeline.preprocess.fit import (
    Fitted,
    FragmentTask,
    PassConfig,
    TableCache,
    block_facts,
    collect_unit,
    fit,
    make_block,
    survey_unit,
)
from pipeline.preprocess.statistics.collect import merge
from pipeline.run.metadata import resolve


@dataclass(frozen=True)
class Ready:
    """All that training needs, as `pipeline.train` has it before the matrices."""

    inputs: Inputs
    target: Target
    fitted: Fitted
    units: tuple[tuple[FragmentTask, Any], ...]  # with what each is read from besides files
    blocks: tuple[Block, ...]


def prepare(job: Job, source: Any = None, *, sample_seed: int | None = None) -> Ready:
    """Survey, statistics, recipe and blocks; UserError where the job or the data cannot be trained on.

    `sample_seed`: of the sampled rows and of folds; None: the job's seed, which also chooses the held-out rows.
    """
    inputs = _cut_by_rows(resolve(job, source))
    training = inputs.job.training
    plan = RowPlan(roles=inputs.roles, derivation=inputs.derivation, seed=training.seed)
    units = _units(inputs, [plan] * 2)
    found = [survey for unit in units if isinstance(survey := survey_unit(*unit, TableCache("local", 0)), TargetSurvey)]
    assert len(found) == len(units)  # none is skipped
    first = len(inputs.training.fragments)
    surveys = [merge_surveys(part) for part in (found[:first], found[first:]) if part]
    target = decide_target(inputs.job.data, training, surveys[0], inputs.schema)
    check_metrics(training.metrics, target.objective)
    check_fitting(training.params, target.objective)
    split = decide_split(inputs.job.data, surveys[0], inputs.schema, training.seed)
    if inputs.roles.group is not None:
        sources = zip(inputs.sources, surveys, strict=True)
        inputs = inputs.with_sources([join_groups(one, inputs.roles.group, seen.runs) for one, seen in sources])
    plan = dataclasses.replace(plan, target=target, split=split)
    units = _units(inputs, [plan, dataclasses.replace(plan, split=Split("all_validation"))])
    shared = PassConfig(
        run=uuid.uuid4().hex,
        preprocess=inputs.job.preprocess,
        training=training if sample_seed is None else training.model_copy(update={"seed": sample_seed}),
        target=target,
        expected_rows=inputs.rows,
        keep_nbytes=0,
        row_order="key" if training.row_order == "key" and inputs.roles.group is None else "source",
    )
    fitted = fit(reduce(merge, [collect_unit(*unit, shared) for unit in units]), shared)
    check_constraints(training, fitted.recipe, target.kind)
    check_held_out(inputs.job.data, fitted.statistics.rows, fitted.statistics.validation_rows)
    blocks = tuple(make_block(*unit, shared, fitted.encoder) for unit in units)
    if not any(block_facts(block).train_rows for block in blocks):
        raise DataError("no row is left to train on")
    return Ready(inputs, target, fitted, units, blocks)


def _cut_by_rows(inputs: Inputs) -> Inputs:
    """Partitions of a Dask DataFrame are computed and counted first."""
    source = inputs.training
    if source.format != "dask":
        return inputs
    rows = [int(fragment.rows or 0) for fragment in count_rows(source).fragments]
    cut = cut_by_rows(source, rows, inputs.job.data.fragment_mib * 2**20)
    return inputs.with_sources([cut, *inputs.sources[1:]])


def _units(inputs: Inputs, plans: list[RowPlan]) -> tuple[tuple[FragmentTask, Any], ...]:
    return tuple(
        itertools.chain.from_iterable(
            (
                (FragmentTask(reader(source), fragment, plan), computed(source.payload(fragment)))
                for fragment in source.fragments
            )
            for source, plan in zip(inputs.sources, plans, strict=False)
        )
    )
