"""Fits the unit costs of `pipeline.planning` to measured runs.

    python -m benchmarks.plan_runs --out runs.jsonl
    python -m benchmarks.plan_fit runs.jsonl --write

For each stage: non-negative least squares of relative errors (Lawson and Hanson, Solving Least Squares Problems, 1974).
Residuals are those of runs whose data set was left out of the fit.  --write replaces pipeline/planning/unit_costs.json.
"""

import dataclasses
import json
import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy.optimize import nnls

from pipeline.cli.terminal import run
from pipeline.efficiency.cost import TreeShape
from pipeline.efficiency.machine import Fill
from pipeline.planning.audit import LEAST_SECONDS
from pipeline.planning.forecast import COSTS_FILE, WALL_STAGES, UnitCosts, default_costs, wall_work
from pipeline.planning.job_size import JobSize
from pipeline.planning.stage_memory import STAGES as MEMORY_STAGES
from pipeline.planning.stage_memory import MemoryFacts, stage_memory
from pipeline.planning.work import (
    STAGES,
    Amounts,
    Layout,
    Shares,
    grown,
    pass_work,
    rounds_by_worker,
    seconds,
)

LEAST_NBYTES = 16 * 2**20
GAINS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
DIGITS = 4  # of a cost


@dataclass(frozen=True)
class Run:
    """A measured run."""

    name: str  # of the data set
    size: JobSize
    layout: Layout
    memory: MemoryFacts
    cpu: Mapping[str, float]
    wall: Mapping[str, float]
    rss: Mapping[str, float]
    leaves: float

    @classmethod
    def of(cls, name: str, facts: Mapping[str, Any]) -> "Run":
        measured = facts["measured"]
        return cls(
            name,
            JobSize.from_dict(facts["size"]),
            Layout(**facts["layout"]),
            MemoryFacts(**facts["memory"]),
            measured["cpu"],
            measured["wall"],
            measured["rss"],
            measured["leaves"],
        )

    @property
    def shares(self) -> Shares:
        return Shares.of(self.size, self.layout.workers)


Fits = dict[str, dict[str, float]]  # stage -> unit -> cost


def read_runs(path: Path) -> list[Run]:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    return [Run.of(line["set"], line["summary"]["audit"]) for line in lines]


def fit(amounts: Sequence[Amounts], measured: Sequence[float], least: float) -> dict[str, float]:
    """The costs of the units, none negative, that come closest to what was measured, in relative terms."""
    units = list(dict.fromkeys(unit for one in amounts for unit in one))
    weights = np.array([1 / (value + least) for value in measured])
    table = np.array([[one.get(unit, 0.0) for unit in units] for one in amounts]) * weights[:, None]
    scale = np.maximum(np.linalg.norm(table, axis=0), 1e-300)
    found, _ = nnls(table / scale, np.array(measured) * weights, maxiter=10_000)
    costs = {unit: float(cost / by) for unit, cost, by in zip(units, found, scale, strict=True) if cost > 0}
    # Least squares of relative errors lie below the middle: predictions that are too high count more.
    ratios = [(value + least) / (seconds(costs, one) + least) for one, value in zip(amounts, measured, strict=True)]
    middle = statistics.median(ratios)
    return {unit: cost * middle for unit, cost in costs.items()}


def fit_costs(runs: Sequence[Run], base: UnitCosts) -> UnitCosts:
    """All costs of some runs."""
    fill = dataclasses.replace(base.fill, constant=_constant(runs, base.fill))
    trees = [grown(one.size, fill, one.leaves)[1] for one in runs]
    cpu: Fits = {}
    amounts: list[Amounts]
    for stage in STAGES:
        if stage == "rounds":
            amounts = [
                round_work(one.size, one.shares, tree, one.layout.threads)
                for one, tree in zip(runs, trees, strict=True)
            ]
        else:
            amounts = [
                pass_work(one.size, one.layout, one.shares, tree)[stage] for one, tree in zip(runs, trees, strict=True)
            ]
        cpu[stage] = fit(amounts, [one.cpu.get(stage, 0.0) for one in runs], LEAST_SECONDS)
    costs = dataclasses.replace(base, cpu=cpu, fill=fill)
    tried = []
    for gain in GAINS:
        made = dataclasses.replace(costs, thread_gain=gain)
        walls = [_wall_amounts(one, tree, made) for one, tree in zip(runs, trees, strict=True)]
        wall: Fits = {
            stage: fit([one[stage] for one in walls], [one.wall.get(stage, 0.0) for one in runs], LEAST_SECONDS)
            for stage in WALL_STAGES
        }
        errors = [
            math.log(
                (seconds(wall["rounds"], amounts["rounds"]) + LEAST_SECONDS) / (one.wall["rounds"] + LEAST_SECONDS)
            )
            for one, amounts in zip(runs, walls, strict=True)
        ]
        tried.append((statistics.fmean(error**2 for error in errors), gain, wall))
    _, gain, wall = min(tried, key=lambda one: one[0])
    memory = [
        stage_memory(one.size, one.layout, one.shares, tree, one.memory).terms
        for one, tree in zip(runs, trees, strict=True)
    ]
    rss: Fits = {
        stage: fit([one[stage] for one in memory], [one.rss.get(stage, 0.0) for one in runs], LEAST_NBYTES)
        for stage in MEMORY_STAGES
    }
    return dataclasses.replace(costs, wall=wall, rss=rss, thread_gain=gain)


