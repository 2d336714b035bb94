"""Compares whole runs on data whose reading costs as much as their training with a script by hand.

    python -m benchmarks.small_jobs --shapes files,short --repeat 3

In turn: `pipeline train` without a report, and benchmarks/competitors/small_job.py (pyarrow and XGBoost with all threads,
texts as their codes).  Both also run on 100 rows for one round, which is their start-up.  Prints the medians of wall and
CPU seconds, and their ratios once the start-up of each is subtracted.
"""

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks import record
from benchmarks.measure import run as measure
from benchmarks.small_job_shapes import EMPTY, SHAPES, TARGET, Shape, data_folder, write_shape
from pipeline.cli.terminal import run
from pipeline.cluster.affinity import cores, numa_nodes

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 1.3  # of the ratio of wall seconds: what the project aims at
LEAST_SECONDS = 0.05  # a shape's own seconds are at least so many: a ratio to nothing says nothing


@dataclass(frozen=True)
class Sample:
    """One run."""

    wall_seconds: float
    cpu_seconds: float  # of all its processes
    peak_pss_nbytes: int
    seconds: Mapping[str, float]  # by stage, as the run says


Samples = Mapping[str, Mapping[str, list[Sample]]]  # shape -> "ours" and "by hand" -> runs


@click.command(help=__doc__)
@click.option("--shapes", default=",".join(SHAPES), show_default=True, help="Some of them.")
@click.option("--repeat", type=click.IntRange(1), default=3, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=cores, help="Of each way; default: the cores.")
@click.option("--workers", type=click.IntRange(1), default=None, help="Default: as `pipeline train` chooses.")
@click.option("--toy", is_flag=True, help="Small data, for a test.")
@click.option("--cache", type=click.Path(path_type=Path), help="Folder to keep the data in; default: a temporary one.")
@click.option("--name", default="small_jobs", show_default=True, help="Of the record; an empty one: none is written.")
def command(
    shapes: str, repeat: int, threads: int, workers: int | None, toy: bool, cache: Path | None, name: str
) -> int:
    chosen = chosen_shapes(shapes)
    circumstances = record.circumstances()
    samples: dict[str, dict[str, list[Sample]]] = {}
    with tempfile.TemporaryDirectory(prefix="small-jobs-") as temporary:
        for shape in (EMPTY, *chosen):
            folder = write_shape(shape, cache or Path(temporary), toy)
            samples[shape.name] = compare(shape, folder, repeat, threads, workers)
            if shape is not EMPTY:
                print(line(shape, summary(shape.name, samples)), flush=True)
    if name:
        settings = {"shapes": shapes, "repeat": repeat, "threads": threads, "workers": workers, "toy": toy}
        found = {shape.name: {"title": shape.title, **summary(shape.name, samples)} for shape in chosen}
        runs = {
            shape: {way: [asdict(one) for one in every] for way, every in of.items()} for shape, of in samples.items()
        }
        full = {"settings": settings, "results": found, "samples": runs}
        record.write(name, {"benchmark": "small_jobs", **circumstances, **full})
    return 0


def compare(shape: Shape, folder: Path, repeat: int, threads: int, workers: int | None) -> dict[str, list[Sample]]:
    """Both ways in turn."""
    ways = {"ours": our_command, "by hand": script}
    samples: dict[str, list[Sample]] = {way: [] for way in ways}
    for number in range(repeat):
        for way in list(ways) if number % 2 else list(ways)[::-1]:
            samples[way].append(attempt(ways[way], shape, folder, threads, workers))
    return samples


def chosen_shapes(names: str) -> list[Shape]:
    """The shapes of these names, without those whose data are absent."""
    unknown = [name for name in names.split(",") if name not in SHAPES]
    if unknown:
        raise click.UsageError(f"--shapes {unknown[0]}: expected some of {', '.join(SHAPES)}")
    chosen = []
    for shape in (SHAPES[name] for name in names.split(",")):
        if shape.needs and not (data_folder() / shape.needs).exists():
            print(f"{shape.name}: left out, for want of {data_folder() / shape.needs}", file=sys.stderr)
        else:
            chosen.append(shape)
    return chosen


