"""A checkpoint written by the version of November 2026, before any field was added to the job since: it is resumed.

`tests/written_formats/old_checkpoint/` holds its four rounds and the rows it was trained on.  Never write it again: it represents the files of users.
"""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

import pipeline
from pipeline.config import parameters
from pipeline.config.job import Job
from pipeline.errors import JobError
from pipeline.training import later_fields
from pipeline.training.checkpoint import CheckpointStore, decode, lifted
from pipeline.training.identity import Identity
from pipeline.training.state import State
from pipeline.training.xgboost.trainer import XGBoostTrainer

HERE = Path(__file__).parent.parent / "written_formats" / "old_checkpoint"
ROUND = 4
TRAINER = XGBoostTrainer()


def job_of(out: Path, *settings: str) -> Job:
    """The job of then, with more rounds."""
    table = {
        "data": {"source": str(HERE / "rows.parquet"), "target": "y", "validation": {"share": 0.25}},
        "training": {"rounds": 8, "row_sample": 0.7, "params": {"max_depth": 3, "eta": 0.5, "colsample_bynode": 1}},
        "output": {"model": str(out), "report": False},
    }
    return Job.parse(table, settings=settings)


def content() -> tuple[State, Identity]:
    """What the file holds; as of the installed XGBoost, whose version decides too."""
    state, identity = decode((HERE / f"round-{ROUND:06}.checkpoint").read_bytes())
    return state, dataclasses.replace(identity, versions=TRAINER.versions())


def decisive(*settings: str) -> Identity:
    """The identity of today's job, as far as the job decides it."""
    _, then = content()
    today = Identity.of(job_of(Path("out"), *settings), then.data, then.device, TRAINER)
    return dataclasses.replace(today, files=then.files)


def test_an_old_checkpoint_is_resumed(client: Any, tmp_path: Path) -> None:
    state, identity = content()
    model = tmp_path / "model"
    CheckpointStore(model).write(state, identity)
    resumed = pipeline.train(client, job_of(model), resume=model)
    whole = pipeline.train(client, job_of(tmp_path / "whole"))
    assert resumed.model.booster_bytes == whole.model.booster_bytes
    assert resumed.summary["rounds"] == 8
    assert not CheckpointStore(model).folder.exists()


def test_every_later_field_says_what_its_absence_means() -> None:
    _, then = content()
    assert then.differences(decisive()) == []
    later = [path for path in decisive().job if path not in then.job]
    unknown = object()
    without = [
        path
        for path in later
        if later_fields.field_value({}, path, {**later_fields.FIELDS_SINCE, "*": unknown}) is unknown
    ]
    assert without == [], "fields of the job that pipeline/training/later_fields.py does not name"


def test_a_changed_default_never_continues_an_old_run(monkeypatch: pytest.MonkeyPatch) -> None:
    _, then = content()
    now = decisive()
    now = dataclasses.replace(now, job={**now.job, "data.added": "new way"})
    monkeypatch.setitem(later_fields.FIELDS_SINCE, "data.added", "old way")
    assert then.differences(now) == ['data.added was "old way", now "new way"']
    monkeypatch.setitem(later_fields.FIELDS_SINCE, "data.added", "new way")
    assert then.differences(now) == []


def test_a_later_field_that_differs_is_refused(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, identity = content()
    fields = dict(identity.job)
    fields.pop("training.max_bin")  # as if it had come later
    monkeypatch.setitem(later_fields.FIELDS_SINCE, "training.max_bin", 254)
    CheckpointStore(tmp_path / "model").write(state, dataclasses.replace(identity, job=fields))
    with pytest.raises(JobError, match=r"training\.max_bin was 254, now 255"):
        pipeline.train(client, job_of(tmp_path / "model"), resume=tmp_path / "model")
    shutil.rmtree(tmp_path / "model.checkpoints")


def test_a_parameter_whose_default_has_changed_is_refused(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old run is never continued at another rate: the checkpoint holds the parameters that its job named, no others."""
    state, identity = content()
    assert "training.params.min_child_weight" not in identity.job
    CheckpointStore(tmp_path / "model").write(state, identity)
    monkeypatch.setitem(parameters.PARAMETERS, "min_child_weight", parameters.Parameter(2))
    with pytest.raises(JobError, match=r"training\.params\.min_child_weight was 1, now 2"):
        pipeline.train(client, job_of(tmp_path / "model"), resume=tmp_path / "model")
    then = "training.params.min_child_weight=1"
    assert pipeline.train(client, job_of(tmp_path / "model", then), resume=tmp_path / "model").summary["rounds"] == 8


def test_a_parameter_of_an_old_checkpoint_under_its_other_name() -> None:
    _, identity = content()
    named = {f"{later_fields.PARAMS}.learning_rate": 0.5, f"{later_fields.PARAMS}.max_depth": 3}
    job = {path: value for path, value in identity.job.items() if not path.startswith(later_fields.PARAMS)}
    said = {**dataclasses.asdict(identity), "job": {**job, **named}, "xgboost": "3"}
    header, _ = lifted({"identity": said, "state": {}}, b"trees")
    assert header["identity"]["job"] == identity.job


def test_a_field_of_every_column() -> None:
    fields = {"preprocess.columns.*.rounded": False}
    assert later_fields.field_value({}, "preprocess.columns.a.b.rounded", fields) is False
    assert later_fields.field_value({}, "preprocess.columns.a.b.kind", fields) is None
