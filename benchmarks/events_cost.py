"""What it costs that a run says how it goes: events of workers and client, the scheduler's book of them, a recorded file.

    python -m benchmarks.events_cost

Trains again and again on one cluster of two workers, in turn with all events and with none, and says what the events
take of the run's CPU time: in the workers' training threads by their own clock, in the workers' event loops and in the client's
process, which is the scheduler's too, by the difference of the medians (the target is under 0.2 % of the run's cores).
Nobody looks at a page meanwhile: `benchmarks.watching` has what that takes.
"""

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import click
from distributed import Client

from benchmarks import record, telling
from pipeline import run as walk
from pipeline.cluster.connect import connect
from pipeline.data.synthetic import generate
from pipeline.events import Listener, ignore
from pipeline.job import Cluster, Job
from pipeline.recording import recorded
from pipeline.terminal import run

WORKERS = 2
TARGET = 0.002


@click.command(help=__doc__)
@click.option("--pairs", type=click.IntRange(1), default=3, show_default=True)
@click.option("--rows", type=click.IntRange(1), default=1_000_000, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=1_200, show_default=True)
@click.option("--name", default="events_cost", show_default=True, help="Of the record; an empty one: none is written.")
def command(pairs: int, rows: int, rounds: int, name: str) -> None:
    circumstances = record.circumstances()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        generate(folder / "data", rows=rows, seed=1)
        with connect(Cluster(device="cpu", workers=WORKERS, threads=1)) as client:
            _measured(client, folder, 2, told=True)  # imports and the scheduler's pages come once
            runs = [_measured(client, folder, rounds, told) for _ in range(pairs) for told in (True, False)]
    measured = {"rows": rows, "rounds": rounds, "runs": runs, **_costs(runs)}
    click.echo(_text(measured))
    if name:
        record.write(name, {"circumstances": circumstances, **measured})


def _measured(client: Client, folder: Path, rounds: int, told: bool) -> dict[str, Any]:
    """One run, with events or without: its seconds, and the CPU seconds of those that have to do with events."""
    job = Job.parse({
        "data": {"source": str(folder / "data"), "target": "late", "derive": {"late": "arr_delay > 15"},
                 "exclude": ["dep_delay", "taxi_out", "arr_delay"], "validation": {"share": 0.2}},
        "training": {"rounds": rounds, "early_stopping": 0},
        "output": {"model": str(folder / "model"), "overwrite": True, "report": False},
    })  # fmt: skip
    client.run(telling.clocked if told else telling.silent)
    with contextlib.ExitStack() as stack:
        listen: Listener = ignore
        if told:
            listen = stack.enter_context(recorded(folder / "events.jsonl", ignore))
        else:
            nobody = contextlib.nullcontext(ignore)
            stack.enter_context(mock.patch.object(walk, "publishing", return_value=nobody))
            stack.enter_context(mock.patch.object(walk, "attached", return_value=nobody))
        loops, own, begin = client.run(telling.loop_seconds), time.process_time(), time.monotonic()
        walk.train(client, job, listen=listen)
        seconds, own = time.monotonic() - begin, time.process_time() - own
        after = client.run(telling.loop_seconds)
    return {
        "told": told,
        "seconds": seconds,
        "client_cpu_seconds": own,
        "loops_cpu_seconds": sum(after[worker] - before for worker, before in loops.items()),
        "training_threads_cpu_seconds": sum(client.run(telling.told_seconds).values()),
    }


def _costs(runs: list[dict[str, Any]]) -> dict[str, float]:
    def share(name: str, told: bool) -> float:
        return statistics.median(one[name] / one["seconds"] for one in runs if one["told"] == told)

    parts = {
        "training_threads_share": share("training_threads_cpu_seconds", True),
        "loops_share": share("loops_cpu_seconds", True) - share("loops_cpu_seconds", False),
        "client_share": share("client_cpu_seconds", True) - share("client_cpu_seconds", False),
    }
    seconds = statistics.median(one["seconds"] for one in runs)
    return {"seconds": seconds, **parts, "share_of_the_run": sum(parts.values()) / WORKERS}


def _text(measured: Mapping[str, Any]) -> str:
    verdict = "as wanted" if measured["share_of_the_run"] < TARGET else "MORE than wanted"
    return (
        f"{measured['seconds']:.1f} s a run; of one core: training threads {measured['training_threads_share']:.3%}, "
        f"workers' event loops {measured['loops_share']:.3%}, client and scheduler {measured['client_share']:.3%}; "
        f"together {measured['share_of_the_run']:.3%} of the {WORKERS} cores: {verdict} (under {TARGET:.1%})"
    )


if __name__ == "__main__":
    sys.exit(run(command, sys.argv[1:], "python -m benchmarks.events_cost"))
