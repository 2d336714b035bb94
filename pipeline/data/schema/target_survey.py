"""Surveys target, time and group columns: facts about all rows that are needed before the passes begin.

Fragments are surveyed separately and merged in their order, so the result does not depend on the workers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data import keys
from pipeline.data.fragments import Fragment
from pipeline.data.groups import GroupRuns, group_keys, starts_of_runs
from pipeline.data.rows import RowPlan, SelectedRows, read_columns
from pipeline.data.schema.target import ClassValue, ValueKind, class_value, value_kind
from pipeline.data.source import Source
from pipeline.data.split import Split, decoded, is_time, time_values

MAX_CLASSES = 1_000
TIME_SAMPLE_ROWS = 32_768  # a share of 0.2 is met within 0.7 % (three standard errors); smaller sources exactly
_PROBE_ROWS = 8_192  # with more distinct values than MAX_CLASSES in so many rows, the full count is skipped


@dataclass(frozen=True)
class LabelSurvey:
    """The target's values."""

    kind: ValueKind
    counts: dict[ClassValue, int] | None  # rows per value; None: more than MAX_CLASSES distinct ones
    missing: int = 0  # rows
    infinite: int = 0  # rows
    first_infinite: int | None = None  # row id
    minimum: float | None = None  # of numbers, infinite ones left out
    maximum: float | None = None


@dataclass(frozen=True)
class TimeSample:
    """The rows of smallest hash, with their times: a uniform sample of a fixed size."""

    hashes: np.ndarray  # (sampled,) uint64, sorted
    values: np.ndarray  # (sampled,) int64 ticks of the column's unit, or the column's numbers


@dataclass(frozen=True)
class TargetSurvey:
    """The survey of one fragment, or of several; `where` has been applied."""

    read: int  # rows read
    rows: int  # rows that `where` kept
    label: LabelSurvey | None = None
    times: TimeSample | None = None  # None without data.validation.time
    runs: tuple[GroupRuns, ...] = ()  # of each fragment, in order; empty without data.group
    held: dict[ClassValue, int] | None = None  # rows per value of the validation column; None: none, or too many


def survey_fragment(source: Source, fragment: Fragment, plan: RowPlan, payload: object = None) -> TargetSurvey:
    """Reads only the target, the group and the validation column of one fragment.

    Where bad fragments are left out, it reads all columns that later passes read, so that it finds every bad fragment
    (see skipping.py).
    """
    roles = plan.roles
    wanted = [name for name in (roles.target, roles.group, roles.validation) if name is not None]
    raw = roles.read if source.skip_bad else None
    chosen = read_columns(source, fragment, plan.derivation, dict.fromkeys(wanted), raw, payload, where=True)
    runs: tuple[GroupRuns, ...] = ()
    if roles.group is not None:
        group = group_keys(chosen.table.column(roles.group), roles.group, fragment.index)
        runs = (GroupRuns(fragment.index, group[starts_of_runs(group)]),)
    return TargetSurvey(
        read=len(chosen.row_ids) + chosen.filtered,
        rows=len(chosen.row_ids),
        label=None if roles.target is None else survey_labels(chosen, roles.target),
        times=None if roles.validation is None else _sample_times(chosen, roles.validation, plan.seed),
        runs=runs,
        held=None if roles.validation is None else _held(chosen.table.column(roles.validation)),
    )


def training_share(survey: TargetSurvey, split: Split) -> float:
    """The share of a fragment's rows that will train, if its survey shows it; else 1."""
    if split.kind == "values" and survey.held is not None and survey.rows:
        values = {class_value(value) for value in split.values}
        return 1 - sum(rows for value, rows in survey.held.items() if value in values) / survey.rows
    if split.kind == "time" and survey.times is not None and len(survey.times.values):
        return float(np.mean(survey.times.values < split.threshold))
    return 1.0


def merge_surveys(surveys: Sequence[TargetSurvey]) -> TargetSurvey:
    """One survey of the fragments of all, given in their order."""
    if not surveys:
        raise ValueError("no surveys to merge")
    labels = [survey.label for survey in surveys if survey.label is not None]
    times = [survey.times for survey in surveys if survey.times is not None]
    return TargetSurvey(
        read=sum(survey.read for survey in surveys),
        rows=sum(survey.rows for survey in surveys),
        label=_merge_labels(labels) if labels else None,
        times=_merge_times(times) if times else None,
        runs=tuple(run for survey in surveys for run in survey.runs),
    )


