"""A block: one fragment as bin codes on its worker."""

from dataclasses import dataclass

import numpy as np

from pipeline.data.rows import TRAIN


@dataclass(frozen=True)
class Block:
    """One fragment's rows, ready for the quantised matrix: a byte a value."""

    fragment: int  # its number in the source
    codes: np.ndarray  # (rows, features) uint8, 255 = missing
    label: np.ndarray  # (rows,) float32
    weight: np.ndarray | None  # (rows,) float32; None: all 1
    group: np.ndarray | None  # (rows,) int64 key of the row's query, for ranking
    row_ids: np.ndarray  # (rows,) uint64
    use: np.ndarray | None  # (rows,) uint8 TRAIN or VALIDATION; None: all TRAIN

    @property
    def nbytes(self) -> int:
        arrays = (self.codes, self.label, self.weight, self.group, self.row_ids, self.use)
        return sum(array.nbytes for array in arrays if array is not None)

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + self.nbytes  # what Dask counts as the worker's memory

    def rows_for(self, use: int) -> np.ndarray | slice:
        """Selects the rows of one use: a slice when that is all of them, else their positions."""
        if self.use is None:
            return slice(None) if use == TRAIN else slice(0)
        chosen = self.use == use
        return slice(None) if chosen.all() else np.flatnonzero(chosen)
