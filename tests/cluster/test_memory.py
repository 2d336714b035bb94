"""The sampler of peak memory."""

import os
import subprocess
import sys

import numpy as np
import pytest

from pipeline.cluster import memory
from pipeline.cluster.memory import PeakMemory


def test_peak_sees_what_is_gone_again() -> None:
    peak = PeakMemory(lambda: [os.getpid()], interval=60)  # no sample but ours
    with peak:
        before = peak.sample()
        block = np.ones(8_000_000)
        during = peak.sample()
        del block
        after = peak.sample()
    assert during - before > 50e6
    assert after < during
    assert peak.peak_nbytes == during
    assert peak.measure == "pss"


def test_tree_holds_children_started_by_other_threads() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert {os.getpid(), child.pid} <= set(memory.process_tree())
        assert memory.process_tree(child.pid) == [child.pid]
    finally:
        child.communicate()
    assert child.pid not in memory.process_tree()
    assert memory.pss_nbytes(child.pid) is None
    assert memory.rss_nbytes(child.pid) == 0


def test_a_thread_that_has_just_ended_hides_no_child_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: ["999999999", *listdir(path)])
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert child.pid in memory.process_tree()
    finally:
        child.communicate()


def test_whose_memory_it_is_is_reported_exactly() -> None:
    assert memory.counted(own_workers=True) == "all processes together"
    assert memory.counted(own_workers=False) == "this client alone"


def test_falls_back_to_resident_memory_and_says_so() -> None:
    peak = PeakMemory(lambda: [os.getpid()], pss=lambda pid: None)
    assert peak.measure == "rss"
    assert peak.sample() > 10e6
