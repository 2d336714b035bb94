"""Prices a run by mode of payment, and says until when a run with a deadline may rely on spot workers; arithmetic only.

A run takes T seconds on N workers that are not lost; a worker is what `worker_hour` pays for.

    on demand   N T worker_hour / 3600
    reserved    N max(T / 3600, minimum_hours) worker_hour
    spot        N E worker_hour / 3600, with E = T (1 + r (R + S / 2)) and r = N losses_per_hour / 3600

E: r is the rate of losses of the N workers together, per second.  A loss costs R seconds until the rounds continue, and
the rounds since the last checkpoint, which are computed again: between none and all S seconds from one checkpoint to
the next, S / 2 on average.  In T seconds r T losses are expected, which gives E.  Assumed: a worker is lost
independently of the others and of how long it has run, and replaced at once; losses are rare, r (R + S / 2) is far
below 1.

E leaves out losses during the time that losses cost.  If losses find a run while it recovers as often as while it
trains, the expected seconds X satisfy X = T + r (R + S / 2) X.  For losses of a Poisson process X is an upper bound, and
E a lower one, of the exact expectation T exp(r R) (exp(r S) - 1) / (r S).  (Term by term: exp(y) <= 1 / (1 - y), and
(exp(x) - 1) / x <= 1 / (1 - x / 2).)  From r (R + S / 2) = 1 on, a second of losses is expected in each second: there is
no such X, and the seconds and the cost are infinite.
"""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from pipeline.config.prices import Mode, Prices, Spot

HOUR = 3_600.0  # seconds


@dataclass(frozen=True)
class RunEstimate:
    """What a run is expected to take on workers that are not lost, and what the loss of a worker costs it."""

    workers: int  # each is what `worker_hour` pays for
    seconds: float
    seconds_low: float
    seconds_high: float
    restart_seconds: float = 0.0  # from the loss of a worker until the rounds continue on its replacement
    segment_seconds: float = 0.0  # of rounds between two checkpoints


@dataclass(frozen=True)
class ModeCost:
    """What a run takes and costs in one mode; infinite where it cannot make progress.

    The interval is that of the run's seconds.  For spot its low end has no loss at all, and its high end is the upper
    bound of the expectation: a run with more losses than expected takes longer.
    """

    mode: Mode
    workers: int
    seconds: float  # expected
    seconds_low: float
    seconds_high: float
    cost: float  # expected, in the currency of the prices
    cost_low: float
    cost_high: float
    latest_seconds: float  # compared with a deadline: the seconds in which the run ends even if it goes badly
    reason: str = ""  # why no progress is possible

    def meets(self, deadline_seconds: float | None = None, budget: float | None = None) -> bool:
        """Whether the run ends by the deadline even if it goes badly, and its expected cost is within the budget."""
        return self._share_of_limits(deadline_seconds, budget) <= 1

    def _share_of_limits(self, deadline_seconds: float | None, budget: float | None) -> float:
        """How much of its limits the run takes: the larger share of the two; above 1: too much."""
        time = 0.0 if deadline_seconds is None else self.latest_seconds / deadline_seconds
        money = 0.0 if budget is None else self.cost / budget
        return max(time, money)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; what is infinite is None."""
        return {
            name: None if isinstance(value, float) and math.isinf(value) else value
            for name, value in dataclasses.asdict(self).items()
        }


def mode_costs(prices: Prices, run: RunEstimate) -> tuple[ModeCost, ...]:
    """What the run takes and costs in each mode that has a price: on demand, reserved, spot."""
    mode, found = prices.mode, []
    ends = (run.seconds, run.seconds_low, run.seconds_high)
    if mode.on_demand is not None:
        found.append(_cost("on_demand", run.workers, ends, mode.on_demand.worker_hour))
    if mode.reserved is not None:
        price, minimum = mode.reserved.worker_hour, mode.reserved.minimum_hours * HOUR
        found.append(_cost("reserved", run.workers, ends, price, minimum_seconds=minimum))
    if mode.spot is not None:
        found.append(_spot_cost(mode.spot, run, fallback=mode.on_demand is not None))
    return tuple(found)


def _cost(
    mode: Mode, workers: int, seconds: tuple[float, float, float], worker_hour: float, minimum_seconds: float = 0.0
) -> ModeCost:
    """`seconds`: expected, low, high."""
    expected, low, high = (workers * max(paid, minimum_seconds) / HOUR * worker_hour for paid in seconds)
    return ModeCost(mode, workers, *seconds, expected, low, high, latest_seconds=seconds[-1])


def lost_share(spot: Spot, run: RunEstimate) -> float:
    """The seconds that losses are expected to cost in a second of the run: r (R + S / 2) of the module's docstring."""
    rate = run.workers * spot.losses_per_hour / HOUR
    return rate * (run.restart_seconds + run.segment_seconds / 2)


