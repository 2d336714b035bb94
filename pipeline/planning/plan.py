"""Plans the resources of a run before it starts: for each number of workers its time, memory and price, and what follows.

A `Plan` is frozen and holds numbers only; `table` prints it, `validate` refuses what cannot work, `best` is the layout that
the run should use.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.config.prices import Prices
from pipeline.errors import ClusterError
from pipeline.formatting import duration, many
from pipeline.planning.audit import AuditLine
from pipeline.planning.forecast import Correction, Forecast, UnitCosts, default_costs, forecast
from pipeline.planning.intervals import Interval, factor_of
from pipeline.planning.job_size import JobSize
from pipeline.planning.price import ModeCost, RunEstimate, SpotDeadline, cheapest, mode_costs, nearest
from pipeline.planning.refusal import refusal, tight
from pipeline.planning.stage_memory import MemoryFacts
from pipeline.planning.storage_plan import LIMIT_SHARE, Resources, StoragePlan, Survey
from pipeline.planning.work import Layout

RESTART_SECONDS = 4.0  # from a loss until the worker is back; blocks and matrix are made again after that
GAIN = 0.9  # another worker pays if the run then takes at most this share of the time: less is within the error
GROWTH = (("rows", {"rows": 2}), ("features", {"features": 2}), ("depth", {"more_depth": 1}))


@dataclass(frozen=True)
class Evidence:
    """What a plan's numbers stand on, besides the costs that come with the package."""

    correction: Correction = field(default_factory=Correction)
    history: tuple[AuditLine, ...] = ()  # of this machine
    probe_seconds: float = 0.0  # 0: there was no probe
    busy: float = 1.0  # how much longer threads take now, because other programs use the cores
    notes: tuple[str, ...] = ()  # about these

    def source(self) -> str:
        """Where the numbers come from, for people."""
        runs = f"{many(len(self.history), 'earlier run')} on this machine" if self.history else ""
        probe = f"a probe of {duration(self.probe_seconds)}" if self.probe_seconds else ""
        return " and ".join(part for part in (probe, runs) if part) or "costs measured on another machine"


