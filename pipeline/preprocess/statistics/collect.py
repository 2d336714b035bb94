"""Collects and merges the first pass's statistics of training rows, in the order of the fragments.

Floating-point sums are not associative, so statistics are always merged as the same tree, whichever worker collected
them; the result then depends on the files alone.
"""

import dataclasses
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.config.job import Column, Preprocess
from pipeline.data.fragment_rows import Rows
from pipeline.data.keys import mix, seed_for
from pipeline.data.schema.target import Target
from pipeline.data.split import TRAIN, VALIDATION
from pipeline.errors import DataError
from pipeline.planning.job_size import bounded_sample
from pipeline.preprocess.settings import Kind, column_settings, kind_of
from pipeline.preprocess.statistics.column_statistics import (
    AnyColumn,
    MissingColumn,
    collect_category,
    collect_number,
    collect_time,
    merge_columns,
)
from pipeline.preprocess.statistics.columns import ConversionError
from pipeline.preprocess.statistics.levels import EncodingLabels
from pipeline.preprocess.statistics.moments import Moments, summarise
from pipeline.preprocess.statistics.sample import RowSample, SamplePlan, Samples, draw

FEW_CLASSES = 10  # target encodings make a feature per class: not for more classes


@dataclass(frozen=True)
class LabelStatistics:
    """The labels of training rows."""

    moments: Moments = field(default_factory=Moments)  # unweighted
    weight_sum: float = 0.0  # rows, where rows have no weights
    weighted_sum: float = 0.0  # sum of weight * label
    class_counts: tuple[int, ...] = ()  # rows per class; empty unless classification
    class_weights: tuple[float, ...] = ()  # sum of weights per class
    low: float = np.inf  # the smallest label
    high: float = -np.inf

    def merge(self, right: "LabelStatistics") -> "LabelStatistics":
        """Both together, the fragments of `self` first."""
        return LabelStatistics(
            moments=self.moments.merge(right.moments),
            weight_sum=self.weight_sum + right.weight_sum,
            weighted_sum=self.weighted_sum + right.weighted_sum,
            class_counts=tuple(a + b for a, b in zip(self.class_counts, right.class_counts, strict=True)),
            class_weights=tuple(a + b for a, b in zip(self.class_weights, right.class_weights, strict=True)),
            low=min(self.low, right.low),
            high=max(self.high, right.high),
        )


