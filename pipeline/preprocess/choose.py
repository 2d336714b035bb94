"""Which features a column becomes, decided from its statistics alone."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from pipeline.data.keys import place_of
from pipeline.data.target import Target
from pipeline.errors import DataError
from pipeline.job import Column, Preprocess
from pipeline.preprocess.column_statistics import AnyColumn, CategoryColumn, MissingColumn, NumberColumn, TimeColumn
from pipeline.preprocess.features import (
    Category,
    Feature,
    Frequency,
    Hash,
    Indicator,
    Levels,
    Number,
    TargetEncoding,
    TimePart,
    rounded,
)
from pipeline.preprocess.levels import LevelCounts, most_frequent
from pipeline.preprocess.statistics import Statistics, target_outputs
from pipeline.preprocess.transforms import DAY_SECONDS

EXACT_FLOAT32 = 2**24  # float32 holds every integer up to here
FEW_STEPS = 100  # float32 values within a standard deviation: fewer are worth a note


@dataclass(frozen=True)
class Chosen:
    """What one column becomes."""

    features: tuple[Feature, ...] = ()
    dropped: str | None = None  # why it became nothing
    note: str | None = None  # what the user should know


def choose(
    name: str, column: AnyColumn, setting: Column, statistics: Statistics, plan: tuple[Preprocess, Target]
) -> Chosen:
    """The features of one column; DataError where it has infinite values."""
    if isinstance(column, MissingColumn) or column.missing == statistics.rows:
        return Chosen(dropped="missing")
    if isinstance(column, NumberColumn):
        return _number(name, column, setting)
    if isinstance(column, TimeColumn):
        return _time(name, column, setting)
    return _category(name, column, setting, statistics, plan)


def _number(name: str, column: NumberColumn, setting: Column) -> Chosen:
    if column.infinite and setting.clip is None:
        assert column.first_infinite is not None
        raise DataError(
            f"column {name!r} has {column.infinite:,} infinite values (beyond float32's 3.4e38), the first at "
            f"{place_of(column.first_infinite)}; clip or exclude it"
        )
    if column.low == column.high and not column.missing and not column.infinite:
        return Chosen(dropped="constant")
    deviation = column.shaped.deviation or 1.0
    impute = column.moments.mean if setting.impute == "mean" else setting.impute
    number = Number(
        name=name,
        column=name,
        impute=impute,
        clip=setting.clip,
        log1p=setting.log1p,
        standardise=(column.shaped.mean, deviation) if setting.standardise else None,
    )
    wanted = setting.indicator and column.missing
    features: tuple[Feature, ...] = (number, Indicator(name=f"{name}.missing", column=name)) if wanted else (number,)
    return Chosen(features, note=_precision(name, column) if number.plain else None)


def _precision(name: str, column: NumberColumn) -> str | None:
    """A note where float32 cannot tell close values apart: numbers far from zero that vary little."""
    largest = max(abs(column.low), abs(column.high))
    step = float(np.spacing(np.float32(largest)))
    if largest <= EXACT_FLOAT32 or step * FEW_STEPS < column.moments.deviation:
        return None
    return (
        f"column {name!r}: float32 tells its values apart in steps of {step:g} only; derive a difference, if it matters"
    )


def _time(name: str, column: TimeColumn, setting: Column) -> Chosen:
    assert column.low is not None
    varying = [part for part, value in column.parts.items() if value is None]
    wanted = list(dict.fromkeys(setting.parts)) or varying
    # With missing values even a constant part says something, but one is enough.
    parts = [part for part in wanted if part in varying] or (wanted or ["epoch"])[:1] * bool(column.missing)
    if not parts:
        return Chosen(dropped="constant")
    origin = column.low // DAY_SECONDS * DAY_SECONDS
    return Chosen(
        tuple(
            TimePart(name=f"{name}.{part}", column=name, part=part, origin=origin if part == "epoch" else 0)
            for part in parts
        )
    )


def _category(
    name: str, column: CategoryColumn, setting: Column, statistics: Statistics, plan: tuple[Preprocess, Target]
) -> Chosen:
    preprocess, target = plan
    counts = column.counts
    if len(counts.levels) < 2 and not column.missing and not counts.left_out:
        return Chosen(dropped="constant")
    kept = np.flatnonzero(counts.rows >= preprocess.min_count)
    encoding: str = setting.encoding
    if encoding == "auto":
        many = len(kept) > preprocess.max_levels or counts.left_out > 0
        encoding = preprocess.high_cardinality if many else "codes"
    notes = []
    if counts.left_out and encoding != "hash":
        notes.append(
            f"column {name!r} has more than {counts.bound:,} levels (preprocess.tracked_levels); "
            f"{counts.left_out:,} rows of the rarest are treated as unseen"
        )
    if encoding == "target" and not target_outputs(target):
        encoding = "frequency"
        notes.append(
            f"column {name!r} is encoded by frequency: {len(target.classes)} classes are too many for target encoding"
        )
    if encoding == "codes" and len(kept) > preprocess.max_levels:
        notes.append(
            f"column {name!r}: {len(kept) - preprocess.max_levels:,} levels beyond max_levels count as missing"
        )
        kept = kept[most_frequent(counts.rows[kept], preprocess.max_levels)]
    if encoding != "hash" and not len(kept):
        return Chosen(dropped=f"no level in {preprocess.min_count} rows")
    if encoding == "codes" and len(kept) == 1 and int(counts.rows[kept[0]]) == statistics.rows:
        return Chosen(dropped="constant")
    note = "; ".join(notes) or None
    if encoding == "hash":
        return Chosen((Hash(name=name, column=name, bins=preprocess.hash_bins),), note=note)
    levels, order = _sorted(counts, kept)
    if encoding == "codes":
        return Chosen((Category(name=name, column=name, levels=levels),), note=note)
    if encoding == "frequency":
        shares = rounded(counts.rows[order] / statistics.rows)
        return Chosen((Frequency(name=name, column=name, levels=levels, values=shares),), note=note)
    return Chosen(_target(name, counts, (levels, order), statistics, plan), note=note)


def _sorted(counts: LevelCounts, kept: npt.NDArray[np.int64]) -> tuple[Levels, npt.NDArray[np.int64]]:
    """The kept levels sorted by their UTF-8, and their places among the counts."""
    order = kept[pc.sort_indices(counts.levels.take(kept)).to_numpy().astype(np.int64)]
    return Levels(tuple(counts.levels.take(order).to_pylist())), order


def _target(
    name: str,
    counts: LevelCounts,
    table: tuple[Levels, npt.NDArray[np.int64]],
    statistics: Statistics,
    plan: tuple[Preprocess, Target],
) -> tuple[TargetEncoding, ...]:
    """One feature; from three classes on one per class."""
    preprocess, target = plan
    levels, order = table
    assert counts.fold_rows is not None
    assert counts.sums is not None
    rows = counts.fold_rows[order].astype(np.float64)  # (levels, folds)
    several = len(target.classes) > 2
    features = []
    for output in range(counts.sums.shape[2]):
        sums = counts.sums[order, :, output]  # (levels, folds)
        if several:
            prior = statistics.class_counts[output] / statistics.rows
        else:
            prior = statistics.label.moments.mean
        others = _smoothed(
            sums.sum(1, keepdims=True) - sums, rows.sum(1, keepdims=True) - rows, prior, preprocess.smoothing
        )
        whole = _smoothed(sums.sum(1), rows.sum(1), prior, preprocess.smoothing)
        label = str(target.classes[output]) if several else None
        features.append(
            TargetEncoding(
                name=f"{name}={label}" if several else name,
                column=name,
                levels=levels,
                values=rounded(whole),
                prior=rounded(np.array([prior]))[0],
                label=label,
                fold_values=np.ascontiguousarray(others.T.astype(np.float32)),
            )
        )
    return tuple(features)


def _smoothed(
    sums: npt.NDArray[np.float64], rows: npt.NDArray[np.float64], prior: float, smoothing: float
) -> npt.NDArray[np.float64]:
    """Means of the label drawn towards the prior, as if `smoothing` more rows had it; the prior where no row is."""
    weight = rows + smoothing
    return np.where(weight > 0, (sums + smoothing * prior) / np.where(weight > 0, weight, 1.0), prior)
