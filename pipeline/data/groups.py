"""Keeps the queries of a ranking task whole in one fragment, their rows next to each other."""

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data.fragments import Fragment, cut_fragments
from pipeline.data.source import Source
from pipeline.data.split import decoded
from pipeline.errors import DataError


@dataclass(frozen=True)
class GroupRuns:
    """The queries of one fragment in the order of its rows, one entry per run of equal keys."""

    fragment: int
    keys: np.ndarray  # (runs,) int64


def group_keys(column: pa.ChunkedArray, name: str, fragment: int) -> np.ndarray:
    """(rows,) int64 key of each row's query: integers unchanged, other types by a hash; the same on every
    machine.

    DataError, naming the column and the fragment, where a row has no query.
    """
    missing = pc.sum(pc.is_null(column, nan_is_null=True)).as_py() or 0
    if missing:
        raise DataError(f"the group {name} is missing in {missing} rows of fragment {fragment}")
    if not pa.types.is_decimal(column.type):  # the texts of decimals are exact
        column = decoded(column)
    if pa.types.is_integer(column.type):
        return column.cast(pa.int64(), safe=False).combine_chunks().to_numpy(zero_copy_only=False)
    encoded = column.cast(pa.string()).combine_chunks().dictionary_encode()
    hashes = [
        int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)
        for text in encoded.dictionary.to_pylist()
    ]
    return np.array(hashes, dtype=np.int64)[encoded.indices.to_numpy(zero_copy_only=False)]


def starts_of_runs(keys: np.ndarray) -> np.ndarray:
    """(runs,) int64 places where a run of equal keys begins."""
    if len(keys) == 0:
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))


def join_groups(source: Source, column: str, runs: Sequence[GroupRuns]) -> Source:
    """The source with neighbouring fragments merged so that every query is in one fragment.

    `runs` are those of all its fragments, in any order.  DataError where a query's rows are not next to each other.
    The fragments are renumbered from the first one's number.
    """
    known = {run.fragment: run.keys for run in runs}
    joined: list[list[Fragment]] = []
    last: int | None = None  # the key of the last row so far
    pieces: list[np.ndarray] = []
    waiting: list[Fragment] = []  # without rows since the last row so far
    for fragment in source.fragments:
        keys = known[fragment.index]
        if len(keys) == 0:
            waiting.append(fragment)
            continue
        if last is not None and keys[0] == last:
            joined[-1] += [*waiting, fragment]
            keys_new = keys[1:]
        else:
            joined += [[empty] for empty in waiting] + [[fragment]]
            keys_new = keys
        waiting = []
        last = int(keys[-1])
        pieces.append(keys_new)
    joined += [[empty] for empty in waiting]
    _check_contiguous(column, pieces)
    if len(joined) == len(source.fragments):
        return source
    first = source.fragments[0].index
    fragments = tuple(_merge(first + place, parts) for place, parts in enumerate(joined))
    return dataclasses.replace(source, fragments=fragments)


def _merge(index: int, parts: Sequence[Fragment]) -> Fragment:
    """One fragment of the rows of several, in their order."""
    if len(parts) == 1:
        return dataclasses.replace(parts[0], index=index)
    pieces = [piece for part in parts for piece in part.pieces]
    (merged,) = cut_fragments(pieces, target_nbytes=sum(piece.nbytes for piece in pieces))
    return dataclasses.replace(merged, index=index)


def _check_contiguous(column: str, pieces: Sequence[np.ndarray]) -> None:
    runs = np.unique(np.concatenate([*pieces, np.empty(0, dtype=np.int64)]), return_counts=True)[1]
    again = int((runs > 1).sum())
    if again:
        raise DataError(
            f"data.group = {column!r}: to train, the rows of a query must be next to each other, and {again:,} of "
            f"{len(runs):,} queries begin again further down: sort the rows by it (evaluate takes any order)"
        )
