"""Keeps the standard streams usable after the caller has closed them or their reader has exited."""

import errno
import io
import os
import sys
from collections.abc import Collection
from typing import Any

GONE = (errno.EPIPE, errno.EIO)  # errors after the exit of the reader, of the terminal


def ensure_streams() -> None:
    """Opens the streams that the caller has closed, and ignores write errors if the reader has exited.

    For programs of our own, before they open anything: otherwise a file could get descriptor 1 or 2 and be written to.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, mode)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
    sys.stdout = _stream(1, sys.stdout, GONE, "strict")
    sys.stderr = _stream(2, sys.stderr, None, "backslashreplace")


def _stream(number: int, before: Any, ignored: Collection[int] | None, errors: str) -> io.TextIOWrapper:
    """A stream like the one before; if stderr is full, the error cannot be reported."""
    raw = _Lasting(number, ignored)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(before, "encoding", None) or "utf-8",
        errors=getattr(before, "errors", None) or errors,
        line_buffering=number == 2 or raw.isatty(),
        write_through=number == 2,
    )


class _Lasting(io.FileIO):
    """A file descriptor to write to, some of whose errors are ignored (None: all)."""

    def __init__(self, number: int, ignored: Collection[int] | None) -> None:
        super().__init__(number, "w", closefd=False)
        self._ignored = ignored

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            if self._ignored is not None and error.errno not in self._ignored:
                raise
            return memoryview(data).nbytes
