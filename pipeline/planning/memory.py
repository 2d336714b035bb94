"""Estimates how much memory a training run takes, by stage; arithmetic only.

All processes together, on the CPU:

    blocks   codes of all rows + raw rows kept for the second pass + the fragments being decoded
    matrix   codes + quantised matrix + one decoded fragment a worker
    rounds   quantised matrix + row state + histograms

With the matrix on disk, in one worker:

    pages    half the row state + one page decoded + what XGBoost makes of it
    rounds   row state + histograms + the pages that are mapped, and lists of rows for each page and node

The constants were measured on XGBoost 3.4.1 with 28 features (see each); they are rounded up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.config.encoding import ENCODING

CLIENT_NBYTES = 190 * 2**20  # client with scheduler, nannies and dashboard
WORKER_NBYTES = 230 * 2**20  # a worker's interpreter, Dask, Arrow and XGBoost
MATRIX_NBYTES_PER_VALUE = 2.9  # quantised matrix where no value is missing: codes by row and by column
MATRIX_NBYTES_PER_VALUE_MISSING = 5.8  # with a single missing value anywhere
ROW_NBYTES = 48  # label, weight, row id, margin, gradient pair, position in the tree, all per row
PAGED_ROW_NBYTES = 72  # the same with the matrix on disk: what 3 and 6 million rows of 128 features took
BIN_NBYTES = 16  # a histogram bin: two doubles
MAX_CACHED_NODES = 65_536  # XGBoost's histogram cache
PAGE_NBYTES = 64 * 2**20  # of a page as float32: in smaller ones rounds took longer (2 to 4 times with a quarter of it)
MIN_PAGE_ROWS = 8_192
MAPPED_PAGES = 1  # at most: XGBoost reads three ahead, but 0.2 to 0.6 of a page was resident while it worked
PAGE_NODE_NBYTES = 8_192  # two lists of rows, of a memory page at least, for each page and node that is split
FILE_NBYTES_PER_VALUE = 2.3  # of XGBoost's cache file: a page where no value is missing
FILE_NBYTES_PER_VALUE_MISSING = 5.4  # where one is
FILE_NBYTES_PER_VALUE_SPARSE = 13.5  # where a column is present in less than SPARSE_SHARE of the page's rows
FILE_NBYTES_PER_BIN = 16  # cut points, in each page
SPARSE_SHARE = 0.2
MIB = 2**20


@dataclass(frozen=True)
class MemoryShape:
    """The quantities that a run's memory depends on."""

    rows: int
    features: int
    bins: int  # per feature
    depth: int  # of a tree
    classes: int  # trees per round
    workers: int
    threads: int  # per worker
    fragment_rows: int  # of the largest fragment
    missing: bool  # whether any value may be missing


@dataclass(frozen=True)
class Estimate:
    """Bytes of all processes together."""

    base_nbytes: int
    blocks_nbytes: int
    matrix_nbytes: int
    rounds_nbytes: int

    @property
    def peak_nbytes(self) -> int:
        return self.base_nbytes + max(self.blocks_nbytes, self.matrix_nbytes, self.rounds_nbytes)


def processes_nbytes(workers: int) -> int:
    """Returns what the client and its workers take before they hold a row."""
    return CLIENT_NBYTES + workers * WORKER_NBYTES


def estimate(shape: MemoryShape) -> Estimate:
    """Estimates the memory of a run, by stage; `blocks_nbytes` holds no raw rows kept between the passes."""
    values = shape.rows * shape.features
    codes = values * ENCODING.nbytes
    per_value = MATRIX_NBYTES_PER_VALUE_MISSING if shape.missing else MATRIX_NBYTES_PER_VALUE
    matrix = int(values * per_value)
    fragment = shape.fragment_rows * shape.features * 4
    row_state, histograms = shape.rows * _row_nbytes(shape), _histograms_nbytes(shape) * shape.workers
    return Estimate(
        base_nbytes=processes_nbytes(shape.workers),
        blocks_nbytes=codes + 2 * fragment * shape.workers * shape.threads,
        matrix_nbytes=codes + matrix + 2 * fragment * shape.workers,
        rounds_nbytes=matrix + row_state + histograms,
    )


