"""Compares workers that are forks of a fork server with workers that are new processes: a cluster's start, a lost worker.

    python -m benchmarks.worker_starts

Each sample is a separate process: it starts a local cluster whose workers import what training needs, kills one of
them, waits until that has come back and has imported it too, and closes the cluster.  Samples of both kinds take turns.
Prints the seconds of each step, and the processor seconds of all processes together.
"""

import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import click
from distributed import Client

from benchmarks import record
from pipeline.cli.terminal import run
from pipeline.cluster import lean
from pipeline.cluster.launchers import fork_server
from pipeline.config.job import Cluster
from pipeline.run.connect import connect

KINDS = ("new processes", "forks")


@click.command(help=__doc__)
@click.option("--repeat", type=click.IntRange(1), default=5, show_default=True)
@click.option("--workers", "counts", type=click.IntRange(1), multiple=True, default=(1, 2, 4), show_default=True)
@click.option(
    "--name", default="worker_starts", show_default=True, help="Of the record; an empty one: none is written."
)
@click.option("--sample", "kind", type=click.Choice(KINDS), hidden=True)
def command(repeat: int, counts: tuple[int, ...], name: str, kind: str | None) -> None:
    if kind is not None:
        print(json.dumps(sample(kind, *counts)))
        return
    circumstances = record.circumstances()
    found = []
    for count in counts:
        samples = [(kind, _in_a_process(kind, count)) for _ in range(repeat) for kind in KINDS]
        found.append({"workers": count, **_summary(samples)})
        _print(found[-1])
    if name:
        record.write(name, {"circumstances": circumstances, "results": found})


def sample(kind: str, workers: int) -> dict[str, float]:
    """Starts and closes a cluster in this process; returns seconds of each step, and CPU seconds of all processes."""
    if kind != "forks":
        fork_server.start = lambda modules, variables: None
    lean.install()
    start = time.perf_counter()
    with connect(Cluster(device="cpu", workers=workers, threads=1, dashboard=False)) as client:
        client.run(_ready)
        started = time.perf_counter()
        victim = next(iter(client.run(os.getpid).values()))
        os.kill(victim, signal.SIGKILL)
        killed = time.perf_counter()
        _wait_for_another(client, victim, workers)
        back = time.perf_counter()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(of.ru_utime + of.ru_stime for of in used)
    return {"start_seconds": started - start, "back_seconds": back - killed, "cpu_seconds": cpu}


def _ready() -> None:
    """Imports what training needs, in a worker."""
    import pipeline.training.xgboost.trainer  # noqa: F401  # the import is what is measured


def _wait_for_another(client: Client, victim: int, workers: int) -> None:
    while True:
        try:
            pids = client.run(os.getpid, on_error="ignore").values()
            if len(pids) == workers and victim not in pids:
                client.run(_ready)
                return
        except OSError:
            pass  # of the connection to the killed worker
        time.sleep(0.01)


def _in_a_process(kind: str, workers: int) -> dict[str, float]:
    arguments = [sys.executable, "-m", "benchmarks.worker_starts", "--sample", kind, "--workers", str(workers)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _summary(samples: list[tuple[str, dict[str, float]]]) -> dict[str, Any]:
    """Returns medians by kind, the ratios of forks to new processes, and every sample."""
    medians = {
        kind: {what: statistics.median(found[what] for of, found in samples if of == kind) for what in samples[0][1]}
        for kind in KINDS
    }
    new, forks = (medians[kind] for kind in KINDS)
    return {"medians": medians, "ratios": {what: forks[what] / new[what] for what in new}, "samples": samples}


def _print(found: Mapping[str, Any]) -> None:
    for kind, of in found["medians"].items():
        print(
            f"{found['workers']} workers, {kind}: start {of['start_seconds']:.2f} s, a lost worker back after "
            f"{of['back_seconds']:.2f} s, {of['cpu_seconds']:.2f} CPU s"
        )


if __name__ == "__main__":
    sys.exit(run(command, sys.argv[1:], "python -m benchmarks.worker_starts"))
