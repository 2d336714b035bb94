"""The peak of a worker's resident memory by stage."""

import sys

import pytest

from pipeline.runtime.peak_rss import PeakRss, read_peak_nbytes, reset_peak


class Kernel:
    """A process whose size is set; counts how often its peak is reset."""

    def __init__(self) -> None:
        self.now = self.peak = 100
        self.resets = 0

    def grow(self, to: int) -> None:
        self.now = to
        self.peak = max(self.peak, to)

    def read(self) -> int:
        return self.peak

    def reset(self) -> None:
        self.peak, self.resets = self.now, self.resets + 1


def test_each_stage_has_its_own_peak() -> None:
    kernel = Kernel()
    peaks = PeakRss(kernel.read, kernel.reset)
    for stage, sizes in (("statistics", (500, 200)), ("blocks", (300, 150)), ("rounds", (250,))):
        for size in sizes:
            peaks.enter(stage)
            kernel.grow(size)
            peaks.leave(stage)
        kernel.grow(120)
    assert peaks.peaks() == {"statistics": 500, "blocks": 300, "rounds": 250}
    assert kernel.resets == 3  # not with every task


def test_a_peak_while_two_stages_run_counts_for_both() -> None:
    kernel = Kernel()
    peaks = PeakRss(kernel.read, kernel.reset)
    peaks.enter("statistics")
    kernel.grow(200)
    peaks.enter("blocks")
    kernel.grow(400)
    peaks.leave("statistics")
    kernel.grow(150)
    peaks.enter("blocks")  # statistics have ended
    kernel.grow(700)
    assert peaks.peaks() == {"statistics": 400, "blocks": 700}


def test_memory_before_the_first_stage_counts_for_none() -> None:
    kernel = Kernel()
    kernel.grow(900)
    kernel.grow(100)
    peaks = PeakRss(kernel.read, kernel.reset)
    assert peaks.peaks() == {}
    peaks.enter("survey")
    assert peaks.peaks() == {"survey": 100}


def test_a_system_without_it_has_no_peaks() -> None:
    peaks = PeakRss(lambda: None, lambda: None)
    peaks.enter("survey")
    assert peaks.peaks() == {}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="read from Linux's /proc")
def test_the_kernel_s_own() -> None:
    reset_peak()
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
