"""What the C library does with freed memory: kept for the next buffer of that size, or returned to the system."""

import contextlib
import os
import subprocess
import sys

import pytest

from pipeline.runtime import allocator

PAGES = 2**20 // 4096  # of a buffer
SCRIPT = """
import resource
import numpy as np
from pipeline.runtime.allocator import reusing_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(1 << 17)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
with reusing_freed_memory():
    within = faults()
print(before, within, faults())
"""


@pytest.mark.skipif(
    not hasattr(os, "confstr") or "glibc" not in str(os.confstr("CS_GNU_LIBC_VERSION")), reason="no glibc"
)
def test_a_buffer_that_is_freed_and_allocated_again_is_not_mapped_anew() -> None:
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536"}  # as in Dask's workers
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    before, within, after = map(int, done.stdout.split())
    assert before > 15 * PAGES
    assert within < 3 * PAGES
    assert after > 15 * PAGES


def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "_library", object)
    with allocator.reusing_freed_memory():
        allocator.trim()


@pytest.mark.parametrize(("value", "nbytes"), [(None, 131_072), ("65536", 65_536), ("-1", 131_072), ("x", 131_072)])
def test_afterwards_thresholds_are_those_of_the_environment(
    value: str | None, nbytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, int]] = []

    class Library:
        def mallopt(self, what: int, to: int) -> None:
            calls.append((what, to))

        def malloc_trim(self, pad: int) -> None:
            calls.append((0, pad))

    monkeypatch.setattr(allocator, "_library", Library)
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    if value is not None:
        monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", value)
    with contextlib.suppress(KeyError), allocator.reusing_freed_memory():
        calls.clear()
        raise KeyError
    assert calls == [(allocator.MMAP_THRESHOLD, 131_072), (allocator.TRIM_THRESHOLD, nbytes), (0, 0)]
