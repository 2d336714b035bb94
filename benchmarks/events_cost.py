"""Measures the cost of a run's events: those of workers and client, the scheduler's state of them, a recorded file.

    python -m benchmarks.events_cost

Trains repeatedly on one cluster of two workers, in turn with events of every round from rank 0 and of its time
from each worker, sent to the scheduler and to a file; with the round events only; and without events.  A normal
training emits them as often as its throttle allows, so rarely that the cost is below the noise.  The CPU time between
two of these cases is that of so many events: in the workers' training threads by their own clock; in the workers' event
loops and in the client's process, which is also the scheduler's, by the difference of the medians.  At the throttled
rates the sum should be under 0.2 % of the run's cores.  No page is open meanwhile: `benchmarks.watching` measures that
cost.
"""

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args
from unittest import mock

import click
from distributed import Client

from benchmarks import record, telling
from pipeline.cli.terminal import run
from pipeline.config.job import Cluster, Job
from pipeline.data.synthetic.generator import generate
from pipeline.events.recording import recorded
from pipeline.events.types import EventHandler, discard
from pipeline.run import train as training
from pipeline.run.connect import connect
from pipeline.training.xgboost.rounds import ACCOUNT_SECONDS, EVENT_SECONDS

WORKERS = 2
TARGET = 0.002
PARTS = ("training_threads", "loops", "client")

Emitted = Literal["all", "rounds", "nothing"]


@click.command(help=__doc__)
@click.option("--times", type=click.IntRange(1), default=5, show_default=True, help="Of three runs each.")
@click.option("--rows", type=click.IntRange(1), default=200_000, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=400, show_default=True)
@click.option("--name", default="events_cost", show_default=True, help="Of the record; an empty one: none is written.")
def command(times: int, rows: int, rounds: int, name: str) -> None:
    circumstances = record.circumstances()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        generate(folder / "data", rows=rows, seed=1)
        with connect(Cluster(device="cpu", workers=WORKERS, threads=1)) as client:
            _measured(client, folder, 2, "all")  # imports and the scheduler's pages happen once
            runs = [_measured(client, folder, rounds, emitted) for _ in range(times) for emitted in get_args(Emitted)]
    measured = {"rows": rows, "rounds": rounds, "runs": runs, **_costs(runs, rounds)}
    click.echo(_text(measured))
    if name:
        record.write(name, {"circumstances": circumstances, **measured})


def _measured(client: Client, folder: Path, rounds: int, emitted: Emitted) -> dict[str, Any]:
    """Runs once with these events; returns its seconds, and the CPU seconds of what handles events."""
    job = Job.parse({
        "data": {"source": str(folder / "data"), "target": "late", "derive": {"late": "arr_delay > 15"},
                 "exclude": ["dep_delay", "taxi_out", "arr_delay"], "validation": {"share": 0.2}},
        "training": {"rounds": rounds, "early_stopping": 0},
        "output": {"model": str(folder / "model"), "overwrite": True, "report": False},
    })  # fmt: skip
    if emitted == "nothing":
        client.run(telling.silent)
    else:
        client.run(telling.clocked, accounts=emitted == "all")
    with contextlib.ExitStack() as stack:
        listen: EventHandler = discard
        if emitted != "nothing":
            listen = stack.enter_context(recorded(folder / "events.jsonl", discard))
        else:
            silent = contextlib.nullcontext(discard)
            stack.enter_context(mock.patch.object(training, "publishing", return_value=silent))
            stack.enter_context(mock.patch.object(training, "attached", return_value=silent))
        loops, own, begin = client.run(telling.loop_seconds), time.process_time(), time.monotonic()
        training.train(client, job, listen=listen)
        seconds, own = time.monotonic() - begin, time.process_time() - own
        after = client.run(telling.loop_seconds)
    return {
        "told": emitted,
        "seconds": seconds,
        "client_seconds": own,
        "loops_seconds": sum(after[worker] - before for worker, before in loops.items()),
        "training_threads_seconds": sum(client.run(telling.told_seconds).values()),
    }


def _costs(runs: list[dict[str, Any]], rounds: int) -> dict[str, Any]:
    """Returns the CPU seconds of each round event, of each report of all workers, and at most their share of the run."""

    def between(more: Emitted, less: Emitted) -> dict[str, float]:
        medians = {
            emitted: [
                statistics.median(run[f"{part}_seconds"] for run in runs if run["told"] == emitted) for part in PARTS
            ]
            for emitted in (more, less)
        }
        return {
            part: (one - other) / rounds for part, one, other in zip(PARTS, medians[more], medians[less], strict=True)
        }

    costs = {"a_round": between("rounds", "nothing"), "accounts": between("all", "rounds")}
    a_second = {"a_round": 1 / EVENT_SECONDS, "accounts": 1 / ACCOUNT_SECONDS}
    share = sum(sum(costs[kind].values()) * often for kind, often in a_second.items()) / WORKERS
    return {"cpu_seconds": costs, "a_second": a_second, "share_of_the_run": share}


def _text(measured: Mapping[str, Any]) -> str:
    said = {
        kind: f"{1e6 * sum(parts.values()):.0f} us of CPU time (training threads {1e6 * parts['training_threads']:.0f}, "
        f"workers' event loops {1e6 * parts['loops']:.0f}, client and scheduler {1e6 * parts['client']:.0f})"
        for kind, parts in measured["cpu_seconds"].items()
    }
    verdict = "as wanted" if measured["share_of_the_run"] < TARGET else "MORE than wanted"
    return (
        f"a round event takes {said['a_round']}; the accounts of {WORKERS} workers, {said['accounts']}; every "
        f"{EVENT_SECONDS:g} and {ACCOUNT_SECONDS:g} s that is {measured['share_of_the_run']:.3%} of {WORKERS} cores: "
        f"{verdict} (under {TARGET:.1%})"
    )


if __name__ == "__main__":
    sys.exit(run(command, sys.argv[1:], "python -m benchmarks.events_cost"))
