"""Defines the Dask tasks of the two passes: fragments to statistics, statistics to a recipe, fragments to blocks.

A pass runs each fragment on the worker that will keep it.  Rows read in the first pass stay there for the
second while they fit in memory that training will need anyway, so that keeping them never raises the run's peak.
Within the same bounds the survey parses a fragment of text whole and keeps the table for the first pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from distributed import Client, Future

from pipeline.config.encoding import ENCODING
from pipeline.config.job import Preprocess, Training
from pipeline.data.formats.text import TEXT_FORMATS
from pipeline.data.fragments import Fragment
from pipeline.data.reading import read_fragment
from pipeline.data.rows import VALIDATION, RowPlan, Rows, load_rows
from pipeline.data.schema.target import Target
from pipeline.data.schema.target_survey import TargetSurvey, survey_fragment
from pipeline.data.skipped import SkippedFragment, turned_bad
from pipeline.data.source import Source
from pipeline.errors import BadFragment
from pipeline.events.findings import Finding
from pipeline.preprocess.apply import feature_columns, matrix
from pipeline.preprocess.bins import Cuts, encode, make_cuts
from pipeline.preprocess.block import Block
from pipeline.preprocess.explains import explaining
from pipeline.preprocess.findings import statistics_findings
from pipeline.preprocess.recipe import Recipe, fit_recipe
from pipeline.preprocess.row_cache import row_cache
from pipeline.preprocess.row_order import RowOrder, fit_row_order, sample_rows
from pipeline.preprocess.settings import column_settings
from pipeline.preprocess.statistics.collect import Statistics, collect, merge
from pipeline.preprocess.statistics.sample import RowSample
from pipeline.preprocess.training_rows import check_rows, class_weights, mean_label
from pipeline.runtime.task_errors import task
from pipeline.runtime.task_ledger import timed_section
from pipeline.runtime.timing import span
from pipeline.storage.scratch import memory_is_short, open_scratch

FAN_IN = 8  # statistics merged by one task
PREVIEW_VALUES = 4 << 20  # the preview travels to every worker and to the client
PREVIEW_ROWS = 4_096  # sampled rows kept for the report's permutation importance


@dataclass(frozen=True)
class FragmentTask:
    """One fragment's work."""

    source: Source  # without its fragments: small, because every task carries it
    fragment: Fragment
    rows: RowPlan
    worker: str | None = None  # the address of the worker it belongs to; None: any worker
    training_share: float = 1.0  # share of its rows that train, as estimated by the survey


@dataclass(frozen=True)
class TableCache:
    """What the survey needs to keep the tables that it parses."""

    run: str
    limit_nbytes: int  # of one worker

    @staticmethod
    def takes(unit: FragmentTask) -> bool:
        """Whether a fragment's table is kept: of text, where parsing is the cost.

        Not of CSV with queries: nearly every fragment ends within one, and is joined with the next.
        """
        kind = unit.source.format
        return kind in TEXT_FORMATS and not (kind == "csv" and unit.rows.roles.group is not None)


@dataclass(frozen=True)
class PassConfig:
    """What every task of a pass needs in addition to its unit."""

    run: str
    preprocess: Preprocess
    training: Training
    target: Target
    expected_rows: int | None  # of all fragments, where the format has counts
    keep_nbytes: int  # raw rows one worker may keep between the passes
    scratch: str | None = None  # `cluster.scratch`
    codes: Literal["memory", "disk"] = "memory"  # where blocks keep theirs; memory falls back to disk when it is short
    row_order: Literal["key", "source"] = "source"  # of the rows within a block


@dataclass(frozen=True)
class BlockFacts:
    """What the client needs to know about a block that stays on its worker."""

    train_rows: int
    validation_rows: int
    nbytes: int  # of all arrays
    disk_nbytes: int = 0  # of those in files


@dataclass(frozen=True)
class BlockEncoder:
    """What tasks need to make blocks."""

    recipe: Recipe
    cuts: Cuts
    class_weight: tuple[float, ...]  # by class index; empty where classes weigh the same
    row_order: RowOrder | None  # None: as they are read


