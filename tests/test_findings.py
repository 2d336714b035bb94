"""Findings of a whole run: emitted once, in the summary, metrics.json and the report, an error where the job is strict."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import pipeline
from pipeline.config.job import Job
from pipeline.errors import DataError
from pipeline.events import types as events

ROWS = 2_000
RNG = np.random.default_rng(0)
X = RNG.normal(size=ROWS)


def table() -> pa.Table:
    """Sorted by the target, with a row number and a copy of the target."""
    y = np.sort(X + RNG.normal(size=ROWS))
    return pa.table({"row": np.arange(ROWS), "copy": 2 * y, "x": X, "y": y})


def job_of(out: Path, *settings: str) -> Job:
    jobs = {"data": {"source": [], "target": "y"}, "training": {"rounds": 3}, "output": {"model": str(out)}}
    return Job.parse(jobs, settings=settings)


def test_findings_reach_summary_metrics_and_report(client: Any, tmp_path: Path) -> None:
    heard: list[events.Event] = []
    result = pipeline.train(client, job_of(tmp_path / "model"), source=table(), listen=heard.append)
    found = [note for note in result.summary["notes"] if isinstance(note, dict)]
    assert [(note["kind"], note["column"]) for note in found] == [("row_number", "row"), ("explains_target", "copy")]
    assert json.loads((tmp_path / "model" / "metrics.json").read_text())["notes"] == result.summary["notes"]
    report = (tmp_path / "model" / "report.html").read_text()
    emitted = [event.message for event in heard if isinstance(event, events.Note)]
    for note in found:
        assert emitted.count(note["message"]) == 1
        assert note["message"].split("'")[-1].split('"')[0][:20] in report
    assert [column.name for column in result.model.manifest.needed] == ["copy", "x"]
    assert len(result.model.predict(table().select(["x", "copy"]))) == ROWS  # the row number is not needed


def test_strict_refuses_them(client: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'row' is left out.*'copy' alone explains.*an error by data\.strict"):
        pipeline.train(client, job_of(tmp_path / "model", "data.strict=true"), source=table())
    assert not (tmp_path / "model").exists()
    settings = ('preprocess.columns.row.kind="number"', "data.exclude=['copy']", "data.strict=true")
    result = pipeline.train(client, job_of(tmp_path / "model", *settings), source=table())
    assert "row" in [column.name for column in result.model.manifest.needed]
