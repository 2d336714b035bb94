"""Assignment of fragments to workers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.planning.assignment import AssignableWorker, assign, changed_shares, reassign, with_training_rows
from pipeline.runtime.capability import relative

SIZES = st.lists(st.integers(0, 10**9), max_size=60)
CAPABILITIES = st.lists(st.floats(0.05, 64), min_size=1, max_size=8)


@given(SIZES, CAPABILITIES)
def test_every_fragment_once_and_in_order(sizes: list[int], capabilities: list[float]) -> None:
    shares = assign(sizes, capabilities)
    assert len(shares) == len(capabilities)
    assert sorted(index for share in shares for index in share) == list(range(len(sizes)))
    assert all(list(share) == sorted(share) for share in shares)
    assert shares == assign(sizes, capabilities)


@given(SIZES, CAPABILITIES)
def test_no_worker_ends_later_than_a_fragment_after_the_ideal(sizes: list[int], capabilities: list[float]) -> None:
    ends = [
        sum(sizes[index] for index in share) / capability
        for share, capability in zip(assign(sizes, capabilities), capabilities, strict=True)
    ]
    ideal = sum(sizes) / sum(capabilities)
    # the last fragment went where it ends first: at most one fragment over the ideal on some worker that had room
    assert max(ends) <= ideal + max(sizes, default=0) / max(capabilities) * len(capabilities) + 1e-6 * (1 + ideal)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=40), st.integers(1, 6), st.integers(1, 5))
def test_equal_workers_differ_by_one_fragment_at_most(sizes: list[int], workers: int, capability: int) -> None:
    loads = [sum(sizes[index] for index in share) for share in assign(sizes, [float(capability)] * workers)]
    assert max(loads) - min(loads) <= max(sizes)


def test_unequal_workers() -> None:
    shares = assign([1] * 12, [2.0, 1.0])
    assert [len(share) for share in shares] == [8, 4]


def test_more_workers_than_fragments_leaves_some_empty() -> None:
    assert assign([5, 3], [1.0, 1.0, 1.0]) == ((0,), (1,), ())


def test_a_worker_needs_a_capability() -> None:
    with pytest.raises(ValueError, match="positive"):
        assign([1], [1.0, 0.0])
    with pytest.raises(ValueError, match="positive"):
        assign([1], [])


def test_noise_does_not_count_but_a_slow_worker_does() -> None:
    assert relative([2, 2, 4], [100, 115, 105]) == (2.0, 2.0, 4.0)
    assert relative([2, 2, 2], [100, 100, 40]) == (2.0, 2.0, pytest.approx(0.8))
    assert min(relative([1, 1], [0.0, 1.0])) > 0


WORKERS = st.lists(st.sampled_from("abcdef"), min_size=1, unique=True)


@given(st.lists(st.integers(1, 100), min_size=1, max_size=30), WORKERS, WORKERS, st.booleans())
def test_repair(sizes: list[int], before: list[str], after: list[str], restarted: bool) -> None:
    dealt = assign(sizes, [1.0] * len(before))
    shares = dict(zip(before, dealt, strict=True))
    names = {name: name for name in before}
    workers = [AssignableWorker(f"{name}2" if restarted else name, name, 1.0) for name in after]
    repaired = reassign(shares, names, sizes, workers)
    assert sorted(place for share in repaired.values() for place in share) == list(range(len(sizes)))
    assert repaired.keys() <= {worker.address for worker in workers}
    for worker in workers:
        if worker.name in before:  # it keeps its fragments, and may get more if another worker is gone for good
            had = set(shares[worker.name])
            assert had <= set(repaired[worker.address])
    if set(before) == set(after):
        expected = {worker.address: shares[worker.name] for worker in workers}
        assert repaired == expected


def test_shares_without_training_rows_go_to_the_first_that_has() -> None:
    assert with_training_rows({"a": (2,), "b": (0, 1)}, {0: 5, 1: 0, 2: 0}) == {"b": (0, 1, 2)}
    assert with_training_rows({"a": (2,), "b": (0, 1)}, {0: 5, 1: 0, 2: 1}) == {"b": (0, 1), "a": (2,)}
    assert with_training_rows({"a": (0,)}, {0: 0}) == {}


def test_changed() -> None:
    assert changed_shares({"a": (0, 1), "b": (2,)}, {"a": (0, 1), "b": (2, 3), "c": (4,)}) == ["b"]