def our_command(shape: Shape, folder: Path, out: Path, threads: int, workers: int | None) -> Sequence[str]:
    """The installed command, without a report, held-out rows and early stopping, as in the script."""
    params = {"max_depth": shape.depth, "learning_rate": 0.1, "colsample_bynode": 1}
    settings = ["training.early_stopping=0", *(f"training.params.{name}={value}" for name, value in params.items())]
    each = max(1, threads // (workers or min(len(numa_nodes()), cores())))  # without --workers: one per NUMA node
    layout = ["--threads", str(each), *([] if workers is None else ["--workers", str(workers)])]
    options = ["--target", TARGET, "--validation", "0", "--rounds", str(shape.rounds), "--no-report"]
    given = [word for setting in settings for word in ("--set", setting)]
    start = [sys.executable, "-m", "pipeline", "train", str(folder)]
    return [*start, *options, *given, *layout, "--json", "--quiet", "--out", str(out / "model")]


def script(shape: Shape, folder: Path, out: Path, threads: int, workers: int | None) -> Sequence[str]:
    options = {
        "train": folder,
        "target": TARGET,
        "out": out,
        "rounds": shape.rounds,
        "depth": shape.depth,
        "threads": threads,
    }
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    words += ["--categories"] if shape.categories else []
    return [sys.executable, "-m", "benchmarks.competitors.small_job", *words]


def attempt(way: Any, shape: Shape, folder: Path, threads: int, workers: int | None) -> Sample:
    """One run in a process of its own; RuntimeError if it fails."""
    kept = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    with tempfile.TemporaryDirectory(prefix="small-job-") as out:
        words = way(shape, folder, Path(out), threads, workers)
        cost = measure(words, cwd=ROOT, env={**kept, "PYTHONWARNINGS": "ignore"})
    if cost.exit_code:
        last = (cost.stderr.strip() or "no message").splitlines()[-1]
        raise RuntimeError(f"{shape.name}: exit code {cost.exit_code}: {last}")
    said = json.loads(cost.stdout.strip().splitlines()[-1])
    return Sample(cost.wall_seconds, cost.cpu_seconds, cost.peak_pss_nbytes, said["seconds"])


def summary(shape: str, samples: Samples) -> dict[str, Any]:
    """Medians by way, of wall and CPU seconds with and without the start-up, and the ratios of ours to those by hand."""

    def median(of: str, way: str, what: str) -> float:
        return statistics.median(getattr(one, what) for one in samples[of][way])

    found: dict[str, Any] = {}
    for kind in ("wall", "cpu"):
        what, own = f"{kind}_seconds", {}
        for way in ("ours", "by hand"):
            start = median(EMPTY.name, way, what)
            own[way] = max(LEAST_SECONDS, median(shape, way, what) - start)
            found[f"{way}, {kind}"] = {
                "seconds": round(median(shape, way, what), 2),
                "start_up_seconds": round(start, 2),
                "own_seconds": round(own[way], 2),
            }
        found[f"{kind}_ratio"] = round(own["ours"] / own["by hand"], 3)
    for way in ("ours", "by hand"):
        found[f"{way}, peak_pss_nbytes"] = round(median(shape, way, "peak_pss_nbytes"))
    return found


def line(shape: Shape, found: Mapping[str, Any]) -> str:
    texts = []
    for kind in ("wall", "cpu"):
        ours, hand = (found[f"{way}, {kind}"]["own_seconds"] for way in ("ours", "by hand"))
        texts.append(f"{kind} {ours:7.2f} / {hand:7.2f} s = {found[f'{kind}_ratio']:.2f}")
    peaks = [found[f"{way}, peak_pss_nbytes"] / 1e9 for way in ("ours", "by hand")]
    over = "" if found["wall_ratio"] <= LIMIT else f"  above {LIMIT}"
    return f"{shape.name:6s} {'  '.join(texts)}  peak {peaks[0]:.2f} / {peaks[1]:.2f} GB  {shape.title}{over}"


if __name__ == "__main__":
    sys.exit(run(command, sys.argv[1:], "python -m benchmarks.small_jobs"))
