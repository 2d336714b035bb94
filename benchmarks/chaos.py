"""Random faults against a training, one run after the other, for some minutes.

    python -m benchmarks.chaos --minutes 10 --seed 1
    python -m benchmarks.chaos --table

Each run draws a kind of cluster, a fault of the table (benchmarks.faults.table), a worker and a round, and has to end as
the fault's row says: with the model of the undisturbed run, or in one line.  The report that ends it counts faults by
kind, runs, equal models, the seconds a fault cost (what its runs took beyond the undisturbed one, through all faults of
the run), and what was left behind.  A trial whose fault did not happen is missed: it proves nothing, and is counted
apart.  Exit code 1 if a single run did not end as its row says or too few faults happened for so many minutes, and,
for a record of ten minutes or more, if the median fault cost more than the interval of checkpoints and 3 s.
"""

import argparse
import contextlib
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.faults import table
from benchmarks.faults.acts import may_be_filled
from benchmarks.faults.bench import CHECKPOINT_ROUNDS, Bench
from benchmarks.faults.flips import Flipped, flip_all
from benchmarks.faults.places import KINDS, Kind, Local, Processes, place
from benchmarks.faults.runs import Missed, Wrong
from benchmarks.faults.table import Row
from benchmarks.faults.trial import Trial, Verdict
from pipeline.cluster import logs

FLIPS = 200  # positions of every file of a model folder
AGAIN = 8  # trials between two undisturbed runs on a place: what else the machine does changes
ALLOWED_SECONDS = 3.0  # that a fault may cost beyond the interval of checkpoints, in the median
FULL_MINUTES, FULL_FAULTS = 10.0, 50  # a run of so many minutes is a record: so many faults, whose median is judged
SHORT_MINUTES, SHORT_TRIALS = 2.0, 2  # one of so many minutes has to show so many trials: few, for slow machines


@dataclass(frozen=True)
class Played:
    """One trial."""

    row: Row
    kind: Kind
    verdict: Verdict | None  # None where it was wrong or missed
    wrong: str = ""  # how it ended otherwise than its row says
    missed: str = ""  # what did not happen

    def as_record(self) -> dict[str, Any]:
        said: dict[str, Any] = {"fault": self.row.fault, "cluster": self.kind, "expected": self.row.outcome(self.kind)}
        if self.verdict is None:
            return said | ({"missed": self.missed} if self.missed else {"wrong": self.wrong})
        return said | {
            "faults": self.verdict.faults, "runs": self.verdict.runs, "model": self.verdict.equal,
            "seconds": self.verdict.seconds, "lost_seconds": self.verdict.lost_seconds,
        }  # fmt: skip


def draw(rng: random.Random, kinds: list[Kind], rows: list[Row]) -> tuple[Kind, Row]:
    """A kind of cluster, and a fault there is on it."""
    kind = rng.choice(kinds)
    known = [row for row in rows if row.often and row.write and row.outcome(kind) is not None]
    return kind, rng.choices(known, [row.often for row in known])[0]


