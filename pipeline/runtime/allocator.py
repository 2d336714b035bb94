"""Tells the C library's allocator what to do with freed memory (glibc; nothing happens with other libraries)."""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from typing import Any

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
DEFAULT_NBYTES = 128 << 10  # of both
MOST_MMAP_NBYTES = 32 << 20  # the largest that glibc takes
KEPT_NBYTES = 256 << 20  # at most, of memory that is free at the end of the heap
VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")  # of glibc, in bytes


def trim() -> None:
    """Returns freed pages and buffers that the C library keeps to the system."""
    with contextlib.suppress(AttributeError, OSError):
        _library().malloc_trim(0)


@contextlib.contextmanager
def reusing_freed_memory() -> Iterator[None]:
    """Within it, freed memory stays with the process; afterwards it is returned to the system.

    XGBoost allocates and frees the same buffers in every round.  Dask has the workers' allocator return freed memory at
    once (MALLOC_TRIM_THRESHOLD_), and with that variable glibc also maps every buffer above 128 KiB anew: each round then
    waits for the system to map and zero the same pages (`python -m benchmarks.round_cost`).  Without these variables glibc
    adapts by itself, and nothing is changed.
    """
    if not any(name in os.environ for name in VARIABLES):
        yield
        return
    try:
        mallopt = _library().mallopt
    except (AttributeError, OSError):
        yield
        return
    mallopt(MMAP_THRESHOLD, MOST_MMAP_NBYTES)
    mallopt(TRIM_THRESHOLD, KEPT_NBYTES)
    try:
        yield
    finally:
        for threshold, name in zip((MMAP_THRESHOLD, TRIM_THRESHOLD), VARIABLES, strict=True):
            mallopt(threshold, _of_environment(name))
        trim()


def _library() -> Any:
    return ctypes.CDLL(None)


def _of_environment(name: str) -> int:
    """Returns what a variable of glibc says, in bytes."""
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else DEFAULT_NBYTES