def _row_nbytes(shape: MemoryShape, one_class: int = ROW_NBYTES) -> int:
    return one_class + 12 * (shape.classes - 1)


def _histograms_nbytes(shape: MemoryShape) -> int:
    """Returns the bytes of the histograms of one worker's trees."""
    nodes: int = min(2**shape.depth - 1, MAX_CACHED_NODES) + shape.threads - 1
    return BIN_NBYTES * shape.features * shape.bins * nodes


def spare_nbytes(shape: MemoryShape) -> int:
    """Returns the bytes of raw rows that can be kept between the passes without raising the run's peak."""
    need = estimate(shape)
    return max(0, max(need.matrix_nbytes, need.rounds_nbytes) - need.blocks_nbytes)


def page_rows(features: int) -> int:
    """Returns the rows of a page of a matrix on disk."""
    return max(MIN_PAGE_ROWS, PAGE_NBYTES // (4 * max(1, features)))


def file_nbytes(pages: Sequence[tuple[int, Sequence[int]]]) -> int:
    """Returns the size of XGBoost's cache file; `pages`: for each page its rows and, per feature, the rows not missing.

    A value missing in one page makes all of them larger.  Between 1 and 1.8 times what was measured for 3,000 to 50,000
    rows of 3 to 128 features.
    """
    missing = any(count < rows for rows, present in pages for count in present)
    total = 0
    for rows, present in pages:
        per_value = FILE_NBYTES_PER_VALUE_MISSING if missing else FILE_NBYTES_PER_VALUE
        if any(count < SPARSE_SHARE * rows for count in present):
            per_value = FILE_NBYTES_PER_VALUE_SPARSE
        total += int(rows * (8 + per_value * len(present))) + FILE_NBYTES_PER_BIN * ENCODING.codes * len(present)
    return total


@dataclass(frozen=True)
class WorkerMemory:
    """Bytes that one worker takes at its peak, by where its matrix and the codes it is made of are stored."""

    all_nbytes: int  # both in memory
    memory_nbytes: int  # the matrix in memory, codes on disk
    disk_nbytes: int  # both on disk
    row_nbytes: int  # of each row, which stay in memory in any case
    fixed_nbytes: int  # independent of the number of rows, with both on disk

    def nbytes(self, matrix: Literal["memory", "disk"], codes: Literal["memory", "disk"]) -> int:
        """Returns the bytes with the matrix and the codes in these places."""
        in_memory = self.all_nbytes if codes == "memory" else self.memory_nbytes
        return in_memory if matrix == "memory" else self.disk_nbytes


def worker_need(shape: MemoryShape, rows: int) -> WorkerMemory:
    """Returns what a worker with `rows` rows (training and validation) takes; `shape` has the rest."""
    values, row_nbytes = rows * shape.features, _row_nbytes(shape, PAGED_ROW_NBYTES)
    per_value = MATRIX_NBYTES_PER_VALUE_MISSING if shape.missing else MATRIX_NBYTES_PER_VALUE
    histograms, decoded = _histograms_nbytes(shape), 2 * shape.fragment_rows * shape.features * 4
    matrix = int(values * per_value)
    in_memory = matrix + rows * _row_nbytes(shape) + histograms
    page = min(rows, page_rows(shape.features))
    page_values, pages = page * shape.features, -(-rows // max(1, page))
    lists = pages * PAGE_NODE_NBYTES * min(2 ** max(0, shape.depth - 1), page)
    rounds = histograms + lists + int(MAPPED_PAGES * page_values * per_value)
    building = int(page_values * (4 + 2 * per_value))
    fixed = WORKER_NBYTES + max(building - rows * row_nbytes // 2, rounds)
    return WorkerMemory(
        all_nbytes=WORKER_NBYTES + max(values * ENCODING.nbytes + matrix + decoded, in_memory),
        memory_nbytes=WORKER_NBYTES + max(matrix + decoded, in_memory),
        disk_nbytes=fixed + rows * row_nbytes,
        row_nbytes=row_nbytes,
        fixed_nbytes=fixed,
    )
