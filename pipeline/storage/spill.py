"""Keeps arrays in files, read by plain reads: a memory map's pages count in the RSS by which nannies kill workers."""

import os
import uuid
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import PipelineError
from pipeline.storage.scratch import require_space, write_error

CHUNK_NBYTES = 4 << 20  # read at a time, if not all is needed at once


class StoredArray:
    """Rows (rows, columns) of any dtype in a file, which is removed with this object.

    Pickled, it becomes the array itself: another process may not see this disk.
    """

    def __init__(self, array: np.ndarray, folder: Path, what: str) -> None:
        """Writes the array.  OutputError, which names it `what`, if there is no room; nothing is left then."""
        array = np.ascontiguousarray(array)
        self.shape, self.dtype, self.nbytes = array.shape, array.dtype, array.nbytes
        self.path = folder / f"{uuid.uuid4().hex}.array"
        try:
            require_space(folder, self.nbytes, what)
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            self._finalizer = weakref.finalize(self, _unlink, self.path)
            with open(file, "wb", buffering=0) as stream:
                view = memoryview(array.reshape(-1)).cast("B") if self.nbytes else memoryview(b"")
                while view:
                    view = view[stream.write(view) :]
        except OSError as error:
            _unlink(self.path)
            raise write_error(folder, error) from None

    def __len__(self) -> int:
        return int(self.shape[0])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)

    def __reduce__(self) -> Any:
        return np.asarray, (self[:],)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Returns these rows, in memory: a slice, or ascending positions (k,)."""
        parts = list(self.chunks(rows))
        return np.concatenate(parts) if parts else np.empty((0, *self.shape[1:]), self.dtype)

    def chunks(self, rows: slice | np.ndarray, chunk_rows: int | None = None) -> Iterator[np.ndarray]:
        """Returns these rows, in arrays of a few MiB."""
        row_nbytes = max(1, self.nbytes // max(1, len(self)))
        chunk_rows = chunk_rows or max(1, CHUNK_NBYTES // row_nbytes)
        with self._reading() as stream:
            if isinstance(rows, slice):
                first, stop, step = rows.indices(len(self))
                if step != 1:
                    raise ValueError("rows of a file are read in steps of 1")
                for start in range(first, stop, chunk_rows):
                    yield self._read(stream, start, min(start + chunk_rows, stop))
                return
            for at in range(0, len(rows), chunk_rows):
                chosen = rows[at : at + chunk_rows]
                yield from self._chosen(stream, chosen, chunk_rows)

    def _chosen(self, stream: Any, chosen: np.ndarray, chunk_rows: int) -> Iterator[np.ndarray]:
        """Reads ascending positions, including the rows between them, but never more than a chunk at a time."""
        while len(chosen):
            start = int(chosen[0])
            count = int(np.searchsorted(chosen, start + chunk_rows))
            yield self._read(stream, start, int(chosen[count - 1]) + 1)[chosen[:count] - start]
            chosen = chosen[count:]

    def _reading(self) -> Any:
        try:
            return open(self.path, "rb", buffering=0)
        except OSError as error:
            raise PipelineError(f"{self.path}: cannot be read again: {error.strerror}") from None

    def _read(self, stream: Any, start: int, stop: int) -> np.ndarray:
        """Reads the rows `start` to `stop` (excluded)."""
        found = np.empty((stop - start, *self.shape[1:]), self.dtype)
        view = memoryview(found.reshape(-1)).cast("B") if found.nbytes else memoryview(b"")
        offset = start * (self.nbytes // max(1, len(self)))
        while view:
            count = os.preadv(stream.fileno(), [view], offset)
            if not count:
                raise PipelineError(
                    f"{self.path}: ends at {offset:,} of {self.nbytes:,} bytes: another process has truncated it"
                )
            view, offset = view[count:], offset + count
        return found


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)
