"""Draws a uniform sample of rows by a hash of the row id: the same whichever worker reads a fragment."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.data.keys import mix, seed_for

_EVERYTHING = 1 << 64  # above any hash
_MARGIN = 1.25  # rows a fragment contributes beyond its expected share: the hashes are not evenly spaced
_SLACK = 2  # surplus rows are dropped once there are this many times the wanted rows


@dataclass(frozen=True)
class RowSample:
    """Sampled rows in the order of their row ids."""

    table: pa.Table  # raw feature columns
    hashes: npt.NDArray[np.uint64]  # (rows,)
    fold_keys: npt.NDArray[np.uint64]  # (rows,)
    row_ids: npt.NDArray[np.uint64]  # (rows,)
    label: npt.NDArray[np.float32]  # (rows,)
    weight: npt.NDArray[np.float32] | None  # (rows,)

    def __len__(self) -> int:
        return len(self.hashes)

    def head(self, rows: int) -> "RowSample":
        """A uniform sample of this sample: its rows with the smallest hashes, in the same order."""
        return self if len(self) <= rows else self._where(self.hashes < _cut(self.hashes, rows))

    def below(self, limit: int) -> "RowSample":
        """The rows whose hash is below `limit`."""
        if limit >= _EVERYTHING:
            return self
        return self._where(self.hashes < np.uint64(limit))

    def take(self, places: npt.NDArray[np.int64]) -> "RowSample":
        """The rows at `places`."""
        chosen = pa.array(places)
        arrays: dict[str, Any] = {name: _at(getattr(self, name), places) for name in _ARRAYS}
        return RowSample(table=self.table.take(chosen), **arrays)

    def _where(self, mask: npt.NDArray[np.bool_]) -> "RowSample":
        return self if mask.all() else self.take(np.flatnonzero(mask))


_ARRAYS = ("hashes", "fold_keys", "row_ids", "label", "weight")


@dataclass(frozen=True)
class SamplePlan:
    """How many rows to sample, and of how many."""

    rows: int  # at most
    seed: int
    expected_rows: int | None = None  # of all fragments before any row is left out; None: not known


@dataclass(frozen=True)
class Samples:
    """The samples of some fragments, in their order; surplus rows are dropped from time to time."""

    rows: int  # wanted
    chunks: tuple[RowSample, ...]
    complete_below: int = _EVERYTHING  # each training row whose hash is below this is among the chunks

    def merge(self, right: Self) -> "Samples":
        """Both together; the fragments of `self` come first."""
        limit = min(self.complete_below, right.complete_below)
        chunks = tuple(chunk for chunk in self.chunks + right.chunks if len(chunk)) or self.chunks
        joined = Samples(self.rows, chunks, limit)
        if sum(len(chunk) for chunk in joined.chunks) > _SLACK * self.rows:
            return joined.trimmed()
        return joined

    def trimmed(self) -> "Samples":
        """The rows with the smallest hashes, at most as many as wanted."""
        hashes = np.concatenate([chunk.hashes for chunk in self.chunks])
        limit = min(self.complete_below, int(_cut(hashes, self.rows)) if len(hashes) > self.rows else _EVERYTHING)
        chunks = tuple(chunk.below(limit) for chunk in self.chunks)
        return Samples(self.rows, chunks, limit)

    def joined(self) -> RowSample:
        """One sample: the rows with the smallest hashes of all training rows, at most as many as wanted."""
        chunks = self.trimmed().chunks
        arrays: dict[str, Any] = {name: _joined([getattr(chunk, name) for chunk in chunks]) for name in _ARRAYS}
        return RowSample(table=pa.concat_tables([chunk.table for chunk in chunks]).combine_chunks(), **arrays)


def draw(rows: RowSample, train: npt.NDArray[np.int64] | None, plan: SamplePlan, read: int) -> Samples:
    """The sample of one fragment: all its training rows below a threshold, which the number of expected rows sets.

    `rows` are the fragment's rows, with any hashes; `train` the places of its training rows (None: all); `read` how
    many rows the fragment had before any was left out.  If few of them train, the threshold rises accordingly;
    `complete_below` then keeps the merged sample uniform, at worst somewhat smaller than wanted.
    """
    row_ids = rows.row_ids if train is None else rows.row_ids[train]
    hashes = mix(row_ids, seed_for(plan.seed, "sample"))
    limit = _EVERYTHING
    if plan.expected_rows and len(hashes):
        share = _MARGIN * plan.rows / plan.expected_rows * (max(read, len(hashes)) / len(hashes))
        limit = int(share * 2.0**64) if share < 1 else _EVERYTHING
    chosen = np.arange(len(hashes)) if limit == _EVERYTHING else np.flatnonzero(hashes < np.uint64(limit))
    if len(chosen) > plan.rows:
        limit = min(limit, int(_cut(hashes[chosen], plan.rows)))
        chosen = np.flatnonzero(hashes < np.uint64(limit))
    places = chosen if train is None else train[chosen]
    sample = dataclasses.replace(rows.take(places), hashes=hashes[chosen])
    return Samples(plan.rows, (sample,), limit)


def _cut(hashes: npt.NDArray[np.uint64], count: int) -> Any:
    """A uint64 with exactly `count` hashes below it (hashes of different rows differ); all of them where fewer."""
    if len(hashes) <= count:
        return np.uint64(_EVERYTHING - 1)
    return np.partition(hashes, count)[count]


def _at(values: npt.NDArray[Any] | None, places: npt.NDArray[np.int64]) -> npt.NDArray[Any] | None:
    return None if values is None else values[places]


def _joined(parts: list[npt.NDArray[Any] | None]) -> npt.NDArray[Any] | None:
    present = [part for part in parts if part is not None]
    return np.concatenate(present) if len(present) == len(parts) else None
