"""Compares orders of the rows in whole runs: with several workers, and with the matrix on disk.

    python -m benchmarks.row_order_runs --rows 2000000 --repeat 3

In turn: `pipeline train` with `training.row_order` "source" and "key".  Prints the medians of the rounds' wall-clock seconds
and of the run's CPU seconds.  All models of a layout have to be the same: exit code 1 if they are not.
"""

import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import pyarrow.parquet as pq

from benchmarks import record
from benchmarks.measure import run as measure
from benchmarks.small_job_shapes import TARGET, numbers
from pipeline.cli.terminal import run

ROOT = Path(__file__).resolve().parent.parent
LAYOUTS = {"1x2, memory": (1, 2, "memory"), "2x1, memory": (2, 1, "memory"), "1x2, disk": (1, 2, "disk")}
ORDERS = ("source", "key")
FILES = 8
Found = dict[str, Any]


@click.command(help=__doc__)
@click.option("--rows", type=click.IntRange(1_000), default=2_000_000, show_default=True)
@click.option("--features", type=click.IntRange(3), default=28, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=50, show_default=True)
@click.option("--depth", type=click.IntRange(1), default=8, show_default=True)
@click.option("--repeat", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--name", default="row_order-runs", show_default=True, help="Of the record; an empty one: none is written."
)
def command(rows: int, features: int, rounds: int, depth: int, repeat: int, name: str) -> int:
    circumstances = record.circumstances()
    settings = {"rows": rows, "features": features, "rounds": rounds, "depth": depth, "repeat": repeat}
    samples: dict[str, dict[str, list[Found]]] = {layout: {order: [] for order in ORDERS} for layout in LAYOUTS}
    with tempfile.TemporaryDirectory(prefix="row-order-runs-") as folder:
        data = Path(folder) / "rows"
        data.mkdir()
        table = numbers(rows, features)
        each = -(-rows // FILES)
        for number in range(FILES):
            pq.write_table(table.slice(number * each, each), data / f"{number}.parquet")
        del table
        for number in range(repeat):
            for layout in LAYOUTS:
                for order in ORDERS if number % 2 else ORDERS[::-1]:
                    samples[layout][order].append(attempt(layout, order, data, rounds, depth))
    found = {layout: summary(of) for layout, of in samples.items()}
    for layout, one in found.items():
        print(
            f"{layout:12s} rounds {one['key']['rounds_seconds']:6.2f} / {one['source']['rounds_seconds']:6.2f} s = "
            f"{one['rounds_ratio']:.2f}  CPU {one['key']['cpu_seconds']:6.1f} / {one['source']['cpu_seconds']:6.1f} s = "
            f"{one['cpu_ratio']:.2f}  {'same model' if one['same_model'] else 'MODELS DIFFER'}"
        )
    if name:
        record.write(
            name,
            {
                "benchmark": "row_order_runs",
                **circumstances,
                "settings": settings,
                "results": found,
                "samples": samples,
            },
        )
    return int(not all(one["same_model"] for one in found.values()))


def attempt(layout: str, order: str, data: Path, rounds: int, depth: int) -> Found:
    """One run in a process of its own.  RuntimeError if it fails."""
    workers, threads, matrix = LAYOUTS[layout]
    fields = {
        "training.row_order": order, "training.matrix": matrix, "training.params.max_depth": depth, "output.audit": "false",
    }  # fmt: skip
    given = [word for field, value in fields.items() for word in ("--set", f"{field}={value}")]
    with tempfile.TemporaryDirectory(prefix="row-order-run-") as folder:
        words = [
            sys.executable,
            "-m",
            "pipeline",
            "train",
            str(data),
            "--target",
            TARGET,
            "--validation",
            "0",
            "--no-report",
        ]
        words += ["--rounds", str(rounds), "--workers", str(workers), "--threads", str(threads), *given]
        words += ["--json", "--quiet", "--out", f"{folder}/model"]
        cost = measure(words, cwd=ROOT, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    if cost.exit_code:
        raise RuntimeError(f"{layout}, {order}: exit code {cost.exit_code}: {cost.stderr.strip()[-300:]}")
    said = json.loads(cost.stdout.strip().splitlines()[-1])
    return {
        "wall_seconds": cost.wall_seconds, "cpu_seconds": cost.cpu_seconds, "peak_pss_nbytes": cost.peak_pss_nbytes,
        "rounds_seconds": said["seconds"]["rounds"], "sha256": said["sha256"],
    }  # fmt: skip


def summary(of: dict[str, list[Found]]) -> Found:
    """Medians by order, and the ratios of "key" to "source"."""
    found: Found = {
        order: {
            what: statistics.median(one[what] for one in every)
            for what in ("wall_seconds", "cpu_seconds", "rounds_seconds", "peak_pss_nbytes")
        }
        for order, every in of.items()
    }
    found["rounds_ratio"] = found["key"]["rounds_seconds"] / found["source"]["rounds_seconds"]
    found["cpu_ratio"] = found["key"]["cpu_seconds"] / found["source"]["cpu_seconds"]
    found["same_model"] = len({one["sha256"] for every in of.values() for one in every}) == 1
    return found


if __name__ == "__main__":
    sys.exit(run(command, sys.argv[1:], "python -m benchmarks.row_order_runs"))
