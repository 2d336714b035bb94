"""What a run costs by mode, which mode is chosen, and when a run on spot workers has to switch."""

import dataclasses
import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.prices import Modes, OnDemand, Prices, Reserved, Spot
from pipeline.planning.price import HOUR, ModeCost, RunEstimate, SpotDeadline, cheapest, lost_share, mode_costs, nearest

RUN = RunEstimate(
    workers=4, seconds=7_200, seconds_low=6_000, seconds_high=9_000, restart_seconds=60, segment_seconds=120
)
ON_DEMAND, RESERVED = OnDemand(worker_hour=0.4), Reserved(worker_hour=0.25, minimum_hours=3)
SPOT = Spot(worker_hour=0.1, losses_per_hour=0.75)  # 4 workers: 3 losses an hour, 120 s each: a tenth of the time
ALL = Prices(currency="EUR", mode=Modes(on_demand=ON_DEMAND, reserved=RESERVED, spot=SPOT))


def spot_only(losses_per_hour: float, worker_hour: float = 0.1) -> Prices:
    return Prices(mode=Modes(spot=Spot(worker_hour=worker_hour, losses_per_hour=losses_per_hour)))


def test_the_cost_of_each_mode() -> None:
    on_demand, reserved, spot = mode_costs(ALL, RUN)
    assert on_demand == ModeCost("on_demand", 4, 7_200, 6_000, 9_000, *map(pytest.approx, (3.2, 8 / 3, 4.0)), 9_000)
    assert reserved == ModeCost("reserved", 4, 7_200, 6_000, 9_000, *[pytest.approx(3.0)] * 3, 9_000)
    assert lost_share(SPOT, RUN) == pytest.approx(0.1)
    times = (7_920, 6_000, 10_000)
    costs = (4 * seconds / HOUR * 0.1 for seconds in times)
    # expected in 7,920 s, and with workers on demand surely in 9,000 s, two restarts and a segment
    assert spot == ModeCost("spot", 4, *map(pytest.approx, (*times, *costs, 9_240)))


def test_only_modes_with_a_price() -> None:
    assert [cost.mode for cost in mode_costs(ALL, RUN)] == ["on_demand", "reserved", "spot"]
    (spot,) = mode_costs(spot_only(0.75), RUN)
    assert spot.latest_seconds == spot.seconds_high == pytest.approx(10_000)  # nothing else ends it in time


SECONDS = st.floats(1, 1e6)
RUNS = st.builds(
    lambda workers, ends, restart, segment: RunEstimate(workers, ends[1], ends[0], ends[2], restart, segment),
    st.integers(1, 256),
    st.tuples(SECONDS, SECONDS, SECONDS).map(sorted),
    st.floats(0, 1_000),
    st.floats(0, 1_000),
)
PRICES = st.builds(
    lambda hour, minimum, losses: Prices(
        mode=Modes(
            on_demand=OnDemand(worker_hour=hour),
            reserved=Reserved(worker_hour=hour, minimum_hours=minimum),
            spot=Spot(worker_hour=hour, losses_per_hour=losses),
        )
    ),
    st.floats(0.001, 100),
    st.floats(0, 100),
    st.floats(0, 2),
)


@given(PRICES, RUNS)
def test_the_expected_cost_is_within_its_interval(prices: Prices, run: RunEstimate) -> None:
    for cost in mode_costs(prices, run):
        assert 0 < cost.seconds_low <= cost.seconds <= cost.seconds_high
        assert 0 < cost.cost_low <= cost.cost <= cost.cost_high
        assert cost.seconds <= cost.latest_seconds
        assert bool(cost.reason) == math.isinf(cost.seconds)


@given(PRICES, RUNS, st.floats(0, 1e6))
def test_more_seconds_never_cost_less(prices: Prices, run: RunEstimate, more: float) -> None:
    ends = {name: getattr(run, name) + more for name in ("seconds", "seconds_low", "seconds_high")}
    for short, long in zip(mode_costs(prices, run), mode_costs(prices, dataclasses.replace(run, **ends)), strict=True):
        for name in ("seconds", "cost", "cost_low", "cost_high", "latest_seconds"):
            assert getattr(short, name) <= getattr(long, name)


