"""What the C library does with freed memory: kept for the next buffer of that size, or returned to the system."""

import contextlib
import os
import platform
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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_a_buffer_that_is_freed_and_allocated_again_is_not_mapped_anew() -> None:
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536"}  # as in Dask's workers
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    before, within, after = map(int, done.stdout.split())
    assert before > 15 * PAGES
    assert within < 3 * PAGES
    assert after > 15 * PAGES


class Library:
    """Records the calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def mallopt(self, what: int, to: int) -> None:
        self.calls.append((what, to))

    def malloc_trim(self, pad: int) -> None:
        self.calls.append((0, pad))


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    made = Library()
    monkeypatch.setattr(allocator, "_library", lambda: made)
    for name in allocator.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return made


@pytest.mark.parametrize(("value", "nbytes"), [("65536", 65_536), ("-1", 131_072), ("x", 131_072)])
def test_afterwards_thresholds_are_those_of_the_environment(
    value: str, nbytes: int, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", value)
    with contextlib.suppress(KeyError), allocator.reusing_freed_memory():
        assert [what for what, _ in library.calls] == [allocator.MMAP_THRESHOLD, allocator.TRIM_THRESHOLD]
        library.calls.clear()
        raise KeyError
    assert library.calls == [(allocator.MMAP_THRESHOLD, 131_072), (allocator.TRIM_THRESHOLD, nbytes), (0, 0)]


def test_an_allocator_that_adapts_by_itself_is_left_alone(library: Library) -> None:
    """Without a variable glibc raises its thresholds as buffers are freed; setting them would end that for good."""
    with allocator.reusing_freed_memory():
        pass
    assert library.calls == []


def test_other_libraries_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    monkeypatch.setattr(allocator, "_library", object)  # has neither function
    entered = []
    with allocator.reusing_freed_memory():
        allocator.trim()
        entered.append(True)
    assert entered
