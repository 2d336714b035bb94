"""Builds quantised matrices from blocks, outside any communicator, on the worker that keeps them."""

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import xgboost

from pipeline.config.encoding import ENCODING
from pipeline.data.rows import TRAIN, VALIDATION
from pipeline.planning.memory import file_nbytes, page_rows
from pipeline.preprocess.bins import Cuts, decode, decode_table, reference
from pipeline.preprocess.block import Block, Rows
from pipeline.runtime.allocator import trim
from pipeline.storage.scratch import reserved_space


@dataclass(frozen=True)
class Side:
    """The rows of one use on one worker: XGBoost's matrix, and arrays that XGBoost does not keep."""

    matrix: xgboost.DMatrix  # quantised; also holds labels, weights and query sizes
    row_ids: np.ndarray  # (rows,) uint64
    weight: np.ndarray | None  # (rows,) float32; None: all 1
    group: np.ndarray | None  # (rows,) int64 key of the row's query

    @property
    def rows(self) -> int:
        return len(self.row_ids)

    @property
    def query_starts(self) -> np.ndarray:
        """Returns the position of each query's first row, (queries,) int64."""
        assert self.group is not None
        return np.flatnonzero(np.append(True, self.group[1:] != self.group[:-1]))


@dataclass(frozen=True, eq=False)
class Partition:
    """One worker's share of the rows; stays on that worker until its future is released."""

    train: Side
    validation: Side  # may have no rows, as may `train`: a worker without rows of one use takes part
    nbytes: int  # of both matrices, as XGBoost counts non-missing values: 1 byte each and its column copy
    seconds: float
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)  # one training at a time

    def __reduce__(self) -> Any:
        raise TypeError("a Partition stays on the worker that built it: it cannot be sent or spilled")

    def __sizeof__(self) -> int:
        return 64  # so that Dask does not try to spill it


@dataclass(frozen=True)
class BlockRows:
    """Rows of one block."""

    block: Block
    rows: Rows

    @property
    def count(self) -> int:
        return len(self.block.label[self.rows])


def batches_of(blocks: Sequence[Block], use: int, most_rows: int | None) -> list[tuple[BlockRows, ...]]:
    """Returns the rows of one use, in order, as the batches that XGBoost gets.

    A batch is a block; with `most_rows`, that many rows (the last batch fewer), independent of the ends of blocks.
    """
    parts = [BlockRows(block, rows) for block in blocks if len(block.label[rows := block.rows_for(use)])]
    if most_rows is None:
        return [(part,) for part in parts]
    found: list[list[BlockRows]] = []
    room = 0
    for part in parts:
        positions = np.arange(len(part.block.label)) if isinstance(part.rows, slice) else part.rows
        start = 0
        while start < len(positions):
            if not room:
                found.append([])
                room = most_rows
            taken = positions[start : start + room]
            whole = int(taken[-1]) - int(taken[0]) == len(taken) - 1
            rows = slice(int(taken[0]), int(taken[-1]) + 1) if whole else taken
            found[-1].append(BlockRows(part.block, rows))
            start, room = start + len(taken), room - len(taken)
    return [tuple(batch) for batch in found]


class BlockIter(xgboost.DataIter):
    """Passes XGBoost one batch at a time as float32, decoded into a buffer that is reused for the next.

    XGBoost reads a batch only until it asks for the next one, and iterates over all of them three times.
    """

    def __init__(
        self,
        batches: Sequence[tuple[BlockRows, ...]],
        cuts: Cuts,
        names: Sequence[str],
        xp: ModuleType,
        cache_prefix: str | None = None,
    ) -> None:
        """`cache_prefix`: of the files that XGBoost writes, one page per batch; None: no files."""
        super().__init__(cache_prefix=cache_prefix, on_host=False)
        self._all = list(batches)
        self._names = list(names)
        self._types = ["q" if levels is None else "c" for levels in cuts.levels]
        self._xp = xp
        self._table = xp.asarray(decode_table(cuts))
        most = max((sum(part.count for part in batch) for batch in self._all), default=0)
        self._buffer = np.empty((most, len(cuts)), np.float32) if xp is np else None
        self._left: Iterator[tuple[BlockRows, ...]] = iter(())

    def reset(self) -> None:
        self._left = iter(self._all)

    def next(self, input_data: Callable[..., None]) -> bool:
        batch = next(self._left, None)
        if batch is None:
            return False
        input_data(data=self._decoded(batch), feature_names=self._names, feature_types=self._types)
        return True

    def _decoded(self, batch: tuple[BlockRows, ...]) -> Any:
        """Decodes a batch to (rows, features) float32."""
        chunks = (chunk for part in batch for chunk in part.block.chunks(part.rows))
        if self._buffer is None:
            codes = np.concatenate(list(chunks))  # on the way to the GPU codes, not float32
            return decode(self._xp.asarray(codes), self._table, self._xp)
        filled = 0
        for codes in chunks:
            decode(codes, self._table, out=self._buffer[filled : filled + len(codes)])
            filled += len(codes)
        return self._buffer[:filled]


class PagedMatrix(xgboost.ExtMemQuantileDMatrix):
    """A matrix on disk.  Its destructor prints nothing: its files may have been removed with the run's folder."""

    def __del__(self) -> None:
        with contextlib.suppress(Exception), xgboost.config_context(verbosity=0):
            super().__del__()


