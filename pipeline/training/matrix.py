"""Blocks become quantised matrices, outside any communicator, on the worker that keeps them."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import xgboost

from pipeline.data.rows import TRAIN, VALIDATION
from pipeline.training.block import Block
from pipeline.training.cuts import XGBOOST_MAX_BIN, Cuts, decode, decode_table, reference


@dataclass(frozen=True)
class Side:
    """The rows of one use on one worker: XGBoost's matrix, and what XGBoost does not keep."""

    matrix: xgboost.QuantileDMatrix  # holds labels, weights and query sizes too
    row_ids: np.ndarray  # (rows,) uint64
    weight: np.ndarray | None  # (rows,) float32; None: all 1
    group: np.ndarray | None  # (rows,) int64 key of the row's query

    @property
    def rows(self) -> int:
        return len(self.row_ids)

    @property
    def query_starts(self) -> np.ndarray:
        """Position of each query's first row, (queries,) int64."""
        assert self.group is not None
        return np.flatnonzero(np.append(True, self.group[1:] != self.group[:-1]))


@dataclass(frozen=True, eq=False)
class Partition:
    """One worker's share of the rows; lives on that worker until its future is released."""

    train: Side
    validation: Side  # perhaps of no rows, as `train`: a worker without rows of one use still takes part
    nbytes: int  # of both matrices, as XGBoost counts non-missing values: 1 byte each and its column copy
    seconds: float
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)  # one training at a time

    def __reduce__(self) -> Any:
        raise TypeError("a Partition stays on the worker that built it: it cannot be sent or spilled")

    def __sizeof__(self) -> int:
        return 64  # so that Dask does not think of spilling it


class BlockIter(xgboost.DataIter):
    """Hands XGBoost one block at a time as float32, decoded into a buffer that is used again for the next.

    XGBoost reads a batch only until it asks for the next one, and walks over all of them three times.
    """

    def __init__(self, blocks: Sequence[Block], use: int, cuts: Cuts, names: Sequence[str], xp: ModuleType) -> None:
        super().__init__()
        self._blocks = [(block, rows) for block in blocks if _count(block, rows := block.rows_for(use))]
        self._names = list(names)
        self._types = ["q" if levels is None else "c" for levels in cuts.levels]
        self._xp = xp
        self._table = xp.asarray(decode_table(cuts))
        most = max((_count(block, rows) for block, rows in self._blocks), default=0)
        self._buffer = np.empty((most, len(cuts)), np.float32) if xp is np else None
        self._batches: Iterator[tuple[Block, Any]] = iter(())

    def reset(self) -> None:
        self._batches = iter(self._blocks)

    def next(self, input_data: Callable[..., None]) -> bool:
        batch = next(self._batches, None)
        if batch is None:
            return False
        block, rows = batch
        codes = self._xp.asarray(block.codes[rows])
        buffer = None if self._buffer is None else self._buffer[: len(codes)]
        data = decode(codes, self._table, self._xp, out=buffer)
        input_data(data=data, feature_names=self._names, feature_types=self._types)
        return True


def _count(block: Block, rows: np.ndarray | slice) -> int:
    return len(block.label[rows])


def build_partition(
    blocks: Sequence[Block], cuts: Cuts, names: Sequence[str], *, threads: int, xp: ModuleType = np
) -> Partition:
    """The quantised matrices of a worker's blocks (in the order of their fragments).

    `names`: of the features.  `xp`: CuPy to build them on the GPU.
    """
    start = time.perf_counter()
    blocks = sorted(blocks, key=lambda block: block.fragment)
    with xgboost.config_context(nthread=threads):
        rows, types = reference(cuts)
        cut_source = xgboost.QuantileDMatrix(
            xp.asarray(rows), feature_names=list(names), feature_types=types, max_bin=XGBOOST_MAX_BIN, nthread=threads
        )
        train = _side(blocks, TRAIN, cut_source, BlockIter(blocks, TRAIN, cuts, names, xp), threads)
        validation = _side(blocks, VALIDATION, cut_source, BlockIter(blocks, VALIDATION, cuts, names, xp), threads)
    nbytes = 2 * (train.matrix.num_nonmissing() + validation.matrix.num_nonmissing())
    return Partition(train=train, validation=validation, nbytes=nbytes, seconds=time.perf_counter() - start)


def _empty(cut_source: xgboost.QuantileDMatrix, ranking: bool) -> Side:
    """A side of no rows; made here, for in a communicator the others would have to make one too."""
    matrix = xgboost.QuantileDMatrix(
        np.empty((0, cut_source.num_col()), np.float32),
        label=np.empty(0, np.float32),
        ref=cut_source,
        max_bin=XGBOOST_MAX_BIN,
        feature_names=cut_source.feature_names,
        feature_types=cut_source.feature_types,
    )
    group = np.empty(0, np.int64) if ranking else None
    return Side(matrix=matrix, row_ids=np.empty(0, np.uint64), weight=None, group=group)


def _side(
    blocks: Sequence[Block], use: int, cut_source: xgboost.QuantileDMatrix, batches: BlockIter, threads: int
) -> Side:
    """The matrix of the rows of one use."""
    row_ids = _gather(blocks, use, "row_ids")
    if row_ids is None or not len(row_ids):
        return _empty(cut_source, ranking=any(block.group is not None for block in blocks))
    matrix = xgboost.QuantileDMatrix(
        batches, ref=cut_source, max_bin=XGBOOST_MAX_BIN, nthread=threads, enable_categorical=True
    )
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


def _gather(blocks: Sequence[Block], use: int, name: str) -> np.ndarray | None:
    """One array of all blocks, in their order; None where the blocks have none."""
    parts = [(getattr(block, name), block.rows_for(use)) for block in blocks]
    if not parts or any(array is None for array, _ in parts):
        return None
    return np.concatenate([array[rows] for array, rows in parts])
