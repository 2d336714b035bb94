"""Plays random faults against a training, one run after the other, for some minutes.

    python -m benchmarks.chaos --minutes 10 --seed 1
    python -m benchmarks.chaos --seed 1 --trial 17
    python -m benchmarks.chaos --table

Each run draws a kind of cluster, two to five workers, a fault of the table (faults.table), a worker and a round, and
has to end as the fault's row says: with the model of the undisturbed run, to the byte, or in one line.  Workloads
(faults.workloads) take turns.  The seed and the trial's number determine all that is drawn.  The final report counts
faults by kind and workload, runs, equal models, the seconds a fault cost (what its runs took beyond the undisturbed
one, divided by the faults of the run), and what was left behind.  A trial whose fault did not happen is missed: it
proves nothing, and is counted separately.  Exit code 1 if a single run did not end as its row says or too few faults
happened for so many minutes, and, for a record of ten minutes or more, if the median fault that a run recovers from by
itself cost more than the interval of checkpoints and 3 s.
"""

import argparse
import contextlib
import functools
import itertools
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import record
from faults import table
from faults.acts import may_be_filled
from faults.bench import Bench
from faults.flips import Flipped, flip_all
from faults.places import KINDS, WORKERS, Kind, Local, Processes, place
from faults.runs import Missed, Wrong
from faults.summary import ALLOWED_SECONDS, Played, line, report, text, unmet
from faults.table import Row
from faults.trial import Trial
from faults.workloads import CHECKPOINT_ROUNDS, WORKLOADS
from pipeline.cluster import logs

FLIPS = 200  # positions of every file of a model folder
MORE_WORKERS, MORE_SHARE = (3, 4, 5), 1 / 3  # of all trials; the others have two
AGAIN = 8  # trials between two undisturbed runs on a place: other load on the machine changes


@dataclass(frozen=True)
class Draw:
    """What a trial plays."""

    number: int  # determines all else, with the seed
    kind: Kind
    row: Row
    workload: str
    workers: int
    rng: random.Random  # for the choices that the fault leaves open


def draw(options: argparse.Namespace, number: int) -> Draw:
    """Draws a kind of cluster, a fault that exists on it, a workload and a number of workers.

    Workloads take turns.
    """
    rng = random.Random(f"{options.seed} {number}")
    kind = rng.choice([kind for kind in options.cluster if any(drawn_on(kind, row) for row in options.rows)])
    known = [row for row in options.rows if drawn_on(kind, row)]
    row = rng.choices(known, [row.often for row in known])[0]
    workers = rng.choice(MORE_WORKERS) if rng.random() < MORE_SHARE else WORKERS
    workload = row.workloads[number % len(row.workloads)]
    return Draw(number, kind, row, options.workload or workload, options.workers or workers, rng)


def drawn_on(kind: Kind, row: Row) -> bool:
    return bool(row.often and row.write) and row.outcome(kind) is not None


def play(options: argparse.Namespace, bench: Bench, places: dict[Kind, Local | Processes]) -> Iterator[Played]:
    """Plays trials until the time is over, which begins after the undisturbed runs; or one, if its number is given."""
    kinds = list(places)
    if options.trial is not None:
        yield trial(draw(options, options.trial), bench, places)
        return
    for where in places.values():
        bench.undisturbed(where)
    deadline = time.monotonic() + 60 * options.minutes
    for number in itertools.count(1):
        if time.monotonic() > deadline:
            return
        if number % AGAIN == 0:
            bench.once_more(places[kinds[number // AGAIN % len(kinds)]])
        yield trial(draw(options, number), bench, places)


def trial(drawn: Draw, bench: Bench, places: dict[Kind, Local | Processes]) -> Played:
    outcome = drawn.row.outcome(drawn.kind)
    assert drawn.row.write is not None
    assert outcome is not None
    played = functools.partial(
        Played, drawn.row, drawn.kind, number=drawn.number, workload=drawn.workload, workers=drawn.workers
    )
    one = Trial(bench, places[drawn.kind], drawn.rng, workload=drawn.workload, workers=drawn.workers)
    try:
        return played(one.play(drawn.row.write, outcome))
    except Wrong as error:
        return played(None, wrong=str(error))
    except Missed as error:
        return played(None, missed=str(error).splitlines()[0])


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos",
        description=(__doc__ or "").replace("%", "%%"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trial", type=int, help="play this one alone, as a run with the same options does")
    parser.add_argument("--table", action="store_true", help="print what must come of each fault, and exit")
    parser.add_argument("--only", default="", help="the fault of this name, or those whose name holds it")
    parser.add_argument("--cluster", choices=KINDS, action="append", help="default: both kinds")
    parser.add_argument("--workload", choices=WORKLOADS, help="default: all in turn")
    parser.add_argument("--workers", type=int, help="default: two, and three to five in a third of all trials")
    parser.add_argument("--results", type=Path, default=record.RESULTS, help="folder of the record")
    parser.add_argument("--name", default="chaos", help="of the record; an empty one: none is written")
    options = parser.parse_args(arguments)
    exact = [row for row in table.TABLE if options.only == row.fault]
    options.rows = exact or [row for row in table.TABLE if options.only in row.fault]
    options.cluster = tuple(options.cluster or KINDS)
    if not any(drawn_on(kind, row) for kind in options.cluster for row in options.rows):
        parser.error(f"--only {options.only}: no fault is called so on this cluster; --table prints them")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.table:
        print(table.text())
        return 0
    logs.silence()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that started processes are ended
    circumstances = record.circumstances()
    start = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        with contextlib.ExitStack() as stack:
            places = {kind: stack.enter_context(place(kind, folder / kind)) for kind in options.cluster}
            bench = stack.enter_context(contextlib.closing(Bench(folder)))
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
            if options.trial is not None:
                return 1 if trials[0].wrong else 0
            flipped = flip_all(bench.a_model(places[options.cluster[0]]), FLIPS, random.Random(options.seed))
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
