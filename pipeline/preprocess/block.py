"""Holds one fragment as bin codes on its worker, in memory or in a file."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.data.rows import TRAIN
from pipeline.storage.spill import StoredArray

Rows = slice | np.ndarray  # of one block: a slice, or ascending positions (k,)


@dataclass(frozen=True)
class Block:
    """One fragment's rows, ready for the quantised matrix: a code for each value."""

    fragment: int  # its number in the source
    codes: np.ndarray | StoredArray  # (rows, features) of config/encoding.py; a codes file is pickled as an array
    label: np.ndarray  # (rows,) float32
    weight: np.ndarray | None  # (rows,) float32; None: all 1
    group: np.ndarray | None  # (rows,) int64 key of the row's query, for ranking
    row_ids: np.ndarray  # (rows,) uint64
    use: np.ndarray | None  # (rows,) uint8 TRAIN or VALIDATION; None: all TRAIN

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, in memory or in a file."""
        arrays = (self.codes, self.label, self.weight, self.group, self.row_ids, self.use)
        return sum(array.nbytes for array in arrays if array is not None)

    @property
    def disk_nbytes(self) -> int:
        """Bytes of the arrays in a file."""
        return self.codes.nbytes if isinstance(self.codes, StoredArray) else 0

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + self.nbytes - self.disk_nbytes  # what Dask counts as the worker's memory

    def rows_for(self, use: int) -> Rows:
        """Selects the rows of one use: a slice when that is all of them, else their positions."""
        if self.use is None:
            return slice(None) if use == TRAIN else slice(0)
        chosen = self.use == use
        return slice(None) if chosen.all() else np.flatnonzero(chosen)

    def chunks(self, rows: Rows) -> Iterator[np.ndarray]:
        """The codes of these rows (k, features), in pieces: one piece from memory, pieces of a few MiB from a
        file.
        """
        if isinstance(self.codes, StoredArray):
            yield from self.codes.chunks(rows)
        else:
            yield self.codes[rows]

    def reordered(self, at: np.ndarray) -> "Block":
        """The rows at these positions (rows,), in their order."""
        assert not isinstance(self.codes, StoredArray)  # blocks are stored when they are complete
        assert self.group is None  # queries stay together
        return dataclasses.replace(
            self,
            codes=self.codes[at],
            label=self.label[at],
            weight=None if self.weight is None else self.weight[at],
            row_ids=self.row_ids[at],
            use=None if self.use is None else self.use[at],
        )

    def on_disk(self, folder: Path) -> "Block":
        """The same block with its codes in a file.  OutputError where the disk is full."""
        if isinstance(self.codes, StoredArray):
            return self
        return dataclasses.replace(self, codes=StoredArray(self.codes, folder, "the bin codes of a block"))
