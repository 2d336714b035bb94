"""The definitions: the source's example, identities on any input, and the corners where a figure has no value."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.efficiency.definitions import (
    FLOOR_SECONDS,
    critical_transfer,
    efficiency,
    efficiency_raw,
    figures,
    global_efficiency,
    imbalance,
    karp_flatt,
    load_balance,
    parallel_efficiency,
    usl,
)

Workers = tuple[float, list[float], list[float], list[float]]  # T, useful, transfer, capability


@st.composite
def regions(draw: st.DrawFn, equal: bool = False) -> Workers:
    """T and every worker's useful, transfer (parts of T) and capability; overheads from 1e-4 of T up to all of it."""
    count = draw(st.integers(1, 12))
    seconds = draw(st.floats(0.1, 1e5))
    part = st.floats(0, 1 - 1e-4)
    useful = [seconds * share for share in draw(st.lists(part, min_size=count, max_size=count))]
    shares = draw(st.lists(st.floats(0, 1), min_size=count, max_size=count))
    transfer = [share * (seconds - u) for share, u in zip(shares, useful, strict=True)]
    speed = st.just(2.0) if equal else st.floats(1e-3, 1e9)
    return seconds, useful, transfer, draw(st.lists(speed, min_size=count, max_size=count))


def test_the_example_three_ways() -> None:
    """C = 1000 s, N = 100, P_i = 2 work/s, C_i = 10 ms."""
    useful, capability = [10.0] * 100, [2.0] * 100
    assert efficiency_raw(useful, [10.0] * 100, capability) == pytest.approx(200)  # 10 ms read as 10 s
    assert efficiency_raw(useful, [0.010] * 100, capability) == pytest.approx(2.0e5)
    assert efficiency(useful, [0.010] * 100, capability) == pytest.approx(1000)
    whole = figures(10.010, useful, [0.010] * 100, capability)
    assert whole.PE == pytest.approx(1000 / 1001)
    assert whole.E == pytest.approx(1000)
    assert whole.E_comm == pytest.approx(1000)
    assert whole.E_raw == pytest.approx(2.0e5)


@given(regions(equal=True))
def test_equal_shares(region: Workers) -> None:
    """PE = E / (E + J), and E / (1 + E) is never below it."""
    seconds, useful, _, capability = region
    found = figures(*region)
    assert found.E is not None
    assert found.J is not None
    assert found.PE == pytest.approx(math.fsum(useful) / len(useful) / seconds, abs=1e-12)
    assert abs(found.PE - found.E / (found.E + found.J)) < 1e-9
    assert found.E / (1 + found.E) >= found.PE - 1e-12
    assert found.PE_pi == pytest.approx(found.PE, abs=1e-12)
    assert found.E_raw == pytest.approx(sum(capability) * found.E, rel=1e-9)


@given(regions())
@example((12.0, [2.0, 10.0], [1.0, 1.0], [0.9, 0.1]))
@example((1.0, [0.0, 0.0], [1.0, 1.0], [1.0, 3.0]))
def test_any_shares(region: Workers) -> None:
    """The general identity; J is 1 at least; PE_pi is the share of the capability that computes."""
    seconds, useful, _, capability = region
    found = figures(*region)
    assert found.identity_error < 1e-9
    assert found.J is not None
    assert found.J >= 1 - 1e-9
    assert found.E_raw == pytest.approx(sum(capability) * (found.E or 0), rel=1e-9)
    throughput = sum(p * u for p, u in zip(capability, useful, strict=True)) / seconds
    assert sum(capability) * found.PE_pi == pytest.approx(throughput, rel=1e-9)


@given(regions(), st.floats(0.5, 2))
def test_pop_factors_multiply(region: Workers, stretch: float) -> None:
    """Also where separate measurements add up to more than T, within what closure errors do."""
    seconds, useful, transfer, capability = region
    found = figures(seconds, useful, [x * stretch for x in transfer], capability)
    assert found.LB * found.CommE == pytest.approx(found.PE, abs=1e-12)
    assert found.SerE * found.TE == pytest.approx(found.CommE, abs=1e-12)
    assert all(0 <= factor <= 1 + 1e-12 for factor in (found.LB, found.CommE, found.SerE, found.TE))


@given(regions())
def test_equal_overheads_have_no_imbalance(region: Workers) -> None:
    seconds, useful, _, capability = region
    overhead = [seconds - useful[0]] * len(useful)
    assert imbalance(overhead, capability) == pytest.approx(1, abs=1e-9)


def test_the_upper_bound_fails_for_unequal_shares() -> None:
    found = figures(12.0, [2.0, 10.0], [1.0, 1.0], [0.9, 0.1])
    assert found.E is not None
    assert found.E / (1 + found.E) == pytest.approx(0.457, abs=5e-4)
    assert found.E / (1 + found.E) < found.PE == 0.5


def test_saturation_leaves_what_stays_finite() -> None:
    found = figures(10.0, [10.0 - FLOOR_SECONDS / 2, 9.0], [FLOOR_SECONDS / 2, 0.5], [1.0, 1.0])
    assert found.saturated
    assert (found.E, found.E_raw, found.J, found.E_comm) == (None, None, None, None)
    assert found.PE == pytest.approx(0.95)
    assert found.LB * found.SerE * found.TE == pytest.approx(found.PE)