def play(options: argparse.Namespace, bench: Bench, places: dict[Kind, Local | Processes]) -> Iterator[Played]:
    """Trials until the time is over, which begins after the undisturbed runs."""
    rng = random.Random(options.seed)
    kinds = list(places)
    for where in places.values():
        bench.undisturbed(where)
    deadline = time.monotonic() + 60 * options.minutes
    number = 0
    while time.monotonic() < deadline:
        number += 1
        if number % AGAIN == 0:
            bench.once_more(places[kinds[number // AGAIN % len(kinds)]])
        kind, row = draw(rng, kinds, options.rows)
        assert row.write is not None
        outcome = row.outcome(kind)
        assert outcome is not None
        try:
            verdict = Trial(bench, places[kind], random.Random(rng.random())).play(row.write, outcome)
            yield Played(row, kind, verdict)
        except Wrong as error:
            yield Played(row, kind, None, str(error))
        except Missed as error:
            yield Played(row, kind, None, missed=str(error).splitlines()[0])


def line(played: Played) -> str:
    """What is told of a trial as it ends."""
    head = f"{played.kind:9}  {played.row.fault:40}"
    if played.missed:
        return f"{head}  {played.missed}"
    if played.verdict is None:
        return f"{head}  WRONG: {played.wrong}"
    lost = played.verdict.lost_seconds
    cost = "" if lost is None else f"{lost:6.1f} s lost"
    return f"{head}  {played.verdict.seconds:6.1f} s  {cost:13}  {played.verdict.equal}"


@dataclass(frozen=True)
class Line:
    """The trials of one fault on all kinds of cluster, or of all faults."""

    fault: str
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
        """Of each fault."""
        return [v.lost_seconds for v in self.good if v.lost_seconds is not None for _ in range(v.faults)]

    def as_record(self) -> dict[str, Any]:
        lost = self.lost_seconds
        return {
            "fault": self.fault,
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
    """A line for every fault that was played, and one for all."""
    faults = [row.fault for row in table.TABLE if any(played.row is row for played in trials)]
    lines = [Line(fault, [played for played in trials if played.row.fault == fault]) for fault in faults]
    return [line.as_record() for line in [*lines, Line("all", trials)]]


def unmet(trials: list[Played], minutes: float, interval_seconds: float) -> list[str]:
    """What a run of so many minutes has to show and did not, each in a line."""
    found, everything = [], Line("all", trials)
    if everything.wrong:
        found.append(f"{len(everything.wrong)} of {len(trials)} trials did not end as they must")
    needed = SHORT_TRIALS if minutes >= SHORT_MINUTES else 1
    if (good := len(everything.good)) < needed:
        found.append(f"{good} of {len(trials)} trials prove something; {minutes:g} minutes need {needed}")
    if minutes < FULL_MINUTES:
        return found  # the median of a few faults, on a machine that may be busy, is no judgement
    if everything.faults < FULL_FAULTS:
        found.append(f"{everything.faults} faults; a record of {minutes:g} minutes needs {FULL_FAULTS}")
    lost, allowed = everything.lost_seconds, interval_seconds + ALLOWED_SECONDS
    if lost and (median := statistics.median(lost)) > allowed:
        found.append(
            f"a fault cost {median:.1f} s in the median, more than {allowed:.1f} s: the checkpoint interval of "
            f"{interval_seconds:.1f} s and {ALLOWED_SECONDS:g} s"
        )
    return found


def text(lines: list[dict[str, Any]]) -> str:
    """The report for the terminal."""
    names = list(lines[0])
    cells = [names] + [[_cell(line[name]) for name in names] for line in lines]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" if place == 0 else f"{cell:>{width}}" for place, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in cells
    )  # fmt: skip


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos",
        description=(__doc__ or "").replace("%", "%%"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="print what must come of each fault, and exit")
    parser.add_argument("--only", default="", help="faults whose name holds this text")
    parser.add_argument("--cluster", choices=KINDS, action="append", help="default: both kinds")
    parser.add_argument("--results", type=Path, default=record.RESULTS, help="folder of the record")
    parser.add_argument("--name", default="chaos", help="of the record; an empty one: none is written")
    options = parser.parse_args(arguments)
    options.rows = [row for row in table.TABLE if options.only in row.fault]
    if not any(row.often and row.write for row in options.rows):
        parser.error(f"--only {options.only}: no fault is called so; --table prints them")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.table:
        print(table.text())
        return 0
    logs.silence()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell have it ignored
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what was started is ended
    circumstances = record.circumstances()
    start = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        with contextlib.ExitStack() as stack:
            kinds: tuple[Kind, ...] = tuple(options.cluster or KINDS)
            places = {kind: stack.enter_context(place(kind, folder / kind)) for kind in kinds}
            bench = Bench(folder)
            with bench.folder_for_a_run() as small:
                disk = (
                    "a small disk in memory"
                    if may_be_filled(small / "out")
                    else "fsync that fails (no disk could be mounted)"
                )
            print(f"a full disk is {disk}", flush=True)
            trials = []
            for played in play(options, bench, places):
                trials.append(played)
                print(line(played), flush=True)
            flipped = flip_all(bench.a_model(places[kinds[0]]), FLIPS, random.Random(options.seed))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    lines = report(trials)
    interval = bench.interval_seconds()
    failed = unmet(trials, options.minutes, interval)
    print("\n" + text(lines) + "\n" + said_of_flips(flipped))
    if not any(played.wrong for played in trials):
        print("processes and files left behind: 0")
    for what in failed:
        print(f"not met: {what}")
    if options.name:
        path = record.write(options.name, {
            "benchmark": "chaos", "circumstances": circumstances, "minutes": options.minutes, "seed": options.seed,
            "seconds": time.monotonic() - start, "full disk": disk, "undisturbed_seconds": bench.walls(),
            "checkpoint_interval": {"rounds": CHECKPOINT_ROUNDS, "seconds": interval},
            "allowed_seconds": interval + ALLOWED_SECONDS, "not met": failed,
            "flipped": {"files": flipped.files, "flips": flipped.flips, "wrong": list(flipped.wrong)},
            "summary": lines, "trials": [played.as_record() for played in trials],
        }, options.results)  # fmt: skip
        print(f"record: {path}")
    return 1 if failed or flipped.wrong else 0


def said_of_flips(flipped: Flipped) -> str:
    if flipped.wrong:
        return (
            f"model folder flipped: {len(flipped.wrong)} of {flipped.flips} not refused: {'; '.join(flipped.wrong[:3])}"
        )
    return f"model folder flipped: {flipped.flips} flips in {flipped.files} files, refused each time"


if __name__ == "__main__":
    sys.exit(main())