def round_work(size: JobSize, shares: Shares, tree: TreeShape, threads: int) -> dict[str, float]:
    """The CPU work of all rounds on all workers."""
    total: dict[str, float] = {}
    for amounts in rounds_by_worker(size, shares, tree, threads):
        for unit, amount in amounts.items():
            total[unit] = total.get(unit, 0.0) + amount * size.rounds
    return total


def _constant(runs: Sequence[Run], fill: Fill) -> float:
    """The median constant of how trees grow, over data sets."""
    by_set: dict[str, list[float]] = {}
    for one in runs:
        by_set.setdefault(one.name, []).append(grown(one.size, fill, one.leaves)[0].constant)
    return statistics.median(statistics.median(every) for every in by_set.values())


def _wall_amounts(one: Run, tree: Any, costs: UnitCosts) -> dict[str, Amounts]:
    """Of measured CPU seconds."""
    shares = one.shares
    predicted = seconds(costs.cpu["rounds"], round_work(one.size, shares, tree, one.layout.threads))
    alone = seconds(costs.cpu["rounds"], rounds_by_worker(one.size, shares, tree, one.layout.threads)[0])
    alone *= one.cpu.get("rounds", 0.0) / max(1e-9, predicted)
    cpu = {stage: one.cpu.get(stage, 0.0) for stage in STAGES}
    return wall_work(one.size, one.layout, shares, tree, cpu, alone, costs)


def left_out(
    runs: Sequence[Run], base: UnitCosts, of: Callable[[Run, UnitCosts], Mapping[str, Mapping[str, float]]]
) -> dict[str, dict[str, list[float]]]:
    """"cpu", "wall", "rss" -> stage -> residuals of each run, from costs fitted to the other data sets."""  # fmt: skip
    found: dict[str, dict[str, list[float]]] = {}
    for name in dict.fromkeys(one.name for one in runs):
        costs = fit_costs([one for one in runs if one.name != name], base)
        for one in runs:
            if one.name == name:
                for kind, stages in of(one, costs).items():
                    for stage, residual in stages.items():
                        found.setdefault(kind, {}).setdefault(stage, []).append(residual)
    return found


def residuals(one: Run, costs: UnitCosts) -> dict[str, dict[str, float]]:
    """log(measured / predicted) of a run, as a plan without history would have it: with generated trees."""
    from pipeline.planning.forecast import forecast

    made = forecast(one.size, one.layout, one.memory, costs=costs)
    peaks = {stage: made.memory.of(stage) for stage in made.memory.terms}
    found = {
        "cpu": _logs(one.cpu, made.cpu, LEAST_SECONDS),
        "wall": _logs(one.wall, made.wall, LEAST_SECONDS),
        "rss": _logs(one.rss, peaks, LEAST_NBYTES),
    }
    found["cpu"]["total"] = math.log(sum(one.cpu.values()) / made.cpu_seconds)
    found["wall"]["total"] = math.log(sum(one.wall.values()) / made.wall_seconds)
    found["rss"]["total"] = math.log(max(one.rss.values()) / made.memory.peak_nbytes)
    return found


def _logs(measured: Mapping[str, float], predicted: Mapping[str, float], least: float) -> dict[str, float]:
    return {stage: math.log((measured.get(stage, 0.0) + least) / (predicted[stage] + least)) for stage in predicted}


def rendered(costs: UnitCosts, found: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    def short(values: Mapping[str, Mapping[str, float]]) -> Fits:
        return {
            stage: {unit: float(f"{cost:.{DIGITS}g}") for unit, cost in units.items()}
            for stage, units in values.items()
        }

    document = {
        "cpu": short(costs.cpu),
        "wall": short(costs.wall),
        "rss": short(costs.rss),
        "fill": {**dataclasses.asdict(costs.fill), "constant": round(costs.fill.constant, 3)},
        "ring": dataclasses.asdict(costs.ring),
        "thread_gain": costs.thread_gain,
        "residuals": {
            kind: {stage: [round(one, 3) for one in every] for stage, every in stages.items()}
            for kind, stages in found.items()
        },
    }
    return json.dumps(document, indent=1)


@click.command(help=__doc__)
@click.argument("runs", type=click.Path(exists=True, path_type=Path))
@click.option("--write", is_flag=True, help="Replace the package's costs.")
def command(runs: Path, write: bool) -> int:
    measured = read_runs(runs)
    base = default_costs()
    costs = fit_costs(measured, base)
    found = left_out(measured, base, residuals)
    for kind, stages in found.items():
        for stage, every in stages.items():
            sizes = sorted(map(abs, every))
            print(
                f"{kind:5s} {stage:12s} median {100 * statistics.median(sizes):4.0f} %  80 % {100 * sizes[int(0.8 * len(sizes))]:4.0f} %  worst {100 * sizes[-1]:4.0f} %"
            )
    if write:
        COSTS_FILE.write_text(rendered(costs, found) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(run(command, sys.argv[1:], "python -m benchmarks.plan_fit"))
