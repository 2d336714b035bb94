"""Alarms of real trainings."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from distributed import Client

import pipeline
from pipeline.config.job import Job
from pipeline.errors import AlarmError
from pipeline.training.checkpoint import CheckpointStore


def table(rows: int = 3_000) -> pa.Table:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 4))
    return pa.table({**{f"x{i}": x[:, i] for i in range(4)}, "late": x[:, 0] * x[:, 1] + rng.normal(size=rows) > 0})


def job_of(model: Path, rounds: int, *alarms: dict[str, Any]) -> Job:
    return Job.parse(
        {
            "data": {"source": [], "target": "late", "validation": {"share": 0.2}},
            "training": {"rounds": rounds, "early_stopping": 0, "checkpoint_rounds": 5, "params": {"max_depth": 3}},
            "output": {"model": str(model), "report": False},
            "alarm": list(alarms),
        }
    )


def test_exit_ends_a_training_and_its_checkpoint_stands(client: Client, tmp_path: Path) -> None:
    model = tmp_path / "late"
    with pytest.raises(
        AlarmError, match=r"^stopped by the alarm validation\.logloss < 0\.6 \(now 0\.\d+, round \d+\)$"
    ):
        pipeline.train(
            client, job_of(model, 100_000, {"when": "validation.logloss < 0.6", "do": "exit"}), source=table()
        )
    assert not model.exists()
    reached = CheckpointStore(model).rounds()[0]
    assert 0 < reached < 100_000
    result = pipeline.train(client, job_of(model, reached + 3), source=table(), resume=model)
    assert result.summary["rounds"] == reached + 3


def test_the_messages_of_a_training(client: Client, tmp_path: Path) -> None:
    job = job_of(
        tmp_path / "late",
        30,
        {"when": "validation.logloss < 0.69"},
        {"when": "rows_per_second > 1"},
        {"when": "rows_per_second < 1"},
        {"when": "validation.rmse > 1"},
        {"when": "no_progress for 1h"},
    )
    notes = pipeline.train(client, job, source=table()).summary["notes"]
    said = [note for note in notes if "alarm" in note]
    missing = "the alarm validation.rmse > 1 could not be watched for: this run measures train.logloss, "
    assert sorted(line.split(" (now")[0] for line in said) == [
        "alarm: rows_per_second > 1",
        "alarm: validation.logloss < 0.69",
        f"{missing}validation.auc, validation.logloss alone",
    ]
