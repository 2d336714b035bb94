"""Finds features that alone explain the target: mostly copies of it, or values known only after the outcome.

Each feature is judged by itself on a sample of training rows: by how well its values order two classes (AUC), by its
correlation with a number (R2, of values or of ranks), and by how well its bins or levels predict the rows of the other
half.
"""

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from pipeline.config.validation_messages import show_path
from pipeline.data.schema.target import Target
from pipeline.events.findings import Finding
from pipeline.preprocess.apply import feature_columns
from pipeline.preprocess.features import Indicator, Number, TimePart
from pipeline.preprocess.recipe import Recipe
from pipeline.preprocess.statistics.sample import RowSample

EXPLAINED = 0.999  # AUC, R2, or the share of the majority's errors that a feature avoids
SUSPICIOUS = 0.97  # the same measure on a few rows: only features above it are examined further
ROWS, SCREEN_ROWS = 16_384, 1_024
VALUES = 8 << 20  # of all features that are examined further
LEAST_ROWS = 100
LEAST_OF_CLASS = 10  # rows outside the largest class: with fewer, the order is chance
MOST_BINS = 256

type Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]


def explaining(
    recipe: Recipe, sample: RowSample, target: Target, confirmed: Collection[str] = ()
) -> tuple[Finding, ...]:
    """One finding for each column of which a feature alone explains the target; none for columns that are `confirmed`."""
    recipe = dataclasses.replace(recipe, features=tuple(one for one in recipe.features if one.column not in confirmed))
    if sample.weight is not None and not sample.weight.all():
        sample = sample.take(np.flatnonzero(sample.weight > 0))
    suspects = _above(SUSPICIOUS, recipe, sample.head(SCREEN_ROWS), target)
    rows = max(SCREEN_ROWS, min(ROWS, VALUES // max(1, len(suspects.features))))
    found = _above(EXPLAINED, suspects, sample.head(rows), target) if suspects.features else suspects
    measure = {"binary": "AUC", "multiclass": "accuracy"}.get(target.kind, "R2")
    return tuple(
        Finding(
            "explains_target",
            f"column {name!r} alone explains the target {target.column} ({measure} above {EXPLAINED} by itself): if it is only "
            f"known after the outcome, name it in data.exclude; else {show_path(('preprocess', 'columns', name, 'kind'))} = "
            f'"{_kind(name, recipe)}" confirms it',
            column=name,
            setting="data.exclude",
        )
        for name in found.columns
    )


def _kind(column: str, recipe: Recipe) -> str:
    """The kind of a column, as the job would name it."""
    made = next(feature for feature in recipe.features if feature.column == column)
    return {Number: "number", Indicator: "number", TimePart: "time"}.get(type(made), "category")


def _above(limit: float, recipe: Recipe, sample: RowSample, target: Target) -> Recipe:
    """The recipe with only the features that explain more than `limit`; with all features where the rows are too few
    to decide.
    """
    label = sample.label.astype(np.float64)
    if not _enough(label, target):
        return dataclasses.replace(recipe, features=() if limit == EXPLAINED else recipe.features)
    made = feature_columns(recipe, sample.table, fold_keys=sample.fold_keys)
    kept = tuple(
        feature
        for feature, levels, values in zip(recipe.features, recipe.levels, made, strict=True)
        if _explained(values, label, target, categorical=levels is not None) > limit
    )
    return dataclasses.replace(recipe, features=kept)


def _enough(label: Floats, target: Target) -> bool:
    if len(label) < LEAST_ROWS:
        return False
    if not target.classes:
        return bool(label.min() < label.max())
    return len(label) - int(np.bincount(label.astype(np.int64)).max()) >= LEAST_OF_CLASS


def _explained(values: Floats, label: Floats, target: Target, *, categorical: bool = False) -> float:
    """How well one feature (rows,) explains the label (rows,), 0 to 1, by the measure of the target's kind; NaN is
    missing.
    """
    values = np.asarray(values, np.float32)
    missing = np.isnan(values)
    if missing.all() or (not missing.any() and (values == values[0]).all()):
        return 0.0
    bins = _bins(values, missing)
    if target.kind == "multiclass":
        return _of_classes(bins, label.astype(np.int64), len(target.classes))
    found = [_of_bins(bins, label, binary=target.kind == "binary")]
    if not categorical:
        if target.kind == "binary":
            found += [
                _auc(np.where(missing, edge, values), label) for edge in ((-np.inf, np.inf) if missing.any() else (0,))
            ]
        elif not missing.any():
            found += [_correlation(values, label), _correlation(_ranks(values), _ranks(label))]
    return max(found)


def _bins(values: Floats, missing: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """(rows,) the bin of each value: one bin per value where there are few values, else bins with equal numbers of
    rows; 0 where missing.
    """
    ordered = np.sort(values[~missing])
    distinct = ordered[np.append(True, ordered[1:] != ordered[:-1])]
    if len(distinct) > MOST_BINS:
        distinct = np.unique(ordered[np.linspace(0, len(ordered) - 1, MOST_BINS).astype(np.int64)])
    return np.where(missing, 0, np.searchsorted(distinct, values, side="right"))


def _halves(bins: npt.NDArray[np.int64]) -> Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Places to learn from and to judge, each half once: the label of a level's single row must not explain itself."""
    even, odd = np.arange(0, len(bins), 2), np.arange(1, len(bins), 2)
    return (even, odd), (odd, even)


def _of_bins(bins: npt.NDArray[np.int64], label: Floats, *, binary: bool) -> float:
    """AUC, or R2, of the mean label of each row's bin in the other half."""
    guess = np.empty(len(label))
    for learn, judge in _halves(bins):
        rows = np.bincount(bins[learn], minlength=MOST_BINS + 2)
        sums = np.bincount(bins[learn], weights=label[learn], minlength=MOST_BINS + 2)
        means = np.where(rows > 0, sums / np.maximum(rows, 1), label[learn].mean())
        guess[judge] = means[bins[judge]]
    if binary:
        return _auc(guess, label)
    return float(1 - np.square(label - guess).sum() / np.square(label - label.mean()).sum())


def _of_classes(bins: npt.NDArray[np.int64], label: npt.NDArray[np.int64], classes: int) -> float:
    """The share of the errors of always guessing the largest class that the largest class of each bin avoids."""
    wrong = 0
    for learn, judge in _halves(bins):
        table = np.zeros((MOST_BINS + 2) * classes, np.int64)
        np.add.at(table, bins[learn] * classes + label[learn], 1)
        guess = table.reshape(-1, classes).argmax(axis=1)
        wrong += int(np.count_nonzero(guess[bins[judge]] != label[judge]))
    return 1 - wrong / (len(label) - int(np.bincount(label).max()))


def _auc(score: Floats, label: Floats) -> float:
    """AUC, of the better of both directions."""
    positive = label > 0.5
    many = int(positive.sum())
    pairs = many * (len(label) - many)
    if not pairs:
        return 0.0
    area = (float(_ranks(score)[positive].sum()) - many * (many + 1) / 2) / pairs
    return max(area, 1 - area)


def _ranks(values: Floats) -> npt.NDArray[np.float64]:
    """(rows,) ranks from 1; equal values share the mean of their ranks."""
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
    ends = np.append(starts[1:], len(values))
    ranks = np.empty(len(values))
    ranks[order] = np.repeat((starts + ends + 1) / 2, ends - starts)
    return ranks


def _correlation(values: Floats, label: Floats) -> float:
    """Squared correlation: the R2 of a straight line."""
    x, y = (part - part.mean() for part in (values.astype(np.float64), label.astype(np.float64)))
    spread = float(np.dot(x, x) * np.dot(y, y))
    return float(np.dot(x, y)) ** 2 / spread if spread else 0.0
