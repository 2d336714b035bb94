"""A calibrated machine and scaling results as they might be, made by arithmetic."""

import dataclasses

from pipeline.efficiency.cost import Workload, predict
from pipeline.efficiency.definitions import figures
from pipeline.efficiency.machine import Coefficients, Fill, Machine, Ring
from pipeline.efficiency.records import (
    Configuration,
    Mode,
    Point,
    Result,
    ScalingSample,
    Single,
    TimeSplit,
    WorkerSample,
)

MACHINE = Machine(
    fingerprint="0" * 16,
    made="2026-11-21T00:00:00+00:00",
    device="cpu",
    threads=1,
    coefficients=Coefficients(
        row_feature=1e-9, row_split=4e-9, row=1e-9, bin_node=5e-9, bin_node_filled=5e-9, tree=1e-4
    ),
    capabilities=(5e8, 5e8),
    collectives={2: ((16, 1.2e-4), (32_768, 1.5e-4), (1 << 20, 1e-3), (1 << 25, 3e-2))},
    ring=Ring(alpha=4e-5, beta=6e-10),
    fill=Fill(),
    dask_task_seconds=3e-4,
    dask_bytes_per_second=5e8,
    spread=0.04,
    seconds=9.0,
)


def configuration(
    workers: int, rows: int = 200_000, shares: tuple[float, ...] = (), mode: Mode = "strong", depth: int = 6
) -> Configuration:
    parts = shares or (1 / workers,) * workers
    return Configuration(
        mode=mode, workers=workers, threads=1, rows=tuple(round(part * rows) for part in parts), features=32,
        bins=32 * 254, depth=depth, growth="depthwise", max_leaves=0, trees_per_round=1, column_share=1.0,
        row_share=1.0, objective="binary:logistic", rounds=10, warmup=2, device="cpu", oversubscribed=False,
    )  # fmt: skip


def workload(where: Configuration) -> Workload:
    return Workload(rows=where.rows, features=where.features, bins=where.bins, depth=where.depth)


def point(where: Configuration, slower: float = 1.0, other: float = 0.0, repetitions: int = 5) -> Point:
    """Predicted by the model, and measured as that, so many times slower, with so many seconds lost otherwise."""
    predicted = dataclasses.replace(predict(MACHINE, workload(where)), time="2026-11-21T00:00:00+00:00")
    samples = []
    for number in range(repetitions):
        scale = slower * (1 + 0.01 * number)
        splits = [
            TimeSplit(scale * s.useful, scale * s.transfer, scale * s.wait, scale * s.other + other)
            for s in predicted.splits
        ]
        seconds = scale * predicted.seconds + other
        workers = tuple(
            WorkerSample(rank, str(rank), seconds, split, 0.012, 1_000, 1_000, 0.002, "thread-cpu", ())
            for rank, split in enumerate(splits)
        )
        useful, transfer = [s.useful for s in splits], [s.transfer for s in splits]
        said = figures(seconds, useful, transfer, (1.0,) * where.workers)
        samples.append(
            ScalingSample(number, "2026-11-21T00:00:01+00:00", seconds, workers, said, (seconds,) * where.rounds)
        )
    return Point(where, predicted, tuple(samples))


def result(*points: Point, single_seconds: float | None = 0.02) -> Result:
    made = points or tuple(point(configuration(workers)) for workers in (1, 2))
    singles = () if single_seconds is None else (Single("strong", 200_000, 2, (single_seconds,) * 5),)
    return Result(
        name="rows <of> an example", arguments={}, calibration=MACHINE.to_dict(), singles=singles, points=made,
        circumstances={"machine": {"processor": "x", "cores": 2}, "versions": {"python": "3.13"}, "commit": "abc"},
        notes=("a <note>",),
    )  # fmt: skip
