"""Relative speeds of workers: in CPU time, so that a busy core is not taken for a slow one."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from pipeline.runtime.capability import ProbeResult, busy_notes, probe, relative, window


def ticking(step: float) -> Callable[[], float]:
    ticks: Iterator[float] = itertools.count(0.0, step)
    return lambda: next(ticks)


def test_a_core_that_is_busy_at_the_start_is_as_fast_as_its_twin() -> None:
    """One of two identical cores is taken by another program for nine tenths of the probe."""
    quiet = window(1, seconds=3, clock=ticking(1.0), cpu_clock=ticking(0.3))
    busy = window(1, seconds=3, clock=ticking(1.0), cpu_clock=ticking(0.3))
    stolen = window(1, seconds=30, clock=ticking(10.0), cpu_clock=ticking(0.3))
    assert quiet == busy
    assert stolen.rate == pytest.approx(quiet.rate)
    assert stolen.available == pytest.approx(quiet.available / 10)
    assert relative([1, 1], [quiet.rate, stolen.rate]) == (1.0, 1.0)


def test_a_slow_core_is_slow_in_cpu_time_too() -> None:
    assert relative([1, 1, 1], [1000.0, 1000.0, 500.0]) == (1.0, 1.0, 0.5)
    assert relative([2, 1], [1000.0, 1000.0]) == (2.0, 1.0)


def test_the_best_of_several_windows_counts() -> None:
    windows = iter([ProbeResult(100.0, 0.2), ProbeResult(90.0, 0.9), ProbeResult(80.0, 0.5)])
    assert probe(1, 3, lambda threads: next(windows)) == ProbeResult(100.0, 0.9)


def test_every_thread_is_measured() -> None:
    found = window(2, seconds=0.0)
    assert found.rate > 0
    assert 0 < found.available <= 1


def test_a_busy_worker_is_named_with_its_share() -> None:
    assert busy_notes(["0", "1"], [0.9, 0.95]) == ()
    assert busy_notes([], []) == ()
    (note,) = busy_notes(["0", "1"], [0.4, 0.2])
    assert "worker 1" in note
    assert "20%" in note