@given(PRICES, RUNS)
def test_reserved_costs_its_minimum_and_never_less_than_on_demand_at_its_price(
    prices: Prices, run: RunEstimate
) -> None:
    on_demand, reserved, _ = mode_costs(prices, run)
    assert prices.mode.reserved is not None
    minimum = prices.mode.reserved.minimum_hours * prices.mode.reserved.worker_hour * run.workers
    assert reserved.cost == pytest.approx(max(on_demand.cost, minimum))
    assert reserved.cost_low == pytest.approx(max(on_demand.cost_low, minimum))


@given(PRICES, RUNS)
def test_losses_only_cost_time_and_at_the_same_price_money(prices: Prices, run: RunEstimate) -> None:
    on_demand, _, spot = mode_costs(prices, run)
    assert spot.seconds >= run.seconds
    assert spot.cost >= on_demand.cost
    calm = prices.model_copy(update={"mode": Modes(spot=Spot(worker_hour=1, losses_per_hour=0))})
    assert mode_costs(calm, run)[0].seconds == run.seconds


@given(RUNS, st.floats(1e-6, 2))
def test_the_exact_expectation_lies_between_the_expected_seconds_and_the_bound(run: RunEstimate, losses: float) -> None:
    """For losses of a Poisson process, of whole segments: T exp(r R) (exp(r S) - 1) / (r S)."""
    rate = run.workers * losses / HOUR
    (spot,) = mode_costs(spot_only(losses), run)
    if rate * (run.restart_seconds + run.segment_seconds / 2) >= 1:
        assert math.isinf(spot.seconds)
        return
    x = rate * run.segment_seconds
    factor = math.exp(rate * run.restart_seconds) * (math.expm1(x) / x if x else 1.0)
    assert spot.seconds * (1 - 1e-9) <= run.seconds * factor
    assert run.seconds_high * factor <= spot.seconds_high * (1 + 1e-9)


def test_simulated_losses_take_the_expected_seconds() -> None:
    """A thousand segments, a loss every 1,200 s on average."""
    chance, segments, rate = random.Random(0), 1_000, 3 / HOUR
    elapsed = 0.0
    for _ in range(segments):
        done, needed = False, RUN.segment_seconds
        while not done:
            until_loss = chance.expovariate(rate)
            done = until_loss >= needed
            elapsed += min(until_loss, needed)
            needed = RUN.restart_seconds + RUN.segment_seconds  # again: the segment anew
    work = segments * RUN.segment_seconds
    (spot,) = mode_costs(spot_only(0.75), dataclasses.replace(RUN, seconds=work, seconds_high=work))
    assert spot.seconds * 0.98 <= elapsed <= spot.seconds_high * 1.02


def test_too_many_losses_make_no_progress() -> None:
    (spot,) = mode_costs(spot_only(7.5, worker_hour=0), RUN)  # 30 losses an hour, 120 s each
    assert (spot.seconds, spot.cost, spot.latest_seconds) == (math.inf, math.inf, math.inf)
    assert spot.reason == (
        "4 spot workers are lost 30 times an hour (mode.spot.losses_per_hour = 7.5), and each loss costs 120 s: no "
        "progress is possible; take fewer workers, or a smaller training.checkpoint_seconds"
    )
    assert not spot.meets(deadline_seconds=1e9)
    assert cheapest([spot]) is None
    assert nearest([spot], deadline_seconds=60) is None
    as_json = json.loads(json.dumps(spot.to_dict(), allow_nan=False))
    assert (as_json["seconds"], as_json["cost_high"], as_json["mode"]) == (None, None, "spot")


@pytest.mark.parametrize(
    ("deadline", "budget", "mode"),
    [
        (None, None, "spot"),
        (9_240, None, "spot"),
        (9_239, None, "reserved"),  # a run on spot that is late could no longer end on demand
        (9_000, 3.1, "reserved"),
        (8_999, None, None),  # the high end counts
        (None, 0.89, "spot"),
        (None, 0.87, None),
        (9_100, 2.9, None),
    ],
)
def test_the_cheapest_mode_that_meets_deadline_and_budget(
    deadline: float | None, budget: float | None, mode: str | None
) -> None:
    found = cheapest(mode_costs(ALL, RUN), deadline, budget)
    assert (None if found is None else found.mode) == mode


