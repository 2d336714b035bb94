"""The whole walk on real clusters: one model for any layout, of any source, written whole or not at all."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost

import pipeline
from pipeline import events, run
from pipeline.data import fragments
from pipeline.errors import DataError, JobError, PipelineError, UserError
from pipeline.job import Cluster, Job
from pipeline.preprocess import passes
from pipeline.stages import StageClock
from pipeline.training.boost import in_order
from pipeline.training.metrics import evaluate

FILES, ROWS = 8, 400  # of each file
LAYOUTS = ((1, 2), (2, 1), (3, 1))  # workers, threads
SMALL = ("training.rounds=6", "training.params.max_depth=4", "output.report=false", "data.fragment_mib=1")


def table_of(seed: int = 0, rows: int = FILES * ROWS) -> pa.Table:
    """Numbers, texts of few and of many levels, times; a tenth missing; targets of every kind."""
    rng = np.random.default_rng(seed)

    def holes() -> np.ndarray:
        return rng.random(rows) < 0.1

    x, many, few = rng.normal(size=rows), rng.integers(0, 400, rows), rng.integers(0, 5, rows)
    signal = x + np.sin(many) + (few == 3) + rng.normal(size=rows) * 0.5
    day = np.sort(rng.integers(0, 365, rows))
    return pa.table(
        {
            "x": pa.array(x.astype(np.float32), mask=holes()),
            "whole": pa.array(rng.integers(0, 1_000, rows), mask=holes()),
            "few": pa.array(np.array(["a", "b", "c", "d", "e"])[few], mask=holes()),
            "many": pa.array(np.char.add("level ", many.astype(str)), mask=holes()),
            "day": pa.array(np.datetime64("2013-01-01", "s") + (day * 86_400).astype("timedelta64[s]")),
            "month": np.minimum(day // 30 + 1, 12),
            "weight": rng.uniform(0.1, 4, rows),
            "value": signal * 10,
            "flag": pa.array(np.where(signal > 0.5, "yes", "no"), mask=holes()),
            "kind": np.array(["low", "middle", "high"])[np.digitize(signal, [-0.5, 1])],
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight Parquet files, in the order of time."""
    folder, table = tmp_path_factory.mktemp("files"), table_of()
    for number in range(FILES):
        pq.write_table(table.slice(number * ROWS, ROWS), folder / f"{number}.parquet")
    return folder


@pytest.fixture(autouse=True)
def small_fragments(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fragment for each file, however small."""
    monkeypatch.setattr(fragments, "MIN_FRAGMENT_NBYTES", 1)


def job_of(source: object, out: Path, *settings: str) -> Job:
    table = {"data": {"source": str(source)}, "output": {"model": str(out)}}
    return Job.parse(table, settings=[*SMALL, *settings])


@dataclass
class Outcome:
    """A run, what it said, and its predictions in the order of row ids."""

    result: pipeline.TrainResult
    said: list[events.Event]
    train: Any  # Scores
    validation: Any  # Scores or None

    @property
    def booster(self) -> bytes:
        return bytes(self.result.model.booster_bytes)

    @property
    def summary(self) -> dict[str, Any]:
        return self.result.summary


Go = Callable[..., Outcome]


@pytest.fixture
def go(make_cluster: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path) -> Go:
    """`go(settings, layout, source=..., files=...)`: trains into a folder of its own, and keeps the predictions."""
    scores: list[tuple[Any, Any]] = []

    def evaluate_and_keep(walk: Any, prepared: Any, trained: Any) -> Any:
        parts = walk.client.gather(list(trained.scores))
        scores.append((in_order([part[0] for part in parts]), in_order([part[1] for part in parts])))
        return keep(walk, prepared, trained)

    keep = run.evaluate
    monkeypatch.setattr(run, "evaluate", evaluate_and_keep)

    def train(
        *settings: str, layout: tuple[int, int] = (2, 1), files: object = folder, **options: Any
    ) -> Outcome:
        said: list[events.Event] = []
        job = job_of(files, tmp_path / f"model-{len(list(tmp_path.iterdir()))}", *settings)
        result = pipeline.train(make_cluster(*layout), job, listen=said.append, **options)
        return Outcome(result, said, *scores[-1])

    return train


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`place((0, 1), (2,))`: which fragments each worker gets."""

    def choose(*shares: tuple[int, ...]) -> None:
        monkeypatch.setattr(passes, "assign", lambda sizes, capabilities: shares)

    return choose


# One model for any layout


CASES: dict[str, list[str]] = {
    "two classes": [
        "data.target=flag", "data.validation.share=0.25", "data.weight=weight", "data.exclude=['value', 'kind']",
        "training.class_weights=balanced", "training.row_sample=0.7", "data.where=whole < 900 or whole is null",
        "data.derive.half=x / 2", "training.params.colsample_bynode=0.7",
    ],
    "classes": ["data.target=kind", "data.validation.share=0.25", "data.exclude=['value', 'flag']"],
    "squared error": ["data.target=value", "data.exclude=['kind', 'flag']", "data.validation={time='day', share=0.3}"],
    "absolute error": [
        "data.target=value", "data.exclude=['kind', 'flag']", "training.objective=reg:absoluteerror",
        "data.validation={column='month', values=[11, 12]}",
    ],
    "quantiles": [
        "data.target=value", "data.exclude=['kind', 'flag']", "training.objective=reg:quantileerror",
        "training.quantiles=[0.1, 0.5, 0.9]", "data.weight=weight",
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_model_is_the_same_on_any_workers(name: str, go: Go) -> None:
    first, *others = [go(*CASES[name], layout=layout) for layout in LAYOUTS]
    for other in others:
        same_model(first, other)


def same_model(first: Outcome, other: Outcome) -> None:
    """The same bytes, the same rows, the same predictions and metrics."""
    for side in ("train", "validation"):
        mine, theirs = getattr(first, side), getattr(other, side)
        assert (mine is None) == (theirs is None)
        for field in dataclasses.fields(mine or first.train):
            np.testing.assert_array_equal(getattr(mine, field.name, None), getattr(theirs, field.name, None))
    assert other.booster == first.booster
    assert other.summary["rows"] == first.summary["rows"]
    assert other.summary["metrics"] == first.summary["metrics"]
    assert other.result.model.recipe.to_json() == first.result.model.recipe.to_json()


def test_ranking_is_the_same_on_any_workers(go: Go, data: Path) -> None:
    """LIBSVM files with their .query files, as source and to validate on."""
    settings = [f"data.validation.source={data / 'rank' / 'rank.test'}", "data.format=libsvm"]
    first, *others = [go(*settings, files=data / "rank" / "rank.train", layout=layout) for layout in LAYOUTS]
    assert first.summary["objective"] == "rank:ndcg"
    assert first.summary["rows"] == {"train": 3_005, "validation": 768, "dropped": {}}
    assert 0.4 < first.summary["metrics"]["validation"]["ndcg@10"] < 1
    for other in others:
        same_model(first, other)