def survey_labels(chosen: SelectedRows, name: str) -> LabelSurvey:
    """Surveys the target column `name` of a fragment's chosen rows."""
    column = decoded(chosen.table.column(name))
    kind = value_kind(column.type)
    if kind == "other":
        return LabelSurvey(kind, {}, missing=column.null_count)
    if kind in ("bool", "text"):
        return LabelSurvey(kind, _counts(column), missing=column.null_count)
    return _survey_numbers(chosen, column, kind)


def _survey_numbers(chosen: SelectedRows, column: pa.ChunkedArray, kind: ValueKind) -> LabelSurvey:
    infinite, first = 0, None
    missing = column.null_count
    if kind == "float":
        is_infinite = pc.is_inf(column)
        infinite = pc.sum(is_infinite).as_py() or 0
        missing += pc.sum(pc.is_nan(column)).as_py() or 0
        if infinite:
            first = int(chosen.row_ids[pc.index(is_infinite, True).as_py()])
        if infinite or missing:
            column = column.filter(pc.fill_null(pc.is_finite(column), False))
    if len(column) == column.null_count:
        return LabelSurvey(kind, {}, missing, infinite, first)
    extremes = pc.min_max(column).as_py()
    return LabelSurvey(
        kind,
        _counts(column),
        missing=missing,
        infinite=infinite,
        first_infinite=first,
        minimum=float(extremes["min"]),
        maximum=float(extremes["max"]),
    )


def _counts(column: pa.ChunkedArray) -> dict[ClassValue, int] | None:
    """Rows per value, or None for more than MAX_CLASSES values."""
    if len(column.slice(0, _PROBE_ROWS).unique()) > MAX_CLASSES + 1:
        return None
    counted = column.value_counts()
    if len(counted) > MAX_CLASSES + 1:
        return None
    counts: dict[ClassValue, int] = {}
    for value, rows in zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True):
        if value is not None and value == value:
            name = class_value(value)
            counts[name] = counts.get(name, 0) + rows  # 0.0 and -0.0 are equal
    return _bounded(counts)


def _held(column: pa.ChunkedArray) -> dict[ClassValue, int] | None:
    """Rows per value; None for times, which have no class names and may be beyond Python's range."""
    column = decoded(column)
    return None if value_kind(column.type) == "other" else _counts(column)


def _bounded(counts: dict[ClassValue, int]) -> dict[ClassValue, int] | None:
    return counts if len(counts) <= MAX_CLASSES else None


def _sample_times(chosen: SelectedRows, name: str, seed: int) -> TimeSample | None:
    column = chosen.table.column(name)
    if not is_time(column.type):
        return None
    times = time_values(column)
    hashes = keys.mix(chosen.row_ids, keys.seed_for(seed, "time"))[~times.missing]
    return _smallest(hashes, times.values[~times.missing])


def _smallest(hashes: np.ndarray, values: np.ndarray) -> TimeSample:
    order = np.argsort(hashes)[:TIME_SAMPLE_ROWS]
    return TimeSample(hashes[order], values[order])


def _merge_times(times: Sequence[TimeSample]) -> TimeSample:
    return _smallest(np.concatenate([part.hashes for part in times]), np.concatenate([part.values for part in times]))


def _merge_labels(labels: Sequence[LabelSurvey]) -> LabelSurvey:
    merged = labels[0]
    for label in labels[1:]:
        merged = replace(
            merged,
            counts=_merge_counts(merged.counts, label.counts),
            missing=merged.missing + label.missing,
            infinite=merged.infinite + label.infinite,
            first_infinite=label.first_infinite if merged.first_infinite is None else merged.first_infinite,
            minimum=min((x for x in (merged.minimum, label.minimum) if x is not None), default=None),
            maximum=max((x for x in (merged.maximum, label.maximum) if x is not None), default=None),
        )
    return merged


def _merge_counts(
    left: dict[ClassValue, int] | None, right: dict[ClassValue, int] | None
) -> dict[ClassValue, int] | None:
    if left is None or right is None:
        return None
    merged = dict(left)
    for name, rows in right.items():
        merged[name] = merged.get(name, 0) + rows
    return _bounded(merged)
