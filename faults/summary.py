"""Summarises trials: a line for each, for each fault and each workload, and what a record has to show."""

import statistics
from dataclasses import dataclass
from typing import Any

from faults import table
from faults.places import WORKERS, Kind
from faults.script import RECOVERS
from faults.table import Row
from faults.trial import Verdict
from faults.workloads import USUAL, WORKLOADS

ALLOWED_SECONDS = 3.0  # that a fault may cost beyond the interval of checkpoints, in the median
FULL_MINUTES, FULL_FAULTS = 10.0, 50  # a run this long is a record: so many faults, their median checked
SHORT_MINUTES, SHORT_TRIALS = 2.0, 2  # a run this long has to show so many trials: few, for slow machines


@dataclass(frozen=True)
class Played:
    """One trial."""

    row: Row
    kind: Kind
    verdict: Verdict | None  # None if it was wrong or missed
    wrong: str = ""  # how it ended differently from its row
    missed: str = ""  # what did not happen
    number: int = 0  # with the seed it determines all that was drawn
    workload: str = USUAL
    workers: int = WORKERS

    def as_record(self) -> dict[str, Any]:
        said: dict[str, Any] = {
            "number": self.number, "fault": self.row.fault, "cluster": self.kind, "workload": self.workload,
            "workers": self.workers, "expected": self.row.outcome(self.kind),
        }  # fmt: skip
        if self.verdict is None:
            return said | ({"missed": self.missed} if self.missed else {"wrong": self.wrong})
        return said | {
            "faults": self.verdict.faults, "runs": self.verdict.runs, "model": self.verdict.equal,
            "seconds": self.verdict.seconds, "lost_seconds": self.verdict.lost_seconds,
        }  # fmt: skip


def line(played: Played) -> str:
    """Returns the line that is printed as a trial ends."""
    head = f"{played.number:4}  {played.kind:9}  {played.workload:14}  {played.workers}  {played.row.fault:40}"
    if played.missed:
        return f"{head}  {played.missed}"
    if played.verdict is None:
        return f"{head}  WRONG: {played.wrong}"
    lost = played.verdict.lost_seconds
    cost = "" if lost is None else f"{lost:6.1f} s lost"
    return f"{head}  {played.verdict.seconds:6.1f} s  {cost:13}  {played.verdict.equal}"


@dataclass(frozen=True)
class Line:
    """Trials that share a fault, a workload, a number of workers, or nothing."""

    of: str
    trials: list[Played]

    @property
    def good(self) -> list[Verdict]:
        return [played.verdict for played in self.trials if played.verdict is not None]

    @property
    def wrong(self) -> list[Played]:
        return [played for played in self.trials if played.wrong]

    @property
    def faults(self) -> int:
        return sum(verdict.faults for verdict in self.good) + len(self.wrong)

    @property
    def lost_seconds(self) -> list[float]:
        """Returns the seconds of each fault."""
        return [v.lost_seconds for v in self.good if v.lost_seconds is not None for _ in range(v.faults)]

    def as_record(self) -> dict[str, Any]:
        lost = self.lost_seconds
        return {
            "of": self.of,
            "trials": len(self.trials),
            "ended as they must": len(self.good),
            "missed": sum(bool(played.missed) for played in self.trials),
            "faults": self.faults,
            "runs": sum(verdict.runs for verdict in self.good),
            "models": sum(verdict.equal != "no model" for verdict in self.good),
            "equal to the byte": sum(verdict.equal == "bytes" for verdict in self.good),
            "lost_seconds, median": statistics.median(lost) if lost else None,
            "lost_seconds, worst": max(lost, default=None),
        }


def report(trials: list[Played]) -> list[dict[str, Any]]:
    """Returns a line for every fault played, every workload, every number of workers, for recoveries, and for all."""
    by_fault = [(row.fault, [played for played in trials if played.row is row]) for row in table.TABLE]
    by_workload = [(name, [played for played in trials if played.workload == name]) for name in WORKLOADS]
    counts = sorted({played.workers for played in trials})
    by_workers = [(f"{count} workers", [played for played in trials if played.workers == count]) for count in counts]
    lines = [Line(name, those) for name, those in (*by_fault, *by_workload, *by_workers) if those]
    return [line.as_record() for line in (*lines, recovered(trials), Line("all", trials))]


def recovered(trials: list[Played]) -> Line:
    """Selects runs that recover by themselves: a block has a fixed length, and --resume starts a second command."""
    return Line(RECOVERS, [played for played in trials if played.row.outcome(played.kind) == RECOVERS])


def unmet(trials: list[Played], minutes: float, interval_seconds: float) -> list[str]:
    """Returns what a run of so many minutes has to show and did not, each in a line."""
    found, everything = [], Line("all", trials)
    if everything.wrong:
        found.append(f"{len(everything.wrong)} of {len(trials)} trials did not end as they must")
    needed = SHORT_TRIALS if minutes >= SHORT_MINUTES else 1
    if (good := len(everything.good)) < needed:
        found.append(f"{good} of {len(trials)} trials prove something; {minutes:g} minutes need {needed}")
    if minutes < FULL_MINUTES:
        return found  # the median of a few faults, on a machine that may be busy, proves nothing
    if everything.faults < FULL_FAULTS:
        found.append(f"{everything.faults} faults; a record of {minutes:g} minutes needs {FULL_FAULTS}")
    lost, allowed = recovered(trials).lost_seconds, interval_seconds + ALLOWED_SECONDS
    if lost and (median := statistics.median(lost)) > allowed:
        found.append(
            f"a fault that the run recovers from cost {median:.1f} s in the median, more than {allowed:.1f} s: the checkpoint interval of "
            f"{interval_seconds:.1f} s and {ALLOWED_SECONDS:g} s"
        )
    return found


def text(lines: list[dict[str, Any]]) -> str:
    """Formats the report for the terminal."""
    names = list(lines[0])
    cells = [names] + [[_cell(line[name]) for name in names] for line in lines]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" if place == 0 else f"{cell:>{width}}" for place, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in cells
    )  # fmt: skip


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)
