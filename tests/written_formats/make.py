"""Writes a file of each format with the current program, for a later version to read.

    python -m tests.written_formats.make FOLDER

FOLDER is made.  Its name is in the events and in no other file.  Files that are committed are never rewritten: they
represent the files of users.
"""

import dataclasses
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import pipeline
from pipeline.cluster.connect import connect
from pipeline.config.job import Cluster, Job
from pipeline.events import types
from pipeline.events.recording import line_of, recorded
from pipeline.scaling.synthetic import Synthetic
from tests.interrupted import train_interrupted

ROWS, ROUNDS, RUN = 400, 4, "3f2a9c0d1e5b"
COLUMNS = {  # an encoding of each kind
    "amount": {"impute": "mean", "indicator": True, "clip": [-100.0, 100.0], "log1p": True, "standardise": True},
    "level": {"encoding": "codes"},
    "town": {"encoding": "target"},
    "shop": {"encoding": "frequency"},
    "street": {"encoding": "hash"},
    "hour": {"parts": ["weekday", "hour", "epoch"]},
}

_VALUES: tuple[types.Event, ...] = (
    types.Started(verb="train", run=RUN),
    types.JobResolved(settings={"data.source": "rows.parquet", "training.rounds": "4"}),
    types.Planned(rows=400, features=10, fragments=2, workers=2, threads=1, nbytes=500_000_000, note="a note"),
    types.Planned(rows=None, features=10, fragments=2, workers=2, threads=1, nbytes=500_000_000),
    types.FragmentDone(stage="statistics", done=1, total=2, rows=200),
    types.StatisticsDone(rows=400, seconds=0.5),
    types.Skipped(fragment=1, reason="rows.csv, bytes 10 to 90: 5 fields expected, 3 found"),
    types.BlocksDone(rows=400, nbytes=4_000, seconds=0.25),
    types.MatrixDone(nbytes=8_000, seconds=0.125),
    types.Placed(
        workers=(
            types.Place(
                worker="0", rows=300, share=0.75, capability=0.75, threads=1, memory_limit_nbytes=10**9,
                planned_nbytes=250_000_000,
            ),
            types.Place(
                worker="1", rows=100, share=0.25, capability=0.25, threads=1, memory_limit_nbytes=0,
                planned_nbytes=200_000_000,
            ),
        ),
        device="cuda",
    ),
    types.RoundDone(
        round=1, rounds=4, metrics={"train.logloss": 0.5, "validation.logloss": 0.625}, best_round=1, best=0.625,
        rows_per_second=1_000.0,
    ),
    types.RoundDone(round=2, rounds=4, metrics={}, best_round=2, rows_per_second=0.0),
    types.WorkerRounds(
        worker="0", first=1, round=2, seconds=0.5, cpu_seconds=0.25, runqueue_seconds=0.125, bytes_sent=172_032,
        memory_nbytes=200_000_000, gpu_memory_nbytes=10**9, gpu_utilisation=0.75,
    ),
    types.WorkerRounds(
        worker="1", first=1, round=2, seconds=0.5, cpu_seconds=0.25, runqueue_seconds=0.125, bytes_sent=None,
        memory_nbytes=200_000_000,
    ),
    types.Checkpoint(round=2, path="model", seconds=0.03125),
    types.WorkerLost(worker="1", stage="rounds", round=2, reason="killed by signal 9"),
    types.Waiting(workers=1, expected=2, seconds=30.0),
    types.WorkerJoined(worker="1"),
    types.Restarted(round=2, workers=2),
    types.Evaluated(metrics={"validation.logloss": 0.5, "validation.auc": 0.75}, seconds=0.5),
    types.Saved(path="model", sha256="0" * 64),
    types.Failed(message="the scheduler was lost"),
    types.Note(message="a note: é, ü and 日本"),
)  # fmt: skip
# What november_2026/every_event.jsonl holds: a later kind of event goes into a file of its own.
EVERY_EVENT = tuple(dataclasses.replace(event, time=1_790_000_000.5 + number) for number, event in enumerate(_VALUES))


def make_table() -> pa.Table:
    """Rows by integer arithmetic, of a column for each encoding."""
    rng = np.random.default_rng(11)
    amount, level, town, shop, street, hour, noise, gap = (
        rng.integers(low, high, ROWS)
        for low, high in ((-500, 500), (0, 4), (0, 20), (0, 30), (0, 40), (0, 900), (-200, 200), (0, 8))
    )
    signal = amount + 100 * (level == 2) + 20 * (town % 7) + noise
    return pa.table(
        {
            "id": np.arange(ROWS),
            "amount": pa.array(amount / 4, mask=gap == 0),
            "level": np.array(["north", "east", "south", "west"])[level],
            "town": np.char.add("town ", town.astype(str)),
            "shop": np.char.add("shop ", shop.astype(str)),
            "street": np.char.add("street ", street.astype(str)),
            "hour": np.datetime64("2024-01-01", "s") + (hour * 3600).astype("timedelta64[s]"),
            "weight": 1 + hour % 4 / 4,
            "late": np.where(signal > 50, "yes", "no"),
        }
    )


def job_of(source: str, model: str, *settings: str) -> Job:
    table = {
        "data": {
            "source": source, "target": "late", "weight": "weight", "id": ["id"], "validation": {"share": 0.25},
            "derive": {"double": "amount * 2"},
        },
        "preprocess": {"columns": COLUMNS, "hash_bins": 16},
        "training": {"rounds": ROUNDS, "row_sample": 0.75, "seed": 5, "params": {"max_depth": 3, "eta": 0.5}},
        "output": {"model": model, "report": False},
        "cluster": {"workers": 1},
    }  # fmt: skip
    return Job.parse(table, settings=settings)


def main(folder: Path) -> None:
    folder.mkdir(parents=True)
    os.chdir(folder)  # every path in the files is relative
    os.environ["XDG_CACHE_HOME"] = "cache"
    pq.write_table(make_table(), "rows.parquet")
    with connect(Cluster(device="cpu", workers=2, threads=1)) as client:
        train_interrupted(client, job_of("rows.parquet", "interrupted"))
        with recorded(Path("events.jsonl"), lambda event: None) as listen:
            job = job_of("rows.parquet", "model", "training.checkpoint_rounds=2")
            pipeline.train(client, job, listen=listen)
        plan = pipeline.ScalePlan(workers=(1, 2), repeat=2, rounds=3)
        section = Cluster(device="cpu", workers=2, threads=1)
        pipeline.scale(
            client, Synthetic(rows=4_000, features=8, depth=4), plan, pipeline.ScaleWish(out="scaling"), cluster=section
        )
    Path("every_event.jsonl").write_bytes(b"".join(line_of(RUN, event) for event in EVERY_EVENT))
    (checkpoint,) = Path("interrupted.checkpoints").glob("*.checkpoint")
    (calibration,) = Path("cache").rglob("calibrations/*.json")
    checkpoint.rename(checkpoint.name)
    calibration.rename("calibration.json")
    Path("scaling/result.json").rename("scaling.json")
    for left in ("interrupted.checkpoints", "cache", "scaling"):
        shutil.rmtree(left)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
