"""Cores, NUMA nodes, quotas, and the sets workers are pinned to."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cluster import affinity


@pytest.mark.parametrize(
    ("text", "numbers"), [("0-3\n", (0, 1, 2, 3)), ("0-1,8,10-11", (0, 1, 8, 10, 11)), ("\n", ()), ("5", (5,))]
)
def test_kernel_lists(text: str, numbers: tuple[int, ...]) -> None:
    assert affinity.parse_cores(text) == numbers


def test_quota_of_both_cgroup_versions(tmp_path: Path) -> None:
    assert affinity.cpu_quota(tmp_path) is None
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert affinity.cpu_quota(tmp_path) == 1.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert affinity.cpu_quota(tmp_path) is None
    old = tmp_path / "old"
    (old / "cpu").mkdir(parents=True)
    (old / "cpu/cpu.cfs_quota_us").write_text("400000")
    (old / "cpu/cpu.cfs_period_us").write_text("100000")
    assert affinity.cpu_quota(old) == 4


def test_quota_limits_cores() -> None:
    for quota, expected in [(None, 64), (2.5, 2), (0.4, 1), (100.0, 64)]:
        assert affinity.at_once(64, quota) == expected
    assert affinity.cores() == affinity.at_once(len(affinity.allowed_cores()), affinity.cpu_quota())


def test_nodes_hold_allowed_cores_only(tmp_path: Path) -> None:
    for node, cores in enumerate(("0-3", "4-7", "8-11")):
        (tmp_path / f"node{node}").mkdir()
        (tmp_path / f"node{node}/cpulist").write_text(cores)
    assert affinity.numa_nodes(tmp_path, (1, 2, 5, 6)) == ((1, 2), (5, 6))
    assert affinity.numa_nodes(tmp_path / "nothing", (1, 2, 5, 6)) == ((1, 2, 5, 6),)
    assert affinity.numa_nodes(tmp_path, (1, 99)) == ((1, 99),)  # a core that no node lists


def test_sets_by_example() -> None:
    two_nodes = ((0, 1, 2, 3), (4, 5, 6, 7))
    assert affinity.core_sets(2, 4, two_nodes) == two_nodes
    assert affinity.core_sets(1, 8, two_nodes) == ((0, 1, 2, 3, 4, 5, 6, 7),)
    assert affinity.core_sets(3, 2, two_nodes) == ((0, 1), (2, 3), (4, 5, 6, 7))
    assert affinity.core_sets(1, 1, ((0, 1),)) == ((0, 1),)  # spare cores are shared out
    assert affinity.core_sets(3, 1, ((0, 1),)) == (None, None, None)  # oversubscribed
    assert affinity.core_sets(2, 1, ((0, 1, 2, 3),), limit=2) == (None, None)  # a quota, not these cores


@given(
    workers=st.integers(1, 20),
    threads=st.integers(1, 10),
    sizes=st.lists(st.integers(1, 16), min_size=1, max_size=4),
)
def test_sets_are_disjoint_and_large_enough(workers: int, threads: int, sizes: list[int]) -> None:
    numbers = iter(range(sum(sizes)))
    nodes = tuple(tuple(next(numbers) for _ in range(size)) for size in sizes)
    sets = affinity.core_sets(workers, threads, nodes)
    assert len(sets) == workers
    pinned = [cores for cores in sets if cores is not None]
    if workers * threads > sum(sizes):
        assert not pinned
        return
    assert len(pinned) == workers
    assert all(len(cores) >= threads for cores in pinned)
    assert len({core for cores in pinned for core in cores}) == sum(map(len, pinned))


def test_pin_reaches_every_thread() -> None:
    before = os.sched_getaffinity(0)
    first = min(before)
    try:
        affinity.pin((first,))
        assert all(os.sched_getaffinity(int(thread)) == {first} for thread in os.listdir("/proc/self/task"))
    finally:
        affinity.pin(tuple(before))