@dataclass(frozen=True)
class Statistics:
    """The statistics of the training rows of some fragments."""

    seed: int  # of folds and sample
    rows: int  # training rows
    validation_rows: int
    dropped: dict[str, int]  # reason -> rows left out
    columns: dict[str, AnyColumn]  # by name, in the order of the features
    types: dict[str, str]  # Arrow types of all feature columns, as text
    label: LabelStatistics
    validation_label: LabelStatistics
    samples: Samples | None  # None once it is no longer needed

    @property
    def sample(self) -> RowSample:
        """The sampled training rows; computed on each access."""
        assert self.samples is not None, "this is statistics.without_sample()"
        return self.samples.joined()

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Training rows per class."""
        return self.label.class_counts

    def without_sample(self) -> "Statistics":
        return dataclasses.replace(self, samples=None)


def collect(
    rows: Rows, spec: Preprocess, target: Target, *, seed: int = 0, expected_rows: int | None = None
) -> Statistics:
    """The statistics of one fragment's training rows.

    `expected_rows`: rows of all fragments, where known; it only bounds how many rows each contributes to the sample.
    JobError where options do not fit the columns, DataError where values do not match the column's kind.
    """
    train = _training_places(rows)
    table = rows.table
    row_ids = _at(rows.row_ids, train)
    assert rows.label is not None, "training rows have labels"
    label = _at(rows.label, train)
    settings = column_settings(spec, table.column_names)
    kinds = {
        name: kind_of(name, setting, table.schema.field(name).type, exact=name in spec.columns)
        for name, setting in settings.items()
    }
    labels = None
    if "category" in kinds.values() and target_outputs(target):
        labels = EncodingLabels(
            fold_of(_at(rows.fold_key, train), spec.folds, seed), label, spec.folds, len(target.classes)
        )
    columns = {
        name: _collect_column(_taken(table.column(name), train), row_ids, (name, kind, settings[name]), spec, labels)
        for name, kind in kinds.items()
        if kind != "drop"
    }
    plan = SamplePlan(bounded_sample(spec.sample_rows, rows.table.num_columns), seed, expected_rows)
    everything = RowSample(table, rows.row_ids, rows.fold_key, rows.row_ids, rows.label, rows.weight)
    return Statistics(
        seed=seed,
        rows=len(row_ids),
        validation_rows=table.num_rows - len(row_ids),
        dropped=dict(rows.dropped),
        columns=columns,
        types={entry.name: str(entry.type) for entry in table.schema},
        label=_label_statistics(label, None if rows.weight is None else _at(rows.weight, train), target),
        validation_label=_validation_labels(rows, target),
        samples=draw(everything, train, plan, table.num_rows + sum(rows.dropped.values())),
    )


def merge(left: Statistics, right: Statistics) -> Statistics:
    """Both together; every fragment of `left` comes before every one of `right`."""
    assert left.seed == right.seed
    assert left.samples is not None
    assert right.samples is not None
    reasons = dict.fromkeys([*left.dropped, *right.dropped])
    return Statistics(
        seed=left.seed,
        rows=left.rows + right.rows,
        validation_rows=left.validation_rows + right.validation_rows,
        dropped={reason: left.dropped.get(reason, 0) + right.dropped.get(reason, 0) for reason in reasons},
        columns=_merged_columns(left, right),
        types=left.types if left.rows else right.types,
        label=left.label.merge(right.label),
        validation_label=left.validation_label.merge(right.validation_label),
        samples=left.samples.merge(right.samples),
    )


def _merged_columns(left: Statistics, right: Statistics) -> dict[str, AnyColumn]:
    """The columns of both; the other side's where one has no training rows: files that only validate may have other
    types.
    """
    if not left.rows or not right.rows:
        return left.columns if left.rows else right.columns
    return {name: merge_columns(column, right.columns[name]) for name, column in left.columns.items()}


def fold_of(fold_keys: npt.NDArray[np.uint64], folds: int, seed: int) -> npt.NDArray[np.int64]:
    """(rows,) the fold of out-of-fold encodings that each fold key belongs to."""
    folded: npt.NDArray[np.uint64] = mix(fold_keys, seed_for(seed, "folds")) % np.uint64(folds)
    return folded.astype(np.int64)


def target_outputs(target: Target) -> int:
    """How many features a target encoding makes; 0 where the target does not allow one."""
    if target.kind != "multiclass":
        return 1
    return len(target.classes) if len(target.classes) <= FEW_CLASSES else 0


def _collect_column(
    column: pa.ChunkedArray,
    row_ids: npt.NDArray[np.uint64],
    meaning: tuple[str, Kind, Column],
    spec: Preprocess,
    labels: EncodingLabels | None,
) -> AnyColumn:
    """Statistics of one column by its kind; `meaning`: its name, kind and options."""
    name, kind, setting = meaning
    try:
        if kind == "number":
            return collect_number(column, setting, row_ids)
        if kind == "category":
            by_label = labels if _may_encode_target(setting, spec) else None
            return collect_category(column, spec.tracked_levels, by_label)
        return collect_time(column) if kind == "time" else MissingColumn(len(column))
    except ConversionError as error:
        raise DataError(f"column {name!r} {error}") from None


def _may_encode_target(setting: Column, spec: Preprocess) -> bool:
    return setting.encoding == "target" or (setting.encoding == "auto" and spec.high_cardinality == "target")


def _validation_labels(rows: Rows, target: Target) -> LabelStatistics:
    places = np.flatnonzero(np.zeros(0) if rows.use is None else rows.use == VALIDATION)
    assert rows.label is not None
    return _label_statistics(rows.label[places], None if rows.weight is None else rows.weight[places], target)


def _label_statistics(
    label: npt.NDArray[np.float32], weight: npt.NDArray[np.float32] | None, target: Target
) -> LabelStatistics:
    wide, summary = label.astype(np.float64), summarise(label)
    weights = np.ones(len(label)) if weight is None else weight.astype(np.float64)
    classes = len(target.classes)
    indices = label.astype(np.int64) if classes else np.zeros(0, dtype=np.int64)
    by_class = np.bincount(indices, weights=weights if classes else None, minlength=classes)
    return LabelStatistics(
        moments=summary.moments,
        weight_sum=float(weights.sum()),
        weighted_sum=float((weights * wide).sum()),
        class_counts=tuple(int(count) for count in np.bincount(indices, minlength=classes)),
        class_weights=tuple(float(total) for total in by_class),
        low=summary.low,
        high=summary.high,
    )


def _training_places(rows: Rows) -> npt.NDArray[np.int64] | None:
    """Where the training rows are; None: everywhere."""
    if rows.use is None or not (rows.use == VALIDATION).any():
        return None
    return np.flatnonzero(rows.use == TRAIN)


def _taken(column: pa.ChunkedArray, places: npt.NDArray[np.int64] | None) -> pa.ChunkedArray:
    return column if places is None else column.take(pa.array(places))


def _at[T: np.generic](values: npt.NDArray[T], places: npt.NDArray[np.int64] | None) -> npt.NDArray[T]:
    return values if places is None else values[places]
