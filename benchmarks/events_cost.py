"""What it costs that a run says how it goes: events of workers and client, the scheduler's book of them, a recorded file.

    python -m benchmarks.events_cost

Trains again and again on one cluster of two workers, in turn with every round told, by rank 0, by each worker, to the
scheduler and to a file, and with none; a training by itself tells them as often as its throttle allows, so seldom that
its cost drowns in the noise.  The CPU time between the two is that of so many tellings: in the workers' training threads by
their own clock, in the workers' event loops and in the client's process, which is the scheduler's too, by the difference
of the medians.  At the throttled rate it should be under 0.2 % of the run's cores.  Nobody looks at a page meanwhile:
`benchmarks.watching` has what that takes.
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
from pipeline.dashboard import publish
from pipeline.data.synthetic import generate
from pipeline.events import Listener, ignore
from pipeline.job import Cluster, Job
from pipeline.recording import recorded
from pipeline.terminal import run
from pipeline.training.rounds import EVENT_SECONDS

WORKERS = 2
TARGET = 0.002
A_SECOND = max(1 / EVENT_SECONDS, 1 / publish.INTERVAL_SECONDS)  # tellings, at most


@click.command(help=__doc__)
@click.option("--pairs", type=click.IntRange(1), default=7, show_default=True)
@click.option("--rows", type=click.IntRange(1), default=200_000, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=400, show_default=True)
@click.option("--name", default="events_cost", show_default=True, help="Of the record; an empty one: none is written.")
def command(pairs: int, rows: int, rounds: int, name: str) -> None:
    circumstances = record.circumstances()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        generate(folder / "data", rows=rows, seed=1)
        with connect(Cluster(device="cpu", workers=WORKERS, threads=1)) as client:
            _measured(client, folder, 2, told=True)  # imports and the scheduler's pages come once
            runs = [_measured(client, folder, rounds, told) for _ in range(pairs) for told in (True, False)]
    measured = {"rows": rows, "rounds": rounds, "runs": runs, **_costs(runs, rounds)}
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
            stack.enter_context(mock.patch.object(publish, "INTERVAL_SECONDS", 0.0))
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


def _costs(runs: list[dict[str, Any]], rounds: int) -> dict[str, float]:
    def median(name: str, told: bool) -> float:
        return statistics.median(one[name] for one in runs if one["told"] == told)

    parts = {
        "training_threads_seconds": median("training_threads_cpu_seconds", True) / rounds,
        "loops_seconds": (median("loops_cpu_seconds", True) - median("loops_cpu_seconds", False)) / rounds,
        "client_seconds": (median("client_cpu_seconds", True) - median("client_cpu_seconds", False)) / rounds,
    }
    seconds = sum(parts.values())
    return {**parts, "telling_seconds": seconds, "a_second": A_SECOND, "share_of_the_run": seconds * A_SECOND / WORKERS}


def _text(measured: Mapping[str, Any]) -> str:
    verdict = "as wanted" if measured["share_of_the_run"] < TARGET else "MORE than wanted"
    return (
        f"to tell a round takes {1e6 * measured['telling_seconds']:.0f} us of CPU time (training threads "
        f"{1e6 * measured['training_threads_seconds']:.0f}, workers' event loops {1e6 * measured['loops_seconds']:.0f}, "
        f"client and scheduler {1e6 * measured['client_seconds']:.0f}); {measured['a_second']:g} times a second that is "
        f"{measured['share_of_the_run']:.3%} of {WORKERS} cores: {verdict} (under {TARGET:.1%})"
    )


if __name__ == "__main__":
    sys.exit(run(command, sys.argv[1:], "python -m benchmarks.events_cost"))
