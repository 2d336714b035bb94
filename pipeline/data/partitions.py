"""Handles Dask DataFrames and Arrays: partitions computed on the cluster, and the rows of each once they are counted.

A training cuts them into fragments by row number, so that its model does not depend on the partitioning;
until then, and at prediction, a fragment is a partition.
"""

import bisect
import contextvars
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.data import tabular
from pipeline.data.fragments import Fragment, Piece
from pipeline.data.schema.schema_merge import is_text, normalise
from pipeline.errors import SourceError
from pipeline.events.findings import UserNote
from pipeline.runtime.task_errors import task

NAME = "<Dask DataFrame>"
ARRAY = "<Dask Array>"


@dataclass(frozen=True)
class CollectionSlice:
    """Rows `start` to `stop` of a partition."""

    partition: int
    start: int
    stop: int
    whole: bool  # whether these are all its rows


@dataclass(frozen=True)
class CollectionPartitions:
    """The delayed partitions of a collection, in their order."""

    delayed: tuple[Any, ...]
    schema: pa.Schema
    bounds: tuple[int, ...] | None = (
        None  # (partitions + 1,) number of each one's first row; None: fragments are partitions
    )

    def counted(self, rows: Sequence[int]) -> "CollectionPartitions":
        """The same with the rows of each partition known."""
        return replace(self, bounds=(0, *itertools.accumulate(int(count) for count in rows)))

    def parts(self, fragment: Fragment) -> list[CollectionSlice]:
        """What a fragment consists of, in order."""
        first = fragment.pieces[0].first_row
        if self.bounds is None:
            return [CollectionSlice(first, 0, fragment.rows or 0, whole=True)]
        stop = first + sum(piece.rows or 0 for piece in fragment.pieces)
        parts = []
        for place in range(bisect.bisect_right(self.bounds, first) - 1, len(self.delayed)):
            low, high = self.bounds[place], self.bounds[place + 1]
            if low >= stop:
                break
            if high > low:
                start, end = max(first, low), min(stop, high)
                parts.append(CollectionSlice(place, start - low, end - low, whole=(start, end) == (low, high)))
        return parts


@dataclass(frozen=True)
class Collection:
    """The metadata of a Dask collection; nothing of it has been computed."""

    where: str
    partitions: CollectionPartitions
    digest: bytes
    rows: tuple[int, ...] | None = None  # of each partition, where known
    notes: tuple[UserNote, ...] = ()

    def pieces(self) -> list[Piece]:
        """One per partition, its number in `first_row`."""
        rows = self.rows or (None,) * len(self.partitions.delayed)
        return [Piece(self.where, None, None, count, 1, first_row=index) for index, count in enumerate(rows)]


def look_at(collection: Any, names: Sequence[str] | None) -> Collection:
    """SourceError where it has no columns, or `names` are not those of an array."""
    from dask.tokenize import tokenize

    digest = hashlib.sha256(b"rows\0" + tokenize(collection).encode()).digest()
    if tabular.dask_kind(collection) == "Array":
        return _array(collection, names, digest)
    if names is not None:
        raise SourceError(f"{NAME}: names= is for arrays; a DataFrame has names of its own")
    meta = collection._meta
    partitions = CollectionPartitions(_delayed(collection), _schema(meta))
    return Collection(NAME, partitions, digest, notes=tabular.index_notes(meta))


def _array(array: Any, names: Sequence[str] | None, digest: bytes) -> Collection:
    """Blocks of whole rows, as tables."""
    import dask

    if array.ndim != 2:
        raise SourceError(f"{ARRAY}: of shape {array.shape}: it must be (rows, columns)")
    tabular.check_names(array.shape[1], ARRAY, names)
    assert names is not None
    try:
        kind = pa.from_numpy_dtype(array.dtype)
    except (pa.ArrowException, TypeError):
        raise SourceError(f"{ARRAY}: of {array.dtype}: no column can be of that type") from None
    whole = array.rechunk({1: -1}) if array.numblocks[1] > 1 else array
    table = dask.delayed(block_table, pure=True)
    blocks = tuple(table(block, tuple(map(str, names))) for block in _delayed(whole))
    counts = whole.chunks[0]
    rows = None if any(np.isnan(count) for count in counts) else tuple(int(count) for count in counts)
    return Collection(
        ARRAY, CollectionPartitions(blocks, pa.schema([(str(name), kind) for name in names])), digest, rows
    )


def _delayed(collection: Any) -> tuple[Any, ...]:
    """The collection's delayed partitions.  Runs in its own context: the frames would warn that they cannot carry
    annotations, such as a run's id.
    """
    found = contextvars.Context().run(collection.to_delayed)
    return tuple(np.ravel(found) if isinstance(found, np.ndarray) else found)


def _schema(meta: Any) -> pa.Schema:
    """The columns of a Dask DataFrame, its named index last; columns of Python objects are taken for text."""
    frame = tabular.with_index(meta.iloc[:0])
    schema = tabular.from_pandas(frame, NAME).schema
    for place, kind in enumerate(frame.dtypes):
        if str(kind) == "object":
            schema = schema.set(place, pa.field(schema.names[place], pa.string()))
    return schema


def check_texts(found: pa.Schema, expected: pa.Schema, where: str) -> None:
    """SourceError where a partition holds something else in a column that is text by the collection's types.

    Dask gives that type to columns of Python objects and to unknown categories.
    """
    for field in expected:
        place = found.get_field_index(field.name)
        kind = None if place < 0 else normalise(found.field(place).type)
        if is_text(field.type) and kind is not None and not is_text(kind) and not pa.types.is_null(kind):
            raise SourceError(
                f"{where}: column {field.name!r} holds {kind}, which its dtype does not say (Python objects, or categories "
                "that are not known): give it a dtype with astype(), or categorize()"
            )


def count(partitions: CollectionPartitions) -> list[int]:
    """The rows of each partition; computes them, on the current client's cluster."""
    import dask

    return list(dask.compute(*(dask.delayed(len)(partition) for partition in partitions.delayed)))


@task
def block_table(block: np.ndarray, names: Sequence[str]) -> pa.Table:
    """A computed block of whole rows of an array."""
    return tabular.from_array(block, ARRAY, names)


@task
def rows_between(rows: Any, start: int, stop: int) -> Any:
    """Some rows of a computed partition: a view where the partition is one."""
    return rows.slice(start, stop - start) if isinstance(rows, pa.Table) else rows.iloc[start:stop]