def build_partition(
    blocks: Sequence[Block],
    cuts: Cuts,
    names: Sequence[str],
    *,
    threads: int,
    xp: ModuleType = np,
    scratch: Path | None = None,
) -> Partition:
    """Builds the quantised matrices of a worker's blocks (in the order of their fragments).

    `names`: of the features.  `xp`: CuPy to build them on the GPU.  `scratch`: a folder for them on local disk, of
    which a few MiB at a time are read in each round; None: in memory.  The model is the same either way.  OutputError
    if the disk is full.
    """
    start = time.perf_counter()
    blocks = sorted(blocks, key=lambda block: block.fragment)
    if scratch is not None:
        trim()  # memory that making the blocks has left in the C library is needed here
    with xgboost.config_context(nthread=threads):
        rows, types = reference(cuts)
        cut_source = xgboost.QuantileDMatrix(
            xp.asarray(rows), feature_names=list(names), feature_types=types, max_bin=ENCODING.codes, nthread=threads
        )
        builder = _Builder(cut_source, cuts, names, threads, xp, scratch)
        train, validation = (builder.side(blocks, use) for use in (TRAIN, VALIDATION))
    if scratch is not None:
        trim()
    nbytes = 2 * (train.matrix.num_nonmissing() + validation.matrix.num_nonmissing())
    return Partition(train=train, validation=validation, nbytes=nbytes, seconds=time.perf_counter() - start)


@dataclass(frozen=True)
class _Builder:
    """The common settings of both sides."""

    cut_source: xgboost.QuantileDMatrix
    cuts: Cuts
    names: Sequence[str]
    threads: int
    xp: ModuleType
    scratch: Path | None

    def side(self, blocks: Sequence[Block], use: int) -> Side:
        """Builds the matrix of the rows of one use."""
        row_ids = _gather(blocks, use, "row_ids")
        if row_ids is None or not len(row_ids):
            return _empty(self.cut_source, ranking=any(block.group is not None for block in blocks))
        matrix = self._in_memory(blocks, use) if self.scratch is None else self._on_disk(blocks, use, self.scratch)
        weight, group = _gather(blocks, use, "weight"), _gather(blocks, use, "group")
        matrix.set_info(label=_gather(blocks, use, "label"))
        side = Side(matrix=matrix, row_ids=row_ids, weight=weight, group=group)
        if group is not None:
            starts = side.query_starts
            matrix.set_info(group=np.diff(np.append(starts, side.rows)))
            if weight is not None:  # XGBoost weighs whole queries: by their first row
                matrix.set_info(weight=weight[starts])
        elif weight is not None:
            matrix.set_info(weight=weight)
        return side

    def _in_memory(self, blocks: Sequence[Block], use: int) -> xgboost.QuantileDMatrix:
        batches = BlockIter(batches_of(blocks, use, None), self.cuts, self.names, self.xp)
        return xgboost.QuantileDMatrix(batches, **self._options())

    def _on_disk(self, blocks: Sequence[Block], use: int, scratch: Path) -> "PagedMatrix":
        """Builds a matrix on disk; XGBoost's files are removed with the matrix, and here if XGBoost fails.

        XGBoost ends the process if its disk is full, so the space is checked before.
        """
        batches = batches_of(blocks, use, page_rows(len(self.cuts)))
        prefix = scratch / f"matrix-{uuid.uuid4().hex}"
        nbytes = file_nbytes([present(batch) for batch in batches])
        pages = BlockIter(batches, self.cuts, self.names, self.xp, cache_prefix=str(prefix))
        try:
            with reserved_space(prefix, nbytes, "the pages of the quantised matrix"):
                return PagedMatrix(pages, **self._options())
        except BaseException:
            for path in scratch.glob(f"{prefix.name}*"):
                path.unlink(missing_ok=True)
            raise

    def _options(self) -> dict[str, Any]:
        return {
            "ref": self.cut_source, "max_bin": ENCODING.codes, "nthread": self.threads, "enable_categorical": True,
        }  # fmt: skip


def present(batch: tuple[BlockRows, ...]) -> tuple[int, list[int]]:
    """Counts the rows of a batch, and for each feature the rows where it is not missing, from the codes."""
    rows, counts = 0, np.zeros(batch[0].block.codes.shape[1], np.int64)
    for part in batch:
        for codes in part.block.chunks(part.rows):
            rows, counts = rows + len(codes), counts + np.count_nonzero(codes != ENCODING.missing, axis=0)
    return rows, counts.tolist()


def _empty(cut_source: xgboost.QuantileDMatrix, ranking: bool) -> Side:
    """Builds a side of no rows; locally, since in a communicator the others would have to build one too."""
    matrix = xgboost.QuantileDMatrix(
        np.empty((0, cut_source.num_col()), np.float32),
        label=np.empty(0, np.float32),
        ref=cut_source,
        max_bin=ENCODING.codes,
        feature_names=cut_source.feature_names,
        feature_types=cut_source.feature_types,
    )
    group = np.empty(0, np.int64) if ranking else None
    return Side(matrix=matrix, row_ids=np.empty(0, np.uint64), weight=None, group=group)


def _gather(blocks: Sequence[Block], use: int, name: str) -> np.ndarray | None:
    """Concatenates one array of all blocks, in their order; None if the blocks have none."""
    parts = [(getattr(block, name), block.rows_for(use)) for block in blocks]
    if not parts or any(array is None for array, _ in parts):
        return None
    return np.concatenate([array[rows] for array, rows in parts])