def test_one_worker_without_overhead() -> None:
    found = figures(3.0, [3.0], [0.0], [7.0])
    assert found.saturated
    assert (found.PE, found.PE_pi, found.LB, found.SerE, found.TE, found.CommE) == (1, 1, 1, 1, 1, 1)
    assert karp_flatt(1.0, 1) is None


def test_one_worker_with_overhead() -> None:
    """Nothing to wait for, yet a run queue: PE = u / T."""
    found = figures(4.0, [3.0], [0.0], [7.0])
    assert (found.PE, found.E, found.J, found.E_comm) == (0.75, pytest.approx(3), 1, None)


def test_an_idle_worker() -> None:
    found = figures(2.0, [1.0, 0.0], [0.1, 0.1], [1.0, 1.0])
    assert (found.PE, found.LB) == (0.25, 0.5)
    assert found.E == pytest.approx(0.5 * (0.5 / 1 + 0.5 / 2))
    assert found.identity_error < 1e-12


def test_all_idle() -> None:
    found = figures(2.0, [0.0, 0.0], [2.0, 2.0], [1.0, 1.0])
    assert (found.PE, found.E, found.LB, found.TE) == (0, 0, 1, 0)


def test_unequal_capability_changes_what_is_weighted_alone() -> None:
    """A fast worker that idles costs more than a slow one."""
    fast_idles = figures(2.0, [1.0, 2.0 - 1e-3], [0.1, 1e-4], [9.0, 1.0])
    slow_idles = figures(2.0, [1.0, 2.0 - 1e-3], [0.1, 1e-4], [1.0, 9.0])
    assert fast_idles.PE == slow_idles.PE
    assert fast_idles.PE_pi == pytest.approx((0.9 * 1 + 0.1 * 1.999) / 2)
    assert slow_idles.PE_pi > fast_idles.PE_pi


def test_the_straggler_inflates_e_and_j_shows_it() -> None:
    even = figures(10.0, [8.0, 8.0], [1.0, 1.0], [1.0, 1.0])
    uneven = figures(10.0, [9.9, 6.1], [0.1, 0.1], [1.0, 1.0])
    assert even.PE == pytest.approx(uneven.PE)
    assert (uneven.E or 0) > 4 * (even.E or 0)
    assert (uneven.J or 0) > 4


def test_the_exposed_transfer_is_the_least_and_never_more_than_is_left() -> None:
    assert critical_transfer(10.0, [6.0, 4.0], [1.0, 2.0]) == 1.0
    assert critical_transfer(10.0, [9.5, 4.0], [1.0, 2.0]) == 0.5  # a closure error of 5 %
    assert critical_transfer(10.0, [10.1, 4.0], [1.0, 2.0]) == 0.0


@pytest.mark.parametrize(
    ("seconds", "useful", "transfer", "capability"),
    [
        (1.0, [], [], []),
        (1.0, [1.0], [0.0, 0.0], [1.0]),
        (1.0, [1.0], [0.0], []),
        (0.0, [0.0], [0.0], [1.0]),
        (1.0, [-0.1], [0.0], [1.0]),
        (1.0, [math.nan], [0.0], [1.0]),
        (math.inf, [1.0], [0.0], [1.0]),
        (1.0, [1.0], [0.0], [0.0]),
    ],
)
def test_what_is_no_region(
    seconds: float, useful: Sequence[float], transfer: Sequence[float], capability: Sequence[float]
) -> None:
    with pytest.raises(ValueError):
        figures(seconds, useful, transfer, capability)


def ring(divisible: float, replicated: float, latency: float, payload: float, workers: int) -> float:
    """T(N) of a textbook ring."""
    return (
        divisible / workers + replicated + 2 * (workers - 1) * latency + 2 * payload * (workers - 1) / workers
    )  # fmt: skip


COSTS = st.tuples(st.floats(0.1, 1e3), st.floats(0, 1), st.floats(0, 0.1), st.floats(0, 1))


@given(COSTS, st.integers(2, 4096))
def test_the_ring_is_the_universal_scalability_law(costs: tuple[float, ...], workers: int) -> None:
    law = usl(*costs)
    alone, together = ring(*costs, 1), ring(*costs, workers)
    assert law.speedup(workers) == pytest.approx(alone / together, rel=1e-9)
    serial = karp_flatt(alone / together, workers)
    assert serial == pytest.approx(law.serial_fraction(workers), rel=1e-6, abs=1e-9)
    assert global_efficiency(alone, 1, together, workers) == pytest.approx(law.speedup(workers) / workers, rel=1e-9)


def test_global_efficiency_of_one_worker_reference_is_pe_times_comps() -> None:
    """T_1 = 8 alone; two workers compute 5 s each (replicated work) in 6 s."""
    useful = [5.0, 5.0]
    scalability = 8.0 / sum(useful)  # CompS
    assert parallel_efficiency(useful, 6.0) * scalability == pytest.approx(global_efficiency(8.0, 1, 6.0, 2))


def test_load_balance_of_a_third() -> None:
    assert load_balance([1.0, 0.0, 0.0]) == pytest.approx(1 / 3)