def test_spot_that_is_expected_to_be_late_is_not_chosen() -> None:
    exact = dataclasses.replace(RUN, seconds_low=7_200, seconds_high=7_200)
    dear = Prices(mode=Modes(on_demand=ON_DEMAND, spot=SPOT))
    late, in_time = (cheapest(mode_costs(dear, exact), deadline) for deadline in (7_900, 7_921))
    assert late is not None
    assert in_time is not None
    assert (late.mode, in_time.mode) == ("on_demand", "spot")  # expected in 7,920 s


def test_the_cheapest_number_of_workers() -> None:
    two = RunEstimate(workers=2, seconds=12_000, seconds_low=12_000, seconds_high=12_000)
    prices = Prices(mode=Modes(on_demand=ON_DEMAND))
    both = [*mode_costs(prices, RUN), *mode_costs(prices, two)]
    assert [found and found.workers for found in (cheapest(both), cheapest(both, 10_000))] == [2, 4]


def test_the_nearest_to_limits_that_nothing_meets() -> None:
    costs = mode_costs(ALL, RUN)
    found = [nearest(costs, deadline, budget) for deadline, budget in ((5_000, None), (None, 0.5), (8_990, 3.0))]
    assert [one and one.mode for one in found] == ["reserved", "spot", "reserved"]


def test_the_rules_of_a_deadline() -> None:
    rule = SpotDeadline.of(RUN, deadline_seconds=18_000)
    assert [rule.due_seconds(elapsed) for elapsed in (0, 9_000, 18_000, 20_000)] == [0, 4_500, 9_000, 9_000]
    assert rule.switch_by_seconds() == 18_000 - 9_000 - 240
    assert rule.wait_until_seconds(0) == 0  # no spot worker and no progress: on demand
    assert rule.wait_until_seconds(3_000) == 6_000
    assert (
        rule.wait_until_seconds(8_900) == rule.switch_by_seconds(8_900) == 17_660
    )  # near the end the safety net is first
    assert rule.wait_until_seconds(9_000) == 18_000
    assert SpotDeadline.of(RUN, 9_000).switch_by_seconds() < 0
    assert json.loads(json.dumps(rule.to_dict())) == {
        "deadline_seconds": 18_000, "seconds": 9_000, "margin_seconds": 240, "switch_by_seconds": 8_760,
    }  # fmt: skip


@given(RUNS, st.floats(1, 1e7), st.floats(0, 1), st.floats(0, 1))
def test_more_progress_may_wait_longer(run: RunEstimate, deadline: float, share: float, other: float) -> None:
    rule = SpotDeadline.of(run, deadline)
    less, more = (part * run.seconds_high for part in sorted((share, other)))
    assert rule.wait_until_seconds(less) <= rule.wait_until_seconds(more) + 1e-6 * (1 + deadline)
    assert rule.wait_until_seconds(less) <= deadline
    assert rule.due_seconds(rule.wait_until_seconds(less)) <= less + 1e-6 * run.seconds_high


@given(RUNS, st.floats(0, 2), st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 1e5)), max_size=30), st.booleans())
def test_a_run_that_follows_the_rules_ends_by_its_deadline(
    run: RunEstimate, slack: float, spells: list[tuple[float, float]], only_safety_net: bool
) -> None:
    """Whatever the spells (seconds without spot workers, seconds with them), the run ends in time on demand."""
    margin = 2 * run.restart_seconds + run.segment_seconds
    rule = SpotDeadline.of(run, (run.seconds_high + margin) * (1 + slack))
    assert rule.switch_by_seconds() >= -1e-6
    now = progress = 0.0
    for without, available in spells:
        until = rule.switch_by_seconds(progress) if only_safety_net else rule.wait_until_seconds(progress)
        if now + without > until:
            now = max(now, until)
            break
        now += without
        trained = max(0.0, available - run.restart_seconds)
        if progress + trained >= run.seconds_high:
            now, progress = now + run.restart_seconds + run.seconds_high - progress, run.seconds_high
            break
        kept = trained - math.fmod(trained, run.segment_seconds) if run.segment_seconds else trained
        now, progress = now + available, progress + kept
    if progress < run.seconds_high:
        now += run.restart_seconds + run.seconds_high - progress
    assert now <= rule.deadline_seconds * (1 + 1e-9)