@dataclass(frozen=True)
class Fitted:
    """The result of the first pass: the recipe, the cuts, and facts about the training rows."""

    recipe: Recipe
    cuts: Cuts
    statistics: Statistics  # without its sample
    preview: np.ndarray  # (sampled rows, features) float32
    preview_label: np.ndarray  # (sampled rows,) float32
    class_weight: tuple[float, ...]  # by class index; empty where classes weigh the same
    mean_label: float  # weighted; most objectives derive their intercept from it
    row_order: RowOrder | None = None  # of the rows within a block; None: as they are read
    findings: tuple[Finding, ...] = ()  # data that the user can hardly have meant

    @property
    def encoder(self) -> BlockEncoder:
        return BlockEncoder(self.recipe, self.cuts, self.class_weight, self.row_order)


@task
def count_unit(unit: FragmentTask, payload: list[Any]) -> int:
    """The rows of a partition, which the previous task has computed."""
    return sum(map(len, payload))


@task
def survey_unit(unit: FragmentTask, payload: object, cache: TableCache) -> TargetSurvey | SkippedFragment:
    """Surveys one fragment's target, time and group; SkippedFragment where it cannot be read and may be left out.

    Of a fragment that the cache takes, all columns are parsed at once and kept on this worker, where they fit.
    """
    with span("survey"):
        try:
            if cache.takes(unit) and row_cache(cache.run).has_room(unit.fragment, cache.limit_nbytes):
                table = read_fragment(unit.source, unit.fragment, unit.rows.roles.read, payload)
                found = survey_fragment(unit.source, unit.fragment, unit.rows, table)
                row_cache(cache.run).keep_table(unit.fragment, table, cache.limit_nbytes)
                del table
                _release_arrow_memory()
                return found
            return survey_fragment(unit.source, unit.fragment, unit.rows, payload)
        except BadFragment as error:
            if not unit.source.skip_bad:
                raise
            return SkippedFragment(unit.fragment.index, unit.fragment.rows, str(error))


def _read(unit: FragmentTask, payload: object) -> Rows:
    with timed_section("reading"):
        try:
            return load_rows(unit.source, unit.fragment, unit.rows, payload)
        except BadFragment as error:
            if unit.source.skip_bad:  # the survey has read it
                raise turned_bad(error) from None
            raise


@task
def collect_unit(unit: FragmentTask, payload: object, shared: PassConfig) -> Statistics:
    """First pass: the statistics of one fragment's training rows."""
    with span("statistics"):
        table = row_cache(shared.run).take_table(unit.fragment)
        rows = _read(unit, payload if table is None else table)
        del table
        statistics = collect(
            rows, shared.preprocess, shared.target, seed=shared.training.seed, expected_rows=shared.expected_rows
        )
        row_cache(shared.run).keep_rows(rows, shared.keep_nbytes)
        del rows
        _release_arrow_memory()
        return statistics


def merge_in_order(client: Client, parts: Sequence[Future]) -> Future:
    """One future of all statistics, merged as a tree in the order of the fragments, whichever workers computed them."""
    parts = list(parts)
    while len(parts) > 1:
        parts = [client.submit(_merge_all, parts[i : i + FAN_IN], pure=False) for i in range(0, len(parts), FAN_IN)]
    return parts[0]


@task
def _merge_all(parts: Sequence[Statistics]) -> Statistics:
    with timed_section("merge"):
        merged = parts[0]
        for part in parts[1:]:
            merged = merge(merged, part)
        return merged


