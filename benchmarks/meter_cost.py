"""Measures the cost of the meter, and how well its parts add up: two pinned workers, trainings of several shapes.

    python -m benchmarks.meter_cost

Prints for each shape the seconds of a round, the CPU time of the meter in it by its own clock (the target is under 0.5
% of rounds of 20 ms and more), and the closure error |u + x + w + o - T| / T of the worker with the largest error
(under 3 % on an idle machine), with every collective replayed as benchmarks do, and with the replay of a normal
training.
"""

import statistics
import sys
from dataclasses import replace
from typing import Any

import click

from benchmarks import record
from pipeline.cli.terminal import run
from pipeline.config.job import Cluster
from pipeline.efficiency.records import WorkerSample
from pipeline.efficiency.split import worker_samples
from pipeline.run.connect import connect
from pipeline.runtime.placement import placement
from pipeline.scaling.synthetic import Synthetic
from pipeline.scaling.workloads import ScalingLayout, SyntheticWorkload
from pipeline.training.xgboost.dispatch import run_training

WORKERS, WARMUP = 2, 4
SHAPES: tuple[tuple[Synthetic, tuple[float, ...]], ...] = (
    (Synthetic(20_000, 128, 4), ()),
    (Synthetic(40_000, 32, 6), ()),
    (Synthetic(120_000, 16, 8), ()),
    (Synthetic(150_000, 32, 6), ()),
    (Synthetic(200_000, 64, 6), ()),
    (Synthetic(400_000, 32, 6), (0.3, 0.7)),
)


@click.command(help=__doc__)
@click.option("--repeat", type=click.IntRange(1), default=5, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=60, show_default=True, help="Timed, of each repetition.")
@click.option("--name", default="meter_cost", show_default=True, help="Of the record; an empty one: none is written.")
def command(repeat: int, rounds: int, name: str) -> None:
    circumstances = record.circumstances()
    shapes = []
    cluster = Cluster(device="cpu", workers=WORKERS, threads=1, dashboard=False)
    with connect(cluster) as client:
        where = placement(client, cluster)
        for data, shares in SHAPES:
            layout = SyntheticWorkload(client, data).layout(where, data.rows, shares)
            samples = [_sample(client, layout, rounds, full) for _ in range(repeat) for full in (True, False)]
            shapes.append({"shape": str(data), "shares": shares, "samples": samples} | _medians(samples))
            _say(shapes[-1])
            del layout
    if name:
        record.write(name, {"circumstances": circumstances, "rounds": rounds, "shapes": shapes})


def _sample(client: Any, layout: ScalingLayout, rounds: int, full: bool) -> dict[str, Any]:
    """Trains once; returns the time of the worker with the longest rounds, and the worst shares and errors of all."""
    spec = replace(layout.spec, rounds=rounds + WARMUP, metrics=(), full_meter=full)
    meters = run_training(client, layout.partitions.futures, layout.partitions.workers, spec).meters
    workers: tuple[WorkerSample, ...] = worker_samples(meters, [str(meter.rank) for meter in meters], first=WARMUP)
    return {
        "replays": "all" if full else "few",
        "round_seconds": max(worker.seconds for worker in workers),
        "meter_seconds": max(worker.meter_share * worker.seconds for worker in workers),
        "meter_share": max(worker.meter_share for worker in workers),
        "replay_share": max(meter.replay_seconds / float(meter.wall.sum()) for meter in meters),
        "closure": max(worker.closure for worker in workers if worker.closure is not None),
        "bytes_exact": all(worker.bytes_sent == worker.bytes_expected for worker in workers) if full else None,
    }


def _medians(samples: list[dict[str, Any]]) -> dict[str, float]:
    def median(name: str, replays: str | None = None) -> float:
        return statistics.median(sample[name] for sample in samples if replays in (None, sample["replays"]))

    return {
        "round_seconds": median("round_seconds"),
        "meter_share": median("meter_share"),
        "closure": median("closure", "all"),
        "closure_of_few_replays": median("closure", "few"),
        "replay_share_of_few": median("replay_share", "few"),
    }


def _say(shape: dict[str, Any]) -> None:
    print(
        f"{shape['shape']} {shape['shares'] or ''}: round {shape['round_seconds'] * 1e3:.1f} ms, "
        f"meter {shape['meter_share']:.2%}, closure {shape['closure']:.1%} "
        f"({shape['closure_of_few_replays']:.1%} with few replays, {shape['replay_share_of_few']:.2%} of the time)"
    )


if __name__ == "__main__":
    sys.exit(run(command, sys.argv[1:], "python -m benchmarks.meter_cost"))
