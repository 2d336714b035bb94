"""Encodes a column of levels as codes, a target encoding, frequencies or hashes, decided from its counts alone."""

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from pipeline.config.job import Column, Preprocess
from pipeline.data.schema.target import Target
from pipeline.preprocess.features import Category, FeatureChoice, Frequency, Hash, Levels, TargetEncoding, rounded
from pipeline.preprocess.statistics.collect import Statistics, target_outputs
from pipeline.preprocess.statistics.column_statistics import CategoryColumn
from pipeline.preprocess.statistics.levels import LevelCounts, most_frequent


def choose_category(
    name: str, column: CategoryColumn, setting: Column, statistics: Statistics, plan: tuple[Preprocess, Target]
) -> FeatureChoice:
    """The features of a column of levels, not all of them missing."""
    preprocess, _ = plan
    counts = column.counts
    kept = np.flatnonzero(counts.rows >= preprocess.min_count)
    encoding, notes = _encoding(name, counts, len(kept), setting, plan)
    if encoding == "codes" and len(kept) > preprocess.max_levels:
        beyond = len(kept) - preprocess.max_levels
        notes.append(f"column {name!r}: {beyond:,} levels beyond max_levels count as missing")
        kept = kept[most_frequent(counts.rows[kept], preprocess.max_levels)]
    if counts.rows.max(initial=0) == statistics.rows:
        return FeatureChoice(dropped="constant")
    if encoding != "hash" and not len(kept):
        return FeatureChoice(dropped=f"no level in {preprocess.min_count} rows")
    note = "; ".join(notes) or None
    if encoding == "hash":
        return FeatureChoice((Hash(name=name, column=name, bins=preprocess.hash_bins),), note=note)
    levels, order = _sorted(counts, kept)
    if encoding == "codes":
        return FeatureChoice((Category(name=name, column=name, levels=levels),), note=note)
    if encoding == "frequency":
        shares = rounded(counts.rows[order] / statistics.rows)
        return FeatureChoice((Frequency(name=name, column=name, levels=levels, values=shares),), note=note)
    return FeatureChoice(_target(name, counts, (levels, order), statistics, plan), note=note)


def _encoding(
    name: str, counts: LevelCounts, kept: int, setting: Column, plan: tuple[Preprocess, Target]
) -> tuple[str, list[str]]:
    """The encoding of a column with `kept` levels that are frequent enough, and the note about it."""
    preprocess, target = plan
    encoding: str = setting.encoding
    notes = []
    if encoding == "auto":
        many = kept > preprocess.max_levels or counts.left_out > 0
        encoding = preprocess.high_cardinality if many else "codes"
    if counts.left_out and encoding != "hash":
        notes.append(
            f"column {name!r} has more than {counts.bound:,} levels (preprocess.tracked_levels); "
            f"{counts.left_out:,} rows of the rarest are treated as unseen"
        )
    if encoding == "target" and not target_outputs(target):
        encoding = "frequency"
        classes = len(target.classes)
        notes.append(f"column {name!r} is encoded by frequency: {classes} classes are too many for target encoding")
    return encoding, notes


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
    """One feature; with three or more classes, one per class."""
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
    """Means of the label shrunk towards the prior, as if `smoothing` more rows had it; the prior where there are no
    rows.
    """
    weight = rows + smoothing
    return np.where(weight > 0, (sums + smoothing * prior) / np.where(weight > 0, weight, 1.0), prior)