@task
def fit(statistics: Statistics, shared: PassConfig) -> Fitted:
    """The recipe, the cuts and the intercept that follow from the statistics.

    DataError where the training rows cannot be trained on (infinite features, no features left).
    """
    with span("fit"):
        check_rows(statistics, shared.target)
        recipe = fit_recipe(statistics, shared.preprocess, shared.target)
        settings = column_settings(shared.preprocess, list(statistics.types))
        confirmed = [name for name, setting in settings.items() if setting.kind != "auto"]
        sample = statistics.sample
        by_class = class_weights(shared.target, statistics.class_counts, shared.training)
        weight = weigh(sample.label, sample.weight, by_class)
        cuts = make_cuts(
            feature_columns(recipe, sample.table, fold_keys=sample.fold_keys),
            recipe.levels,
            weights=weight,
            max_bin=shared.training.max_bin,
        )
        preview = sample.head(min(PREVIEW_ROWS, max(256, PREVIEW_VALUES // len(recipe.features))))
        return Fitted(
            recipe=recipe,
            cuts=cuts,
            statistics=statistics.without_sample(),
            preview=matrix(recipe, preview.table),
            preview_label=preview.label,
            class_weight=by_class,
            mean_label=mean_label(statistics, by_class),
            row_order=_fit_row_order(sample, by_class, recipe, cuts, shared.target)
            if shared.row_order == "key"
            else None,
            findings=(
                *statistics_findings(statistics, recipe, shared.target, confirmed),
                *explaining(recipe, sample, shared.target, confirmed),
            ),
        )


def _fit_row_order(
    sample: RowSample, by_class: tuple[float, ...], recipe: Recipe, cuts: Cuts, target: Target
) -> RowOrder:
    """The order of rows that a sample gives."""
    sample = sample.head(sample_rows(len(cuts)))
    codes = _encoded(recipe, cuts, sample.table, sample.fold_keys)
    weight = weigh(sample.label, sample.weight, by_class)
    classes = len(target.classes) if target.kind == "multiclass" else 0
    return fit_row_order(codes, sample.label, weight, cuts.levels, classes)


@task
def make_block(unit: FragmentTask, payload: object, shared: PassConfig, fitted: BlockEncoder) -> Block:
    """Second pass: one fragment as bin codes, with its labels and weights."""
    with span("blocks"):
        rows = row_cache(shared.run).take_rows(unit.fragment.index)
        if rows is None:
            rows = _read(unit, payload)
        assert rows.label is not None  # the plan has a target
        codes = _codes(rows, fitted)
        block = Block(
            fragment=unit.fragment.index,
            codes=codes,
            label=rows.label,
            weight=weigh(rows.label, rows.weight, fitted.class_weight),
            group=rows.group,
            row_ids=rows.row_ids,
            use=rows.use,
        )
        del rows
        if fitted.row_order is not None:
            block = block.reordered(fitted.row_order.positions(codes))
        del codes
        _release_arrow_memory()
        if shared.codes == "disk" or memory_is_short():
            return block.on_disk(open_scratch(shared.run, shared.scratch))
        return block


def _release_arrow_memory() -> None:
    """Returns Arrow's free pool memory to the system: without it the pool kept 484 MB of 560 (measured)."""
    pa.default_memory_pool().release_unused()


@task
def block_facts(block: Block) -> BlockFacts:
    """The block's rows by use, and its bytes."""
    validation = 0 if block.use is None else int(np.count_nonzero(block.use == VALIDATION))
    return BlockFacts(len(block.label) - validation, validation, block.nbytes, block.disk_nbytes)


def _codes(rows: Rows, fitted: BlockEncoder) -> np.ndarray:
    """Bin codes (rows, features); training rows get out-of-fold encodings, validation rows the final ones."""
    recipe, cuts = fitted.recipe, fitted.cuts
    codes = _encoded(recipe, cuts, rows.table, rows.fold_key)
    validating = np.zeros(0, np.bool_) if rows.use is None else rows.use == VALIDATION
    out_of_fold = recipe.out_of_fold
    if out_of_fold and validating.any():
        for feature, column in enumerate(feature_columns(recipe, rows.table)):
            if feature in out_of_fold:
                codes[validating, feature] = encode(column[validating], feature, cuts)
    return codes


def _encoded(recipe: Recipe, cuts: Cuts, table: pa.Table, fold_keys: np.ndarray) -> np.ndarray:
    """Bin codes (rows, features) of a table's rows, with out-of-fold encodings."""
    codes = np.empty((table.num_rows, len(cuts)), dtype=ENCODING.dtype)
    for feature, column in enumerate(feature_columns(recipe, table, fold_keys=fold_keys)):
        codes[:, feature] = encode(column, feature, cuts)
    return codes


def weigh(label: np.ndarray, weight: np.ndarray | None, by_class: tuple[float, ...]) -> np.ndarray | None:
    """Row weight times class weight, (rows,) float32; None where all weigh the same."""
    if not by_class:
        return weight
    weights = np.asarray(by_class, dtype=np.float32)[label.astype(np.int64)]
    return weights if weight is None else weights * weight
