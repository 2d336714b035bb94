"""Counts a column's levels: rows, and sums of labels by fold for out-of-fold encodings, in bounded memory."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class EncodingLabels:
    """What level counts need of the rows' labels."""

    folds: npt.NDArray[np.int64]  # (rows,) the fold of each row
    label: npt.NDArray[np.float32]  # (rows,) class index or number
    fold_count: int
    classes: int  # 2 or more: sums are whole counts of rows by class; 0: sums of the label

    @property
    def outputs(self) -> int:
        """Sums per level and fold: 1 (positive rows, or the label's sum), or one per class from three classes on."""
        return self.classes if self.classes > 2 else 1


@dataclass(frozen=True)
class LevelCounts:
    """Levels in the order of their first appearance, at most `bound` of them.

    Beyond the bound the rarest levels are left out first, among equals the later ones, in the order of the
    fragments: the result is the same for any number of workers, but depends on how the source is cut into fragments.
    """

    bound: int
    levels: pa.Array  # (levels,) large_string, distinct
    rows: npt.NDArray[np.int64]  # (levels,)
    left_out: int = 0  # rows of levels that are not tracked
    fold_rows: npt.NDArray[np.int64] | None = None  # (levels, folds)
    sums: npt.NDArray[np.float64] | None = None  # (levels, folds, outputs); whole numbers for classes

    def merge(self, right: Self) -> "LevelCounts":
        """Both together; the fragments of `self` come first."""
        place = pc.index_in(right.levels, value_set=self.levels)
        new = place.is_null().to_numpy(zero_copy_only=False)
        places = place.fill_null(0).to_numpy().astype(np.int64)
        places[new] = len(self.levels) + np.arange(int(new.sum()))
        total = len(self.levels) + int(new.sum())
        joined = LevelCounts(
            bound=self.bound,
            levels=pa.concat_arrays([self.levels, right.levels.filter(pa.array(new))]),
            rows=_added(self.rows, right.rows, places, total),
            left_out=self.left_out + right.left_out,
            fold_rows=_added_if(self.fold_rows, right.fold_rows, places, total),
            sums=_added_if(self.sums, right.sums, places, total),
        )
        return joined.bounded()

    def bounded(self) -> "LevelCounts":
        """The counts without the rarest levels beyond the bound."""
        if len(self.levels) <= self.bound:
            return self
        kept = most_frequent(self.rows, self.bound)
        return LevelCounts(
            bound=self.bound,
            levels=self.levels.take(pa.array(kept)),
            rows=self.rows[kept],
            left_out=self.left_out + int(self.rows.sum() - self.rows[kept].sum()),
            fold_rows=None if self.fold_rows is None else self.fold_rows[kept],
            sums=None if self.sums is None else self.sums[kept],
        )


def most_frequent(rows: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Places, in rising order, of the `count` largest of `rows`; among equals the first."""
    return np.sort(np.argsort(-rows, kind="stable")[:count])


def count_levels(
    codes: npt.NDArray[np.int64], levels: pa.Array, bound: int, labels: EncodingLabels | None = None
) -> LevelCounts:
    """Counts of one fragment; a code (rows,) beyond the last of `levels` means missing."""
    rows = np.bincount(codes, minlength=len(levels) + 1)[: len(levels)].astype(np.int64)
    seen = np.flatnonzero(rows)  # a dictionary may hold levels that occur in no row
    counts = LevelCounts(bound, levels, rows)
    if len(seen) < len(levels):
        counts = LevelCounts(bound, levels.take(pa.array(seen)), rows[seen])
    counts = counts.bounded()
    if labels is None:
        return counts
    # Apply the bound first: sums by fold and class are many times the size of the counts.
    place = pc.index_in(levels, value_set=counts.levels).fill_null(len(counts.levels))
    lookup = np.append(place.to_numpy().astype(np.int64), len(counts.levels))
    fold_rows, sums = _by_fold(lookup[codes], len(counts.levels), labels)
    return LevelCounts(bound, counts.levels, counts.rows, counts.left_out, fold_rows, sums)


def _by_fold(
    codes: npt.NDArray[np.int64], count: int, labels: EncodingLabels
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Rows (levels, folds) and label sums (levels, folds, outputs)."""
    cells = codes * labels.fold_count + labels.folds
    size = (count + 1) * labels.fold_count  # the last level: missing and left out
    rows = np.bincount(cells, minlength=size).astype(np.int64)
    if labels.outputs == 1:
        sums = np.bincount(cells, weights=labels.label, minlength=size).astype(np.float64)
    else:
        by_class = cells * labels.outputs + labels.label.astype(np.int64)
        sums = np.bincount(by_class, minlength=size * labels.outputs).astype(np.float64)
    shape = (count + 1, labels.fold_count)
    return rows.reshape(shape)[:-1], sums.reshape(*shape, labels.outputs)[:-1]


def _added[T: np.generic](
    left: npt.NDArray[T], right: npt.NDArray[T], places: npt.NDArray[np.int64], total: int
) -> npt.NDArray[T]:
    """`left`, enlarged to `total` entries, with the entries of `right` added at `places` (distinct)."""
    added = np.zeros((total, *left.shape[1:]), dtype=left.dtype)
    added[: len(left)] = left
    added[places] += right
    return added


def _added_if[T: np.generic](
    left: npt.NDArray[T] | None, right: npt.NDArray[T] | None, places: npt.NDArray[np.int64], total: int
) -> npt.NDArray[T] | None:
    return None if left is None or right is None else _added(left, right, places, total)
