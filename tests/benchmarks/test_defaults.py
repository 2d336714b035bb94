"""The benchmark of defaults at toy size: what it trains is what a run trains, and its tables."""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from distributed import Client

import pipeline
from benchmarks.defaults import CANDIDATES, KEY, LIBRARIES, OURS, Libraries, Task, candidates, line, run_contenders
from benchmarks.defaults_report import by_rounds, summarize, text
from benchmarks.local_training import Prepared
from benchmarks.real_sets import SETS, Loaded, halves, load
from benchmarks.resumable import JsonLines
from pipeline.config.job import Job


def toy(kind: str, rows: int = 240) -> Loaded:
    """A column of numbers with missing values, and one of names."""
    draw = np.random.default_rng(0)
    number, name = draw.normal(size=rows), draw.choice(["red", "green", "blue"], rows)
    signal = number + (name == "red") + draw.normal(0, 0.3, rows)
    number[::7] = np.nan
    names = {"binary": ["no", "yes"], "multiclass": ["a", "b", "c"]}.get(kind)
    target = signal if names is None else np.array(names, object)[np.digitize(signal, [0, 1][: len(names) - 1])]
    return Loaded("toy", kind, "target", pd.DataFrame({"number": number, "name": name, "target": target}))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_the_model_is_that_of_a_run(make_cluster: Callable[..., Client], tmp_path: Path, kind: str) -> None:
    rows, prediction = toy(kind).split(0)
    job = Job.parse(
        {
            "data": {"source": ".", "target": "target", "validation": {"share": 0.2}},
            "training": {"rounds": 12},
            "output": {"model": str(tmp_path / "model"), "report": False},
        }
    )
    model = pipeline.train(make_cluster(1, 1), job, source=rows).model
    prepared = Prepared.of(job, rows)
    trained = prepared.train(job.training)
    assert trained.model == model.booster_bytes
    assert (prepared.predict(trained.model, prediction) == model.predict(prediction)).all()


def test_a_candidate_is_that_model_after_so_many_rounds() -> None:
    task = Task.of(toy("binary"), 0)
    (name, found), *_ = candidates(task, list(CANDIDATES)[:1])
    params = {"learning_rate": CANDIDATES[name].learning_rate, **CANDIDATES[name].params}
    prepared = Prepared.of(task.job(), task.train)
    trained = prepared.train(task.job().training.model_copy(update={"params": params, "rounds": 50}))
    assert found["curve"][0]["rounds"] == 50
    assert found["curve"][0]["losses"] == pytest.approx(task.losses(prepared.predict(trained.model, task.test)))


def test_contenders_are_compared(tmp_path: Path) -> None:
    kept = JsonLines(tmp_path / "samples.jsonl", KEY)
    task = Task.of(toy("binary"), 0)
    libraries = Libraries(sys.executable)
    task_names = [OURS, *(name for name in LIBRARIES if name != "catboost" or find_spec("catboost"))]
    for name, found in run_contenders(task, task_names, libraries):
        kept.add({"set": "toy", "seed": 0, "contender": name, **found})
    libraries.close()
    assert JsonLines(kept.path, KEY).has(set="toy", seed=0, contender="lightgbm")
    assert not [one for one in kept.all if "error" in one]
    assert all("toy" in line(one) for one in kept.all)
    found = summarize(kept.all, OURS, ["lightgbm"], to="lightgbm")
    assert (found.sets, found.seeds, len(found.rows)) == (1, 1, 2)
    assert "median gap" in text(found)


def test_ranks_and_gaps() -> None:
    def sample(data: str, contender: str, loss: float) -> dict[str, Any]:
        return {"set": data, "seed": 0, "contender": contender, "losses": {"rmse": loss}, "cpu_seconds": loss}

    samples = [sample("a", "x", 1.0), sample("a", "y", 1.1), sample("b", "x", 3.0), sample("b", "y", 2.0)]
    found = summarize(samples, "x", ["y"], to="y")
    assert found.mean_rank == {"x": 1.5, "y": 1.5}
    assert found.largest == {"b, rmse": pytest.approx(0.5)}
    curve = {
        "set": "a",
        "seed": 0,
        "contender": "z",
        "curve": [{"rounds": 50, "losses": {"rmse": 2.0}, "cpu_seconds": 2.2}],
    }
    (one,) = by_rounds([curve], samples, to="y")
    assert (one["mean_gap"], one["cpu_ratio"]) == (pytest.approx(np.log(2)), pytest.approx(2))


def test_real_sets_of_scikit_learn(tmp_path: Path) -> None:
    loaded = load("digits", tmp_path, most_rows=600)
    train, test = loaded.split(0)
    assert (len(train), len(test)) == (450, 150)
    assert set(train["target"]) == set(test["target"]) == {str(digit) for digit in range(10)}
    again, _ = loaded.split(0)
    assert train.index.equals(again.index)


def test_the_halves_share_no_rows() -> None:
    chosen, reported = halves()
    assert set(chosen) | set(reported) == set(SETS)
    assert not set(chosen) & set(reported)
    assert ("flights_late" in chosen) == ("flights_delay" in chosen)
