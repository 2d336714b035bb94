"""Compares a training whose quantised matrix does not fit in its worker's memory with the same one in memory.

    python -m benchmarks.out_of_core --rows 8388608 --memory 1GiB

One worker with a memory limit trains on rows of 128 features whose float32 size is four times that limit (its matrix on
disk), then one with room for everything (its matrix in memory), in turn.  Prints for each run its seconds, those of its
rounds, and the peak memory of its worker.  The models have to be the same, byte by byte: exit code 1 if they are not.
"""

import hashlib
import itertools
import os
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import click
import psutil
from dask.utils import parse_bytes

import pipeline
from benchmarks import record
from pipeline.cli.terminal import run
from pipeline.config.job import Job
from pipeline.data.synthetic import generator
from pipeline.events.types import Event, MatrixDone, RoundDone, discard
from pipeline.run.connect import connect

FEATURES, FLOAT_NBYTES, FILES = 128, 4, 64
AMPLE = "12GiB"  # the worker's limit in the runs in memory
INTERVAL_SECONDS = 0.02
MIB = 2**20
Where = Literal["memory", "disk"]


@dataclass(frozen=True)
class Run:
    """One training."""

    matrix: Where
    seconds: float  # from connecting to the saved model
    rounds_seconds: float
    worker_peak_mib: int  # resident, before the matrix was complete and after
    worker_peak_in_rounds_mib: int
    model: str  # SHA-256


class Watch:
    """Measures the peak resident memory of a process, sampled fifty times a second."""

    def __init__(self, pid: int) -> None:
        self.peak_nbytes = 0
        self._process = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.wait(INTERVAL_SECONDS):
            try:
                self.peak_nbytes = max(self.peak_nbytes, self._process.memory_info().rss)
            except psutil.Error:  # it is gone
                return

    def stop(self) -> int:
        """Ends the sampling; returns MiB."""
        self._stop.set()
        self._thread.join()
        return self.peak_nbytes // MIB


def train(data: Path, matrix: Where, memory: str, rounds: int, folder: Path) -> Run:
    """Trains on one worker with all cores."""
    job = Job.parse({
        "data": {"source": str(data), "target": "label"},
        "training": {"rounds": rounds, "matrix": matrix},
        "cluster": {
            "device": "cpu", "workers": 1, "threads": os.cpu_count(), "memory": memory, "scratch": str(folder / "scratch"),
            "dashboard": False,
        },
        "output": {"model": str(folder / "model"), "overwrite": True, "report": False},
    })  # fmt: skip
    start = time.perf_counter()
    matrix_done = rounds_done = 0.0
    watches: list[Watch] = []

    def listen(event: Event) -> None:
        nonlocal matrix_done, rounds_done
        if isinstance(event, MatrixDone):
            matrix_done = time.perf_counter()
            watches.append(Watch(pid))
        elif isinstance(event, RoundDone):
            rounds_done = time.perf_counter()

    with connect(job.cluster) as client:
        pid = next(iter(client.run(os.getpid).values()))
        watches.append(Watch(pid))
        pipeline.train(client, job, listen=listen)
        peaks = [watch.stop() for watch in watches]
    seconds = time.perf_counter() - start
    model = hashlib.sha256((folder / "model" / "model.ubj").read_bytes()).hexdigest()
    return Run(matrix, seconds, rounds_done - matrix_done, peaks[0], peaks[1], model)


@click.command(help=__doc__)
@click.option("--rows", type=click.IntRange(1_000), default=8 * MIB, show_default=True)
@click.option("--memory", default="1GiB", show_default=True, help="Limit of the worker whose matrix is on disk.")
@click.option("--rounds", type=click.IntRange(1), default=20, show_default=True)
@click.option("--repeat", type=click.IntRange(1), default=2, show_default=True, help="Pairs of runs.")
@click.option("--name", default="out_of_core", show_default=True, help="Of the record; an empty one: none is written.")
def command(rows: int, memory: str, rounds: int, repeat: int, name: str) -> None:
    circumstances = record.circumstances()
    limits: dict[Where, str] = {"disk": memory, "memory": AMPLE}
    order: tuple[Where, Where, Where, Where] = ("disk", "memory", "memory", "disk")
    with tempfile.TemporaryDirectory(prefix="out-of-core-") as name_of_folder:
        folder = Path(name_of_folder)
        data = folder / "data"
        generator.generate(data, rows=rows, seed=0, files=FILES, kind="numeric", features=FEATURES, listen=discard)
        runs = []
        for where in itertools.islice(itertools.cycle(order), 2 * repeat):
            runs.append(train(data, where, limits[where], rounds, folder))
            print(_said(runs[-1]), flush=True)
    equal = len({run.model for run in runs}) == 1
    times = float(rows * FEATURES * FLOAT_NBYTES) / parse_bytes(memory)
    ratios = {of: _ratio(runs, of) for of in ("seconds", "rounds_seconds")}
    print(
        f"{rows:,} x {FEATURES} float32 are {times:.1f} times the memory limit; on disk over in memory: "
        f"{ratios['seconds']:.2f} of the run's time, {ratios['rounds_seconds']:.2f} of the rounds'; models "
        f"{'equal' if equal else 'DIFFERENT'}"
    )
    if name:
        record.write(name, {
            "benchmark": "out_of_core", "circumstances": circumstances, "rows": rows, "features": FEATURES,
            "memory": memory, "rounds": rounds, "float32 over the limit": times, "models equal": equal,
            "disk over memory": ratios, "runs": [asdict(run) for run in runs],
        })  # fmt: skip
    sys.exit(0 if equal else 1)


def _ratio(runs: list[Run], of: str) -> float:
    """Returns the ratio of the medians, on disk over in memory."""
    disk, memory = (statistics.median(getattr(run, of) for run in runs if run.matrix == w) for w in ("disk", "memory"))
    return float(disk / memory)


def _said(run: Run) -> str:
    return (
        f"matrix {'on disk' if run.matrix == 'disk' else 'in memory':9}  {run.seconds:6.1f} s, rounds "
        f"{run.rounds_seconds:6.1f} s, worker at most {run.worker_peak_mib:,} MiB ({run.worker_peak_in_rounds_mib:,} in rounds)"
    )


if __name__ == "__main__":
    sys.exit(run(command, sys.argv[1:], "python -m benchmarks.out_of_core"))
