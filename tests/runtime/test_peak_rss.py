"""The peak of a worker's resident memory by stage."""

import sys

import pytest

from pipeline.runtime.peak_rss import PeakRss, read_peak_nbytes, reset_peak


class Kernel:
    """A process whose size is set; counts how often its peak is reset."""

    def __init__(self, *, resets: bool = True) -> None:
        self.now = self.peak = 100
        self.count, self.allowed = 0, resets

    def grow(self, to: int) -> None:
        self.now = to
        self.peak = max(self.peak, to)

    def read(self) -> int:
        return self.peak

    def reset(self) -> bool:
        if self.allowed:
            self.peak, self.count = self.now, self.count + 1
        return self.allowed


def test_each_stage_has_its_own_peak() -> None:
    kernel = Kernel()
    peaks = PeakRss(kernel.read, kernel.reset)
    for stage, sizes in (("statistics", (500, 200)), ("blocks", (300, 150)), ("rounds", (250,))):
        for size in sizes:
            with peaks.stage("run", stage):
                kernel.grow(size)
        kernel.grow(120)
    assert kernel.count == 3  # not with every task
    assert peaks.pop("run") == {"statistics": 500, "blocks": 300, "rounds": 250}
    assert peaks.pop("run") == {}


def test_a_peak_while_two_stages_run_counts_for_both() -> None:
    kernel = Kernel()
    peaks = PeakRss(kernel.read, kernel.reset)
    with peaks.stage("run", "statistics"):
        kernel.grow(200)
        with peaks.stage("run", "blocks"):
            kernel.grow(400)
        kernel.grow(150)
        kernel.grow(300)  # after the blocks
    with peaks.stage("run", "rounds"):
        kernel.grow(700)
    assert peaks.pop("run") == {"statistics": 400, "blocks": 400, "rounds": 700}


def test_runs_at_the_same_time_do_not_take_each_others_peaks() -> None:
    kernel = Kernel()
    peaks = PeakRss(kernel.read, kernel.reset)
    with peaks.stage("a", "rounds"):
        kernel.grow(900)
        kernel.grow(100)
        with peaks.stage("b", "survey"):
            kernel.grow(150)
    assert peaks.pop("a") == {"rounds": 900}
    assert peaks.pop("b") == {"survey": 150}


def test_memory_before_the_first_stage_counts_for_none() -> None:
    kernel = Kernel()
    kernel.grow(900)
    kernel.grow(100)
    peaks = PeakRss(kernel.read, kernel.reset)
    assert peaks.pop("run") == {}
    with peaks.stage("run", "survey"):
        pass
    assert peaks.pop("run") == {"survey": 100}


@pytest.mark.parametrize("kernel", [Kernel(resets=False)])
def test_a_system_that_resets_nothing_has_no_peaks(kernel: Kernel) -> None:
    """Each stage would have the largest of those before."""
    peaks = PeakRss(kernel.read, kernel.reset)
    for stage in ("statistics", "rounds"):
        with peaks.stage("run", stage):
            kernel.grow(900)
    assert peaks.pop("run") == {}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="read from Linux's /proc")
def test_the_kernel_s_own() -> None:
    assert reset_peak()
    before = read_peak_nbytes()
    held = bytearray(64 * 2**20)
    grown = read_peak_nbytes()
    del held
    assert before is not None
    assert grown is not None
    assert grown - before > 60 * 2**20
    assert read_peak_nbytes() == pytest.approx(grown, abs=2**20)  # threads report their pages in batches
    reset_peak()
    assert (read_peak_nbytes() or 0) < grown - 30 * 2**20