def _spot_cost(spot: Spot, run: RunEstimate, *, fallback: bool) -> ModeCost:
    """`fallback`: whether workers on demand have a price, too, so that a run that is late can end on them."""
    share = lost_share(spot, run)
    if share >= 1:
        inf = math.inf
        return ModeCost("spot", run.workers, inf, inf, inf, inf, inf, inf, inf, reason=_no_progress(spot, run))
    expected, high = run.seconds * (1 + share), run.seconds_high / (1 - share)
    found = _cost("spot", run.workers, (expected, run.seconds_low, high), spot.worker_hour)
    if not fallback:
        return found
    return dataclasses.replace(found, latest_seconds=max(expected, run.seconds_high + _margin_seconds(run)))


def _no_progress(spot: Spot, run: RunEstimate) -> str:
    lost = run.restart_seconds + run.segment_seconds / 2
    return (
        f"{run.workers} spot workers are lost {run.workers * spot.losses_per_hour:,.5g} times an hour "
        f"(mode.spot.losses_per_hour = {spot.losses_per_hour:g}), and each loss costs {lost:,.3g} s: no progress is "
        "possible; take fewer workers, or a smaller training.checkpoint_seconds"
    )


def _margin_seconds(run: RunEstimate) -> float:
    """What a spot worker that is taken and lost can cost, with the change to workers on demand: 2 R + S."""
    return 2 * run.restart_seconds + run.segment_seconds


def cheapest(
    costs: Iterable[ModeCost], deadline_seconds: float | None = None, budget: float | None = None
) -> ModeCost | None:
    """The cheapest of the runs (modes, also numbers of workers) that meet deadline and budget; of equal ones the first to
    end.  None: no run does.

    A run on spot meets a deadline if it is expected to, and could still be ended in time by workers on demand after one
    loss; without a price for these, if the upper bound of its seconds does.
    """
    fitting = [cost for cost in costs if math.isfinite(cost.cost) and cost.meets(deadline_seconds, budget)]
    return min(fitting, key=lambda one: (one.cost, one.latest_seconds), default=None)


def nearest(
    costs: Iterable[ModeCost], deadline_seconds: float | None = None, budget: float | None = None
) -> ModeCost | None:
    """The run that exceeds deadline or budget by the smallest factor, for the message where none meets them.  None: no
    run makes progress.
    """
    possible = [cost for cost in costs if math.isfinite(cost.cost)]
    return min(possible, key=lambda one: (one._share_of_limits(deadline_seconds, budget), one.cost), default=None)


@dataclass(frozen=True)
class SpotDeadline:
    """Until when a run that has to end by a deadline may be without workers, waiting for spot ones.

    Seconds count from the start of the run.  Progress is work that a checkpoint holds, in seconds of the run on workers
    on demand, of which it takes `seconds` in all.  The rules are those of uniform progress ("Can't Be Late: Optimizing
    Spot Instance Savings under Deadlines", Wu et al., NSDI 2024), for a run that has no worker at the moment:

    - uniform progress: while its progress is behind `due_seconds`, it continues on workers on demand, so that it does
      not depend on spot workers at the end;
    - safety net: after `switch_by_seconds` it does so until the end.

    A run stays on the spot workers that it has until they are lost.  There a change costs d, and the safety net keeps
    2 d: a spot worker that is taken and lost at once, and the change to workers on demand.  Here a loss also takes back
    the rounds since the last checkpoint, so it keeps 2 R + S.
    """

    deadline_seconds: float  # above 0
    seconds: float  # all of the work, at the high end of its interval
    margin_seconds: float  # 2 R + S

    @classmethod
    def of(cls, run: RunEstimate, deadline_seconds: float) -> Self:
        return cls(deadline_seconds, run.seconds_high, _margin_seconds(run))

    def due_seconds(self, elapsed_seconds: float) -> float:
        """The progress that is due after so many seconds: the same share of the work as of the deadline."""
        return self.seconds * min(1.0, elapsed_seconds / self.deadline_seconds)

    def wait_until_seconds(self, progress_seconds: float) -> float:
        """Until when a run with this progress may wait for spot workers by both rules; a run without any does not wait."""
        if progress_seconds >= self.seconds:
            return self.deadline_seconds
        due = self.deadline_seconds * progress_seconds / self.seconds
        return min(due, self.switch_by_seconds(progress_seconds))

    def switch_by_seconds(self, progress_seconds: float = 0.0) -> float:
        """The last moment to take workers on demand, so that the rest ends in time; negative: it is too late already."""
        return self.deadline_seconds - (self.seconds - progress_seconds) - self.margin_seconds

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, with the moment by which a run without progress takes workers on demand."""
        return {**dataclasses.asdict(self), "switch_by_seconds": self.switch_by_seconds()}