@dataclass(frozen=True)
class LayoutPlan:
    """One layout: what a run with it takes."""

    forecast: Forecast
    cpu: Interval  # seconds of all processes
    wall: Interval  # seconds
    peak: Interval  # bytes, of the worker that takes most
    limit_nbytes: int  # of a worker; 0: none
    storage: StoragePlan
    modes: tuple[ModeCost, ...] = ()
    refused: str | None = None  # why it cannot work
    tight: str | None = None  # why it may not
    notes: tuple[str, ...] = ()  # all that the user should know

    @property
    def layout(self) -> Layout:
        return self.forecast.layout

    @property
    def name(self) -> str:
        """The layout for people, e.g. "2 workers x 1 thread"."""
        return f"{many(self.layout.workers, 'worker')} x {many(self.layout.threads, 'thread')}"

    @property
    def idle(self) -> int:
        """Workers that get no rows."""
        return self.layout.workers - self.forecast.used_workers

    def to_dict(self) -> dict[str, Any]:
        """A dict of JSON values."""
        return {
            **self.forecast.to_dict(),
            "cpu": self.cpu.to_dict(),
            "wall": self.wall.to_dict(),
            "peak_rss_nbytes": self.peak.to_dict(),
            "limit_nbytes": self.limit_nbytes,
            "matrix": self.storage.worker.matrix,
            "modes": [mode.to_dict() for mode in self.modes],
            "refused": self.refused,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class PlanOptions:
    """What the user asks of a plan."""

    deadline_seconds: float | None = None
    budget: float | None = None  # in the currency of the prices
    prices: Prices | None = None
    checkpoint_seconds: float = 60.0


@dataclass(frozen=True)
class Plan:
    """What a job needs on each of some layouts."""

    size: JobSize
    survey: Survey
    resources: tuple[Resources, ...]  # of the layouts
    layouts: tuple[LayoutPlan, ...]  # with more and more workers
    evidence: Evidence
    options: PlanOptions
    costs: UnitCosts = field(repr=False)

    @classmethod
    def of(
        cls,
        size: JobSize,
        survey: Survey,
        resources: Sequence[Resources],
        evidence: Evidence | None = None,
        options: PlanOptions | None = None,
        costs: UnitCosts | None = None,
    ) -> "Plan":
        """Plans a job on each of some sets of workers.  `options`: default: nothing."""
        evidence, options, costs = evidence or Evidence(), options or PlanOptions(), costs or default_costs()
        make = functools.partial(_layout_plan, size, survey, evidence=evidence, options=options, costs=costs)
        ordered = tuple(sorted(resources, key=lambda one: (len(one.workers), one.workers[0].threads)))
        layouts = tuple(map(make, ordered))
        return cls(size, survey, ordered, layouts, evidence, options, costs)

    @functools.cached_property
    def growth(self) -> Mapping[str, tuple[float, float]]:
        """"rows", "features", "depth" -> factors of wall-clock seconds and of memory of the first layout, with twice the rows
        or the features, or one more level of depth.
        """  # fmt: skip
        return _growth(self.size, self.layouts[0], self.evidence.correction, self.costs)

    def with_size(self, **known: Any) -> "Plan":
        """The same plan for a job of another size, e.g. with other rounds."""
        size = dataclasses.replace(self.size, **known)
        return Plan.of(size, self.survey, self.resources, self.evidence, self.options, self.costs)

    @property
    def possible(self) -> tuple[LayoutPlan, ...]:
        """The layouts that are not refused."""
        return tuple(one for one in self.layouts if one.refused is None)

    @property
    def fastest(self) -> LayoutPlan | None:
        """The layout that ends first, of those that are sure to meet the deadline where some are; of several within GAIN of
        it the one with fewest workers.
        """
        deadline = self.options.deadline_seconds
        ones = [one for one in self.possible if deadline is None or one.wall.high <= deadline] or list(self.possible)
        if not ones:
            return None
        least = min(one.wall.middle for one in ones)
        return next(one for one in ones if one.wall.middle * GAIN <= least)

    @property
    def cheapest(self) -> tuple[LayoutPlan, ModeCost] | None:
        """The layout and mode of least cost that meet deadline and budget; None where none does, or without prices."""
        return self._priced(cheapest)

    @property
    def nearest(self) -> tuple[LayoutPlan, ModeCost] | None:
        """The layout and mode that miss deadline and budget by least."""
        return self._priced(nearest)

    def _priced(self, choose: Any) -> tuple[LayoutPlan, ModeCost] | None:
        of = {id(mode): one for one in self.possible for mode in one.modes}
        modes = [mode for one in self.possible for mode in one.modes]
        found = choose(modes, self.options.deadline_seconds, self.options.budget)
        return None if found is None else (of[id(found)], found)

    @property
    def best(self) -> LayoutPlan | None:
        """The layout to use: the cheapest that meets deadline and budget where there are prices, else the fastest."""
        if self.options.prices is not None and (priced := self.cheapest) is not None:
            return priced[0]
        return self.fastest

    def validate(self) -> None:
        """ClusterError where no layout can work, or none meets the deadline or the budget; the nearest is named."""
        if not self.possible:
            raise ClusterError(f"{self.layouts[0].name}: {self.layouts[0].refused}")
        deadline, budget = self.options.deadline_seconds, self.options.budget
        if self.options.prices is not None and (deadline is not None or budget is not None):
            if self.cheapest is None:
                if (near := self.nearest) is not None:
                    raise ClusterError(_missed(self.options, *near))
                raise ClusterError(next(mode.reason for one in self.possible for mode in one.modes if mode.reason))
        elif deadline is not None:
            fastest = self.fastest
            assert fastest is not None
            if min(one.wall.high for one in self.possible) > deadline:
                raise ClusterError(
                    f"no layout is sure to end within --deadline {duration(deadline)}: the nearest is {fastest.name} with "
                    f"{duration(fastest.wall.middle)} ({duration(fastest.wall.low)} to {duration(fastest.wall.high)}): "
                    "train fewer rounds (training.rounds), fewer rows or flatter trees, or add workers"
                )

    def answers(self) -> tuple[str, ...]:
        """What follows from the numbers, a sentence each."""
        return tuple(_answers(self))

    def resource_formula(self) -> dict[str, float]:
        """R = D/B x T/C x 1/k of the source articles, in worker-seconds, beside ours.

        D: bytes of the rows, decoded; B: bytes of them that one worker's limit holds; T/C: seconds of work on one worker;
        k: how many times smaller the rows are as the matrix holds them.
        """
        one = min(self.layouts, key=lambda plan: plan.layout.workers)
        terms = one.forecast.memory.terms["rounds"]
        base, held = terms["base"], max(1.0, terms["matrix"] + terms["row_state"])
        room = LIMIT_SHARE * one.limit_nbytes - base if one.limit_nbytes else math.inf
        data = float(max(1, self.size.nbytes))
        compression = data / (held * one.layout.workers)
        needed = data / room if room > 0 else math.inf
        work = one.wall.middle * one.layout.workers
        best = self.best or one
        return {
            "data_nbytes": data,
            "worker_nbytes": room,
            "workers_by_memory": needed,
            "work_seconds": work,
            "compression": compression,
            "R_worker_seconds": needed * work / compression,
            "planned_worker_seconds": best.forecast.worker_seconds,
        }

    def to_dict(self) -> dict[str, Any]:
        """A dict of JSON values; what is infinite is None."""
        best, near = self.best, self.nearest
        return {
            "rows": self.size.rows,
            "features": self.size.features,
            "rounds": self.size.rounds,
            "size": self.size.to_dict(),
            "source": self.evidence.source(),
            "busy": self.evidence.busy,
            "layouts": [one.to_dict() for one in self.layouts],
            "best": None if best is None else {"workers": best.layout.workers, "threads": best.layout.threads},
            "nearest_mode": None if near is None else near[1].to_dict(),
            "answers": list(self.answers()),
            "growth": {name: {"wall": wall, "memory": memory} for name, (wall, memory) in self.growth.items()},
            "throughput_rows_per_second": None if best is None else self.size.rows / best.wall.middle,
            "latency_seconds_per_row": None if best is None else best.wall.middle / max(1, self.size.rows),
            "formula": {
                name: value if math.isfinite(value) else None for name, value in self.resource_formula().items()
            },
        }

    def table(self) -> str:
        """The plan as text: a line for each layout, then stages and memory of the best, then what follows."""
        from pipeline.planning.plan_table import render

        return render(self)

    def __str__(self) -> str:
        return self.table()


def _layout_plan(
    size: JobSize, survey: Survey, resources: Resources, *, evidence: Evidence, options: PlanOptions, costs: UnitCosts
) -> LayoutPlan:
    storage = StoragePlan.of(survey, resources)
    layout = Layout(len(resources.workers), max(one.threads for one in resources.workers))
    size = dataclasses.replace(size, device=resources.device)
    made, peak = _with_memory(size, layout, storage, evidence, costs)
    # On GPUs matrix and histograms are not in the memory that the limit is about, and nothing was measured.
    limit = 0 if resources.device == "cuda" else resources.limit_nbytes
    if storage.worker.matrix == "memory" and survey.matrix == "auto" and _may_be_ended(peak, limit):
        on_disk = storage.on_disk()
        other, other_peak = _with_memory(size, layout, on_disk, evidence, costs)
        if not _may_be_ended(other_peak, limit):
            storage, made, peak = on_disk, other, other_peak
    refused, close = refusal(made.memory, peak, limit), tight(made.memory, peak, limit)
    notes = tuple(note for note in (resources.note, *storage.notes, close) if note)
    cpu = Interval.around(made.cpu_seconds, _factor("cpu", evidence, costs))
    wall = Interval.around(made.wall_seconds, _factor("wall", evidence, costs))
    modes: tuple[ModeCost, ...] = ()
    if options.prices is not None:
        modes = mode_costs(options.prices, _estimate(made, wall, options))
    return LayoutPlan(made, cpu, wall, peak, limit, storage, modes, refused, close, notes)


def _estimate(made: Forecast, wall: Interval, options: PlanOptions) -> RunEstimate:
    """The run for the arithmetic of prices: what a loss costs, and the time between two checkpoints."""
    restart = RESTART_SECONDS + sum(made.wall[stage] for stage in ("blocks", "matrix"))
    segment = min(options.checkpoint_seconds, made.wall["rounds"])
    return RunEstimate(made.layout.workers, wall.middle, wall.low, wall.high, restart, segment)


def _may_be_ended(peak: Interval, limit_nbytes: int) -> bool:
    return bool(limit_nbytes) and peak.high > LIMIT_SHARE * limit_nbytes


def _with_memory(
    size: JobSize, layout: Layout, storage: StoragePlan, evidence: Evidence, costs: UnitCosts
) -> tuple[Forecast, Interval]:
    worker = storage.worker
    known = evidence.correction.facts
    missing = storage.survey.missing or (known is not None and known.missing)
    facts = MemoryFacts(storage.keep_nbytes, missing, worker.matrix == "disk", worker.codes == "disk")
    made = forecast(size, layout, facts, evidence.correction, costs)
    return made, Interval.around(made.memory.peak_nbytes, _factor("rss", evidence, costs))


def _factor(kind: str, evidence: Evidence, costs: UnitCosts) -> float:
    """The factor of the interval of a total, from the audits of this machine or from the package's runs."""
    measured = [
        math.log(measured / middle)
        for line in evidence.history
        for middle, _, _, measured in [line.planned.get(kind, (0.0, 0.0, 0.0, 0.0))]
        if middle > 0 and measured > 0
    ]
    found = factor_of(costs.residuals[kind].get("total", ()), measured)
    return found if math.isfinite(found) else 2.0


def _growth(
    size: JobSize, base: LayoutPlan, correction: Correction, costs: UnitCosts
) -> dict[str, tuple[float, float]]:
    worker, before, found = base.storage.worker, base.forecast, {}
    missing = base.storage.survey.missing or (correction.facts is not None and correction.facts.missing)
    facts = MemoryFacts(base.storage.keep_nbytes, missing, worker.matrix == "disk", worker.codes == "disk")
    for name, change in GROWTH:
        if name == "depth" and not size.depth:
            continue
        after = forecast(size.scaled(**change), base.layout, facts, correction, costs)
        found[name] = (
            after.wall_seconds / before.wall_seconds,
            after.memory.peak_nbytes / before.memory.peak_nbytes,
        )
    return found


def _answers(plan: Plan) -> list[str]:
    found: list[str] = []
    best, first = plan.best, plan.layouts[0]
    if best is None:
        return [f"refused: {first.refused}"]
    for one in plan.layouts:
        if one.idle and one.layout.workers > 1:
            found.append(
                f"{many(one.layout.workers, 'worker')} asked, the rows lie in {many(plan.size.fragments, 'fragment')}: "
                f"{one.idle} will have nothing to do"
            )
    others = [one for one in plan.possible if one.layout.workers > best.layout.workers]
    fastest = plan.fastest
    if others and fastest is not None and fastest.layout.workers == 1 and best is fastest:
        alone, together = duration(best.wall.middle), duration(others[0].wall.middle)
        little = others[0].wall.middle < best.wall.middle
        found.append(
            f"do not distribute: 1 worker takes {alone}, {many(others[0].layout.workers, 'worker')} {together}"
            + (", less of a gain than the plan's error" if little else "")
        )
    elif best is plan.fastest and len(plan.possible) > 1:
        found.append(f"fastest: {best.name}, {duration(best.wall.middle)}")
    if (priced := plan.cheapest) is not None and plan.options.prices is not None:
        layout, mode = priced
        amount = plan.options.prices.amount
        found.append(
            f"cheapest: {layout.name}, {mode.mode.replace('_', ' ')}: {amount(mode.cost)} ({amount(mode.cost_low)} to "
            f"{amount(mode.cost_high)}) in {duration(mode.seconds)}"
        )
        if mode.mode == "spot" and plan.options.deadline_seconds is not None:
            run = _estimate(layout.forecast, layout.wall, plan.options)
            switch = SpotDeadline.of(run, plan.options.deadline_seconds).switch_by_seconds()
            found.append(
                f"without spot workers until {duration(max(0.0, switch))} after the start: take workers on demand then"
            )
    return found


def _missed(options: PlanOptions, layout: LayoutPlan, mode: ModeCost) -> str:
    asked = []
    if options.deadline_seconds is not None:
        asked.append(f"--deadline {duration(options.deadline_seconds)}")
    if options.budget is not None:
        asked.append(f"--budget {options.budget:g}")
    assert options.prices is not None
    return (
        f"nothing meets {' and '.join(asked)}: the nearest is {layout.name}, {mode.mode.replace('_', ' ')}, with "
        f"{duration(mode.seconds)} (at worst {duration(mode.latest_seconds)}) and {options.prices.amount(mode.cost)}: allow "
        "more, or train fewer rounds (training.rounds), fewer rows or flatter trees"
    )
