"""Compares a run with its plan, and learns from earlier runs on the same machine.

An audit holds what was measured beside what was planned.  Its line in the history holds numbers only: for each stage the
logarithm of measured over predicted, where the prediction is that of the uncorrected costs for what the run really did.
So a history stays valid whatever it corrects.
"""

import dataclasses
import hashlib
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.planning.forecast import Correction, MeasuredTrees, UnitCosts, default_costs, forecast
from pipeline.planning.intervals import COVERAGE
from pipeline.planning.job_size import JobSize, SizeFacts
from pipeline.planning.stage_memory import MemoryFacts
from pipeline.planning.work import Layout

VERSION = 1
PRIOR_RUNS = 2  # the weight of "no correction": n runs weigh n / (n + PRIOR_RUNS)
LATEST = 50  # runs that count, of one machine
LEAST_SECONDS = 0.1  # added on both sides: ratios of small numbers say little
MOST_OFFSET_NBYTES = 64 * 2**20
LARGEST = 1e18  # of any number in a line
MOST_RATIO = 10.0  # of a logarithm: 22,000 times
KINDS = ("cpu", "wall", "rss")


@dataclass(frozen=True)
class RunMeasurements:
    """What a run took."""

    cpu: Mapping[str, float]  # stage -> seconds of all processes
    wall: Mapping[str, float]  # stage -> seconds of the client
    rss: Mapping[str, float]  # stage -> bytes, of the worker that had most
    leaves: float  # of a tree, on average

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class AuditLine:
    """One run in the history: numbers only.  Seconds are ratios, which hold for a run of any length; memory is not."""

    machine: str  # fingerprint
    kind: str  # fingerprint of the job's columns and objective
    cpu: Mapping[str, float]  # stage -> log(measured / predicted)
    wall: Mapping[str, float]
    rss: Mapping[str, tuple[float, float]]  # stage -> predicted and measured bytes
    trees: MeasuredTrees
    facts: SizeFacts
    planned: Mapping[str, tuple[float, float, float, float]] = field(default_factory=dict)
    """Of "cpu", "wall", "rss": planned, low, high, measured, in seconds or bytes."""

    def render(self) -> str:
        return json.dumps({"version": VERSION, **dataclasses.asdict(self)}, separators=(",", ":"))

    @classmethod
    def parse(cls, line: str) -> "AuditLine":
        """The inverse of `render`; ValueError for anything else."""
        try:
            values = json.loads(line)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        if not isinstance(values, dict) or values.pop("version", None) != VERSION:
            raise ValueError("not a line of this version")
        try:
            values |= {"facts": SizeFacts(**values["facts"]), "trees": MeasuredTrees(**values["trees"])}
            made = cls(**values)
            ratios = [*made.cpu.values(), *made.wall.values(), *(one for pair in made.rss.values() for one in pair)]
            facts, trees = dataclasses.asdict(made.facts), dataclasses.asdict(made.trees)
            missing, growth = facts.pop("missing"), trees.pop("growth")
            numbers = [*ratios, *trees.values(), *(one for one in facts.values() if one is not None)]
            rss = {stage: (float(first), float(second)) for stage, (first, second) in made.rss.items()}
            ranges = {name: tuple(map(float, numbers)) for name, numbers in made.planned.items()}
        except (TypeError, AttributeError, KeyError, OverflowError, RecursionError) as error:
            raise ValueError(str(error)) from None
        if not all(type(number) in (int, float) and abs(number) <= LARGEST for number in numbers):
            raise ValueError("a number is too large")
        if any(abs(ratio) > MOST_RATIO for ratio in (*made.cpu.values(), *made.wall.values())):
            raise ValueError("a ratio is too large")
        if (
            any(one <= 0 for pair in rss.values() for one in pair)
            or min(trees.values()) < 0
            or min(made.facts.trees, made.facts.features) < 0
        ):
            raise ValueError("a number is too small")
        if type(missing) is not bool or growth not in ("depthwise", "lossguide"):
            raise ValueError("missing or growth is of another kind")
        if any(len(one) != 4 or not all(map(math.isfinite, one)) for one in ranges.values()):
            raise ValueError("a range is not four finite numbers")
        return dataclasses.replace(made, rss=rss, planned=ranges)  # type: ignore[arg-type]


def kind_of(*what: Any) -> str:
    """The fingerprint of what makes two jobs alike, of JSON values: their columns, and the settings by which the same rows
    become the same features and trees of the same number.
    """
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Ratios:
    """What was measured, compared with the uncorrected prediction."""

    cpu: Mapping[str, float]  # stage -> log(measured / predicted)
    wall: Mapping[str, float]  # the same, given the run's own CPU seconds
    rss: Mapping[str, tuple[float, float]]  # stage -> predicted and measured bytes


