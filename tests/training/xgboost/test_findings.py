"""Findings about a training, and metrics that the rows do not define."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline.config.job import Job, Training
from pipeline.data.schema.target import Target
from pipeline.errors import DataError, JobError, StrictError
from pipeline.preprocess.statistics.collect import LabelStatistics
from pipeline.preprocess.statistics.moments import Moments
from pipeline.training.state import State
from pipeline.training.xgboost.findings import undefined_metric
from pipeline.training.xgboost.spec import RoundsSpec
from pipeline.training.xgboost.trainer import _continued

ROWS = 800
RNG = np.random.default_rng(0)
X = RNG.normal(size=ROWS)
FLAG = Target("y", "binary", "binary:logistic", (0, 1))
GRADE = Target("y", "ranking", "rank:ndcg")


def job_of(out: Path, *settings: str) -> Job:
    table = {
        "data": {"source": [], "target": "y"},
        "training": {"rounds": 6, "params": {"max_depth": 3}},
        "output": {"model": str(out), "report": False},
    }
    return Job.parse(table, settings=settings)


def kinds(result: pipeline.TrainResult) -> list[str]:
    return [note["kind"] for note in result.summary["notes"] if isinstance(note, dict)]


@pytest.mark.parametrize(
    ("target", "metrics", "labels", "found"),
    [
        (FLAG, ("logloss", "auc"), LabelStatistics(Moments(9), class_weights=(9.0, 0.0)), True),
        (FLAG, ("aucpr",), LabelStatistics(Moments(9), class_weights=(0.0, 9.0)), True),
        (FLAG, ("auc", "logloss"), LabelStatistics(Moments(9), class_weights=(9.0, 0.0)), False),
        (FLAG, ("auc",), LabelStatistics(Moments(9), class_weights=(8.0, 1.0)), False),
        (FLAG, ("auc",), LabelStatistics(class_weights=(0.0, 0.0)), False),  # no validation rows
        (FLAG, (), LabelStatistics(Moments(9), class_weights=(9.0, 0.0)), False),
        (GRADE, ("ndcg@5",), LabelStatistics(Moments(9), low=2, high=2), True),
        (GRADE, ("ndcg@5",), LabelStatistics(Moments(9), low=0, high=2), False),
    ],
)
def test_metrics_that_the_validation_rows_do_not_define(target: Any, metrics: Any, labels: Any, found: bool) -> None:
    assert (undefined_metric(metrics, target, labels) is not None) == found


def test_auc_of_one_class_in_validation_stops_nothing(client: Any, tmp_path: Path) -> None:
    y = (X > 0).astype(int)
    where = np.where(y == 1, RNG.integers(0, 2, ROWS), 0)  # all that validate are of one class
    table = pa.table({"x": X + RNG.normal(size=ROWS), "part": where, "y": y})
    settings = (
        "data.validation.column=part", "data.validation.values=[1]", "data.exclude=['part']", "training.metrics=['auc']",
        "training.early_stopping=1",
    )  # fmt: skip
    result = pipeline.train(client, job_of(tmp_path / "model", *settings), source=table)
    assert kinds(result) == ["undefined_metric"]
    assert result.summary["best_round"] == result.summary["rounds"] == 6
    with pytest.raises(DataError, match=r"early stopping is off: the validation rows are all of one class"):
        pipeline.train(client, job_of(tmp_path / "strict", *settings, "data.strict=true"), source=table)


def test_no_tree_with_a_split_is_a_finding_with_the_hint_to_scale(client: Any, tmp_path: Path) -> None:
    table = pa.table({"x": X, "y": (X + RNG.normal(size=ROWS)) * 1e-6})
    result = pipeline.train(client, job_of(tmp_path / "model"), source=table)
    (finding,) = [note for note in result.summary["notes"] if isinstance(note, dict)]
    assert finding["kind"] == "no_split"
    assert "multiply it under data.derive" in finding["message"]
    table = table.set_column(1, "y", pa.array((X + RNG.normal(size=ROWS)) * 6e-5))
    assert kinds(pipeline.train(client, job_of(tmp_path / "other"), source=table)) == ["small_target"]


def test_a_target_too_large_for_its_squares_or_too_far_from_zero_is_a_finding(client: Any, tmp_path: Path) -> None:
    """R2 of 1e18 times as much was half of what it is, that of 1e7 more a tenth less."""
    y = 3 * (X + RNG.normal(size=ROWS) / 10)
    cases = {
        "plain": (y, []),
        "1e6 more": (y + 1e6, []),
        "1e7 more": (y + 1e7, ["coarse_target"]),
        "1e14": (y * 1e14, []),
        "1e18": (y * 1e18, ["large_target"]),
        "1e20": (y * 1e20, ["large_target", "no_split"]),
    }
    for name, (values, found) in cases.items():
        table = pa.table({"x": X, "y": values})
        result = pipeline.train(client, job_of(tmp_path / name, "output.report=false"), source=table)
        assert kinds(result) == found, name
        messages = [note["message"] for note in result.summary["notes"] if isinstance(note, dict)]
        cure = "subtract a number" if "coarse_target" in found else "divide it under data.derive"
        assert all(cure in message for message in messages), name


def test_a_strict_run_that_ends_in_a_finding_keeps_its_rounds(client: Any, tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    pq.write_table(pa.table({"x": X, "y": (X + RNG.normal(size=ROWS)) * 1e-6}), path)
    source, out = f"data.source={path}", tmp_path / "model"
    kept = r"no tree has a split.*\(an error by data\.strict\); the checkpoint of round 6 is kept: resume with data\.strict"
    for resume in (None, out):
        with pytest.raises(StrictError, match=kept):
            pipeline.train(client, job_of(out, source, "data.strict=true"), resume=resume)
        assert not out.exists()
    events: list[object] = []
    result = pipeline.train(client, job_of(out, source), resume=out, listen=events.append)
    assert kinds(result) == ["no_split"]
    assert result.summary["rounds"] == 6
    assert "RoundDone" not in [type(event).__name__ for event in events]
    whole = pipeline.train(client, job_of(tmp_path / "whole", source))
    assert result.model.booster_bytes == whole.model.booster_bytes


@pytest.mark.parametrize("grades", [[0, 1, 50], [0.0, 0.5, 1.0]], ids=["above 31", "fractions"])
def test_pairwise_trains_on_any_grades(grades: list[float], client: Any, tmp_path: Path) -> None:
    y = np.array(grades)[np.digitize(X + RNG.normal(size=ROWS) * 0.5, [-0.5, 0.5])]
    table = pa.table({"x": X, "q": np.arange(ROWS) // 20, "y": y})
    of = ("data.group=q", "data.validation.share=0.3")
    result = pipeline.train(client, job_of(tmp_path / "m", *of, "training.objective=rank:pairwise"), source=table)
    assert result.summary["metrics"]["validation"]["ndcg"] > 0.8


def test_labels_of_a_validation_source_are_checked_like_those_of_the_training_source(
    client: Any, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"x": X, "y": np.exp(X)}), tmp_path / "train.parquet")
    pq.write_table(pa.table({"x": X, "y": X}), tmp_path / "validation.parquet")
    settings = (
        f"data.source={tmp_path}/train.parquet", f"data.validation.source={tmp_path}/validation.parquet",
        "training.objective=reg:gamma",
    )  # fmt: skip
    with pytest.raises(DataError, match="the target y of the validation source holds values <= 0"):
        pipeline.train(client, job_of(tmp_path / "m", *settings))


def test_bad_values_of_parameters_end_before_the_data_are_read(client: Any, tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": X, "y": X}), tmp_path / "train.parquet")
    events: list[object] = []
    job = job_of(tmp_path / "m", f"data.source={tmp_path}/train.parquet", "training.params.max_depth=-3")
    with pytest.raises(JobError, match="max_depth"):
        pipeline.train(client, job, listen=events.append)
    assert [type(event).__name__ for event in events] == ["Started", "Failed"]


def test_a_resumed_run_keeps_the_metrics_it_began_with() -> None:
    """What is the default may differ between versions; the best value so far is of the metric of then."""
    spec = RoundsSpec("run", {}, 9, metrics=("rmse", "tweedie-nloglik@1.5"), early_stopping=3)
    state = State(1, b"x", {"train.rmse": [2.0], "validation.mae": [1.0], "validation.rmse": [2.0]}, [0.1], 1, 2.0)
    assert _continued(spec, Training(), state).metrics == ("mae", "rmse")
    assert _continued(spec, Training(metrics=["rmse"]), state) is spec
    assert _continued(spec, Training(), None) is spec
    only_train = dataclasses.replace(state, history={"train.rmse": [2.0]})
    assert _continued(spec, Training(), only_train).metrics == ("rmse",)
