"""Predicts a run stage by stage: CPU seconds, wall-clock seconds and the resident memory of its largest worker.

CPU seconds are work (`planning.work`) times the cost of each unit.  Wall-clock seconds follow from the CPU seconds of the
thread that ends last, what every run pays once, and the histograms that workers exchange.  Costs come from
`unit_costs.json`, corrected by what a probe or earlier runs have measured (`Correction`).
"""

import dataclasses
import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.efficiency.cost import TreeShape, calls
from pipeline.efficiency.machine import Fill, Ring
from pipeline.planning.job_size import JobSize, SizeFacts
from pipeline.planning.stage_memory import MemoryFacts, StageMemory, stage_memory
from pipeline.planning.work import (
    Amounts,
    Layout,
    Shares,
    barriers,
    grown,
    pass_work,
    rounds_by_worker,
    seconds,
    workload_of,
)

WALL_STAGES = (
    "start", "metadata", "survey", "statistics", "blocks", "matrix", "rounds", "evaluate", "save", "report", "other",
)  # fmt: skip
"""Of wall-clock seconds: the client's, one after another."""
SERIAL = {"statistics": ("run", "sample_value", "column")}  # units of a stage that one thread works off
COSTS_FILE = Path(__file__).with_name("unit_costs.json")


@dataclass(frozen=True)
class UnitCosts:
    """What one unit of work costs, as measured on one machine by `python -m benchmarks.plan_fit`."""

    cpu: Mapping[str, Mapping[str, float]]  # stage -> unit -> seconds
    wall: Mapping[str, Mapping[str, float]]  # stage -> unit -> seconds
    rss: Mapping[str, Mapping[str, float]]  # stage -> term -> factor
    fill: Fill  # how trees grow
    ring: Ring  # one allreduce between processes
    thread_gain: float  # of each further thread of a worker in the rounds: 1 is ideal
    residuals: Mapping[
        str, Mapping[str, tuple[float, ...]]
    ]  # "cpu", "wall", "rss" -> stage -> |log(measured/predicted)|

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "UnitCosts":
        return cls(
            cpu=values["cpu"],
            wall=values["wall"],
            rss=values["rss"],
            fill=Fill(**{**values["fill"], "smaller": tuple(values["fill"]["smaller"])}),
            ring=Ring(**values["ring"]),
            thread_gain=values["thread_gain"],
            residuals={
                kind: {stage: tuple(every) for stage, every in stages.items()}
                for kind, stages in values["residuals"].items()
            },
        )