def ratios_of(
    size: JobSize, layout: Layout, memory: MemoryFacts, measured: RunMeasurements, costs: UnitCosts | None = None
) -> Ratios:
    """Compares a run with the costs alone: with its own trees, and for wall-clock seconds with its own CPU seconds."""
    costs = costs or default_costs()
    trees = Correction(trees=MeasuredTrees.of(size, measured.leaves))
    cpu = _logs(measured.cpu, forecast(size, layout, memory, trees, costs).cpu)
    by_cpu = {stage: math.exp(ratio) for stage, ratio in cpu.items()}
    made = forecast(size, layout, memory, dataclasses.replace(trees, cpu=by_cpu), costs)
    rss = {stage: (made.memory.of(stage), measured.rss[stage]) for stage in made.memory.terms if stage in measured.rss}
    return Ratios(cpu, _logs(measured.wall, made.wall), rss)


def _logs(measured: Mapping[str, float], predicted: Mapping[str, float]) -> dict[str, float]:
    return {
        stage: math.log((max(0.0, measured[stage]) + LEAST_SECONDS) / (predicted[stage] + LEAST_SECONDS))
        for stage in predicted
        if stage in measured
    }


def correction(history: Sequence[AuditLine], machine: str, kind: str) -> Correction:
    """What earlier runs on this machine say: of all jobs, and what is left of jobs of this kind.

    Seconds: a mean logarithm times n / (n + 2), so that one odd run moves little.  Memory: of all jobs a shrunken mean
    of bytes, at most MOST_OFFSET_NBYTES from a run, since what differs between machines is the process; of jobs of this
    kind a factor.
    """
    here = [line for line in history if line.machine == machine][-LATEST:]
    alike = [line for line in here if line.kind == kind]
    factors: dict[str, dict[str, float]] = {}
    for name in ("cpu", "wall"):
        common = _shrunken([getattr(line, name) for line in here])
        own = _shrunken([_less(getattr(line, name), common) for line in alike])
        factors[name] = {stage: math.exp(common.get(stage, 0.0) + own.get(stage, 0.0)) for stage in {**common, **own}}
    offsets = _shrunken([{stage: _offset(*pair) for stage, pair in line.rss.items()} for line in here])
    own = _shrunken(
        [
            {stage: math.log(measured / max(1.0, predicted + offsets[stage])) for stage, (predicted, measured) in line.rss.items()}
            for line in alike
        ]
    )  # fmt: skip
    found = Correction(
        factors["cpu"],
        factors["wall"],
        rss={stage: math.exp(one) for stage, one in own.items()},
        rss_offset_nbytes=offsets,
    )
    if not alike:
        return found
    last = alike[-1]
    return dataclasses.replace(
        found,
        trees=last.trees,
        facts=last.facts,
    )


def _offset(predicted: float, measured: float) -> float:
    return max(-MOST_OFFSET_NBYTES, min(MOST_OFFSET_NBYTES, measured - predicted))


def _less(ratios: Mapping[str, float], common: Mapping[str, float]) -> dict[str, float]:
    return {stage: ratio - common.get(stage, 0.0) for stage, ratio in ratios.items()}


def _shrunken(every: Sequence[Mapping[str, float]]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for one in every:
        for stage, value in one.items():
            found.setdefault(stage, []).append(value)
    return {stage: math.fsum(values) / (len(values) + PRIOR_RUNS) for stage, values in found.items()}


@dataclass(frozen=True)
class Accuracy:
    """How good the plans of some runs were, of one quantity."""

    runs: int
    median_error: float  # of |measured / planned - 1|
    coverage: float  # share of the runs whose interval held

    @classmethod
    def of(cls, planned: Sequence[tuple[float, float, float, float]]) -> "Accuracy | None":
        if not planned:
            return None
        errors = [abs(measured / max(1e-9, middle) - 1) for middle, _, _, measured in planned]
        inside = [low <= measured <= high for _, low, high, measured in planned]
        return cls(len(planned), statistics.median(errors), statistics.fmean(inside))


def accuracy(history: Sequence[AuditLine], machine: str) -> dict[str, Accuracy]:
    """By quantity ("cpu", "wall", "rss"), of this machine's runs."""
    here = [line for line in history if line.machine == machine]
    found = {name: Accuracy.of([line.planned[name] for line in here if name in line.planned]) for name in KINDS}
    return {name: one for name, one in found.items() if one is not None}


def coverage_table(found: Mapping[str, Accuracy]) -> list[tuple[str, str, str, str]]:
    """What `pipeline plan --audits` shows: quantity, runs, median error, share of intervals that held."""
    names = {"cpu": "CPU seconds", "wall": "wall-clock seconds", "rss": "memory of a worker"}
    return [
        (names[name], f"{one.runs}", f"{100 * one.median_error:.0f} %", f"{100 * one.coverage:.0f} % (aim: {100 * COVERAGE:.0f} %)")
        for name, one in found.items()
    ]  # fmt: skip