@functools.cache
def default_costs() -> UnitCosts:
    """The costs that come with the package."""
    return UnitCosts.from_dict(json.loads(COSTS_FILE.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class MeasuredTrees:
    """How large trees were, and what limited them."""

    leaves: float  # on average
    rows: int  # that trained
    rounds: int
    depth: int  # 0: no limit
    max_leaves: int  # 0: no limit
    growth: Literal["depthwise", "lossguide"]

    @classmethod
    def of(cls, size: JobSize, leaves: float) -> "MeasuredTrees":
        return cls(leaves, size.train_rows, size.rounds, size.depth, size.max_leaves, size.growth)


@dataclass(frozen=True)
class Correction:
    """Factors by which the costs differ here, by stage; those that are not named are 1."""

    cpu: Mapping[str, float] = field(default_factory=dict)
    wall: Mapping[str, float] = field(default_factory=dict)
    rss: Mapping[str, float] = field(default_factory=dict)
    rss_offset_nbytes: Mapping[str, float] = field(default_factory=dict)  # bytes, before the factor
    trees: MeasuredTrees | None = None
    facts: SizeFacts | None = None  # of the job's size: to be applied before a plan is made


NO_CORRECTION = Correction()


@dataclass(frozen=True)
class Forecast:
    """What a run of one layout is predicted to take."""

    layout: Layout
    used_workers: int  # that get rows
    cpu: Mapping[str, float]  # stage -> seconds of all processes
    wall: Mapping[str, float]  # stage -> seconds
    memory: StageMemory  # of the worker with most rows
    round_compute: tuple[float, ...] = ()  # CPU seconds of a round on each worker that gets rows, the most first
    round_seconds: float = 0.0  # wall-clock seconds of a round

    @property
    def cpu_seconds(self) -> float:
        return math.fsum(self.cpu.values())

    @property
    def wall_seconds(self) -> float:
        return math.fsum(self.wall.values())

    @property
    def worker_seconds(self) -> float:
        """What the workers offer while the run lasts: their number times its seconds."""
        return self.layout.workers * self.wall_seconds

    def to_dict(self) -> dict[str, Any]:
        """A dict of JSON values."""
        return {
            "workers": self.layout.workers,
            "threads": self.layout.threads,
            "used_workers": self.used_workers,
            "cpu_seconds": dict(self.cpu),
            "wall_seconds": dict(self.wall),
            "rss_nbytes": self.memory.to_dict(),
        }


def forecast(
    size: JobSize,
    layout: Layout,
    memory: MemoryFacts,
    correction: Correction = NO_CORRECTION,
    costs: UnitCosts | None = None,
) -> Forecast:
    """Predicts a run.  `memory`: what the plan of storage has decided."""
    costs = costs or default_costs()
    shares = Shares.of(size, layout.workers)
    tree = tree_of(size, costs, correction)
    passes = pass_work(size, layout, shares, tree)
    cpu = {stage: seconds(costs.cpu.get(stage, {}), amounts) for stage, amounts in passes.items()}
    by_worker = rounds_by_worker(size, shares, tree, layout.threads)
    factor = correction.cpu.get("rounds", 1.0)
    each = tuple(factor * seconds(costs.cpu["rounds"], work) for work in by_worker)
    cpu = {stage: spent * correction.cpu.get(stage, 1.0) for stage, spent in cpu.items()}
    cpu["rounds"] = size.rounds * math.fsum(each)
    amounts = wall_work(size, layout, shares, tree, cpu, each[0], costs)
    wall = {stage: seconds(costs.wall.get(stage, {}), of) for stage, of in amounts.items()}
    wall = {stage: spent * correction.wall.get(stage, 1.0) for stage, spent in wall.items()}
    taken = (
        stage_memory(size, layout, shares, tree, memory)
        .scaled(costs.rss)
        .corrected(correction.rss_offset_nbytes, correction.rss)
    )
    return Forecast(layout, shares.used, cpu, wall, taken, each, wall["rounds"] / size.rounds)


def tree_of(size: JobSize, costs: UnitCosts, correction: Correction) -> TreeShape:
    """The mean tree: as such data were measured to grow it, else as generated data do."""
    measured = correction.trees
    if measured is None:
        return grown(size, costs.fill)[1]
    there = dataclasses.replace(
        size,
        rows=measured.rows,
        validation_rows=0,
        rounds=max(1, measured.rounds),
        depth=measured.depth,
        max_leaves=measured.max_leaves,
        growth=measured.growth,
    )
    fill, _ = grown(there, costs.fill, measured.leaves)
    return grown(size, fill)[1]


def wall_work(
    size: JobSize,
    layout: Layout,
    shares: Shares,
    tree: TreeShape,
    cpu: Mapping[str, float],
    round_seconds: float,
    costs: UnitCosts,
) -> dict[str, Amounts]:
    """The units of each stage of the client's clock; "busiest" are CPU seconds of the thread that ends last.

    `cpu`: predicted or measured CPU seconds by stage; `round_seconds`: of one round on the worker with most rows.
    """
    busiest, gain = shares.busiest(layout.threads), 1 + (layout.threads - 1) * costs.thread_gain
    passes = pass_work(size, layout, shares, tree)
    serial = {
        stage: seconds({unit: costs.cpu.get(stage, {}).get(unit, 0.0) for unit in units}, passes[stage])
        for stage, units in SERIAL.items()
    }
    alone = min(serial["statistics"], cpu["statistics"])
    surveyed, decoded = _reading(passes["reading"], cpu["reading"], costs)
    statistics = alone + (cpu["statistics"] - alone + decoded) * busiest
    several = float(shares.used > 1)
    exchange = calls(workload_of(size, shares), tree)
    transfer = sum(costs.ring.seconds(call.nbytes, shares.used) for call in exchange)
    return {
        "start": {"run": 1.0, "worker": float(layout.workers)},
        "metadata": {"run": 1.0, "file": float(size.files), "text_byte": float(size.text_nbytes), "column": float(size.columns)},
        "survey": {"run": 1.0, "fragment": float(size.fragments), "busiest": surveyed * busiest},
        "statistics": {"run": 1.0, "fragment": float(size.fragments), "busiest": statistics, "column": float(size.columns)},
        "blocks": {"run": 1.0, "fragment": float(size.fragments), "busiest": cpu["blocks"] * busiest},
        "matrix": {"run": 1.0, "busiest": cpu["matrix"] * shares.of_rows[0] / gain},
        "rounds": {
            "run": 1.0,
            "communicator": several,
            "busiest": size.rounds * round_seconds / gain,
            "transfer": size.rounds * transfer,
            "round": float(size.rounds),
            "exchange": size.rounds * several * len(exchange),
            **{unit: size.rounds * waits * (layout.threads - 1) for unit, waits in barriers(size, tree).items()},
        },
        "evaluate": {"run": 1.0, "busiest": cpu["evaluation"] * shares.of_rows[0]},
        "save": {"run": 1.0, "feature": float(size.features), "tree": float(size.rounds * size.trees)},
        "report": {
            "report": float(size.report),
            "feature": float(size.report * size.features),
            "tree": float(size.report * size.rounds * size.trees),
        },
        "other": {"run": 1.0},
    }  # fmt: skip


def _reading(amounts: Amounts, cpu_seconds: float, costs: UnitCosts) -> tuple[float, float]:
    """CPU seconds of reading that belong to the survey, and those of the statistics pass, which decodes the columns."""
    decoded = {unit: amount for unit, amount in amounts.items() if unit.startswith("decoded")}
    both, later = seconds(costs.cpu["reading"], amounts), seconds(costs.cpu["reading"], decoded)
    share = later / both if both > 0 else 0.0
    return cpu_seconds * (1 - share), cpu_seconds * share
