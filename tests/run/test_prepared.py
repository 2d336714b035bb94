"""Rows prepared once and trained on many times: the models of `pipeline.train`, to the byte."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline.config.job import Cluster, Job
from pipeline.config.parameters import with_defaults
from pipeline.data import fragments
from pipeline.errors import DataError, JobError
from pipeline.events import types as events

ROWS, ROUNDS = 4_000, 12


def table_of() -> pa.Table:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 4))
    y = np.sin(3 * x[:, 0]) + x[:, 1] * x[:, 2] + rng.normal(size=len(x)) * 0.3
    return pa.table({**{f"x{i}": x[:, i] for i in range(4)}, "y": y})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four files."""
    folder, table = tmp_path_factory.mktemp("files"), table_of()
    for number in range(4):
        pq.write_table(table.slice(number * ROWS // 4, ROWS // 4), folder / f"{number}.parquet")
    return folder


@pytest.fixture(autouse=True)
def small_fragments(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fragment for each file, however small: both workers hold rows."""
    monkeypatch.setattr(fragments, "MIN_FRAGMENT_NBYTES", 1)


def job_of(folder: Path, *settings: str) -> Job:
    table = {
        "data": {"source": str(folder), "target": "y", "fragment_mib": 1, "validation": {"share": 0.25}},
        "training": {"rounds": ROUNDS, "row_sample": 0.7, "early_stopping": 0, "params": {"max_depth": 4}},
        "output": {"report": False},
    }
    return Job.parse(table, settings=settings)


@pytest.fixture(scope="module")
def trained(client: Any, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """`trained(*settings)`: the model of `pipeline.train`."""

    def train(*settings: str) -> Any:
        out = tmp_path_factory.mktemp("models") / "model"
        return pipeline.train(client, job_of(folder, *settings, f"output.model={out}")).model

    return train


def same(one: Any, other: Any) -> bool:
    return bool(one.booster_bytes == other.booster_bytes and one.recipe == other.recipe)


def test_the_models_are_those_of_train(client: Any, folder: Path, trained: Any, tmp_path: Path) -> None:
    heard: list[events.Event] = []
    with pipeline.prepare(client, job_of(folder), listen=heard.append) as prepared:
        assert prepared.rows == sum(e.rows for e in heard if isinstance(e, events.StatisticsDone))
        assert prepared.features == ("x0", "x1", "x2", "x3")
        read = len(heard)
        first = prepared.train(model=tmp_path / "first")
        deep = prepared.train(params={"max_depth": 6, "eta": 0.1}, rounds=7, model=tmp_path / "deep")
        plain = prepared.train(params={"max_depth": None}, rounds=3, model=tmp_path / "plain")
        again = prepared.train(model=tmp_path / "again")
        assert len(heard) == read, "the listener of prepare hears what prepare does"
    assert same(first.model, trained())
    assert same(again.model, first.model)
    assert same(deep.model, trained("training.params.max_depth=6", "training.params.eta=0.1", "training.rounds=7"))
    assert plain.model.manifest.rounds == 3
    assert deep.model.manifest.job["training"]["params"] == {
        "max_depth": 6,
        "eta": 0.1,
        "colsample_bynode": 0.5,
    }
    assert first.summary["metrics"] == again.summary["metrics"]
    assert "blocks" not in again.summary["seconds"]


def test_nothing_is_read_again(client: Any, folder: Path, tmp_path: Path) -> None:
    with pipeline.prepare(client, job_of(folder)) as prepared:
        prepared.train(rounds=2, model=tmp_path / "a")
        heard: list[events.Event] = []
        prepared.train(rounds=2, model=tmp_path / "b", listen=heard.append)
    assert not [e for e in heard if isinstance(e, (events.FragmentDone, events.BlocksDone, events.MatrixDone))]
    assert [e for e in heard if isinstance(e, events.Saved)]


def kept_rows(client: Any) -> int:
    """Fragments whose rows the workers keep for the second pass."""

    def kept(dask_worker: Any) -> int:
        from pipeline.preprocess.row_cache import RowCache
        from pipeline.runtime.worker_session import session_of

        return sum(len(cache.rows) for cache in session_of(dask_worker).each(RowCache).values())

    return sum(client.run(kept).values())


def test_rows_kept_by_the_first_pass_are_used_by_the_second(client: Any, folder: Path, tmp_path: Path) -> None:
    with pipeline.prepare(client, job_of(folder)) as prepared:
        assert kept_rows(client) == 4
        prepared.train(rounds=2, model=tmp_path / "a")
        assert kept_rows(client) == 0


def test_rows_from_memory(client: Any, tmp_path: Path, folder: Path) -> None:
    job = job_of(folder)
    whole = pipeline.train(client, job_of(folder, f"output.model={tmp_path}/whole"), source=table_of()).model
    with pipeline.prepare(client, job, source=table_of()) as prepared:
        models = [prepared.train(rounds=n, model=tmp_path / str(i)).model for i, n in enumerate((3, 5, 3))]
        again = prepared.train(model=tmp_path / "again").model
    assert same(models[0], models[2])
    assert not same(models[0], models[1])
    assert same(again, whole)


@pytest.mark.slow
def test_a_callback_ends_a_training_soon(client: Any, folder: Path, trained: Any, tmp_path: Path) -> None:
    seen: list[int] = []

    def enough(event: events.RoundDone) -> bool:
        seen.append(event.round)
        return event.round >= 5

    with pipeline.prepare(client, job_of(folder)) as prepared:
        result = prepared.train(rounds=5_000, model=tmp_path / "early", callback=enough)
        whole = prepared.train(rounds=4, model=tmp_path / "whole", callback=lambda event: event.round == 4)
        heard: list[events.Event] = []
        once = prepared.train(
            rounds=5_000, model=tmp_path / "once", callback=lambda event: event.round == 2, listen=heard.append
        )
    rounds = result.model.manifest.rounds
    assert 5 <= rounds < 5_000
    assert seen == sorted(set(seen))
    assert result.model.manifest.job["training"]["rounds"] == rounds
    assert whole.model.manifest.rounds == 4
    assert same(result.model, trained(f"training.rounds={rounds}"))
    last = [event for event in heard if isinstance(event, events.RoundDone)][-1]
    assert 2 <= last.round == last.rounds == once.model.manifest.rounds < 5_000
    assert not [event for event in heard if isinstance(event, (events.Restarted, events.BlocksDone))]


def test_an_error_of_a_callback_ends_the_training(client: Any, folder: Path, tmp_path: Path) -> None:
    def broken(event: events.RoundDone) -> bool:
        raise ZeroDivisionError("oh")

    with pipeline.prepare(client, job_of(folder)) as prepared:
        with pytest.raises(ZeroDivisionError, match="oh"):
            prepared.train(model=tmp_path / "broken", callback=broken)
        assert list(tmp_path.glob("broken*")) == []  # nor its checkpoints

        def broken_listener(event: events.Event) -> None:
            if isinstance(event, events.RoundDone):
                raise ZeroDivisionError("heard")

        with pytest.raises(ZeroDivisionError, match="heard"):
            prepared.train(model=tmp_path / "heard", listen=broken_listener)
        assert prepared.train(rounds=2, model=tmp_path / "next").model.manifest.rounds == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"params": {"max_bin": 64}}, r"max_bin: the rows are encoded in 255 bins: prepare them again"),
        ({"params": 5}, "params is a int: expected XGBoost's parameters"),
        ({"params": {"eta": 0.1, "learning_rate": 0.2}}, "two names of one parameter"),
        ({"params": {"max_dpeth": 3}}, "max_dpeth"),
        ({"params": {"max_dpeth": None}}, "max_dpeth"),
        ({"params": {"ndcg_exp_gain": False}}, "prepare the rows again"),
        ({"rounds": 0}, "rounds"),
        ({"params": {"tweedie_variance_power": 1.2}}, "tweedie_variance_power"),
        ({"params": {"objective": "reg:gamma"}}, "objective"),
    ],
)
def test_what_needs_other_rows_or_is_wrong_is_refused(
    client: Any, folder: Path, tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    heard: list[events.Event] = []
    with pipeline.prepare(client, job_of(folder)) as prepared:
        with pytest.raises(JobError, match=says) as error:
            prepared.train(**options, model=tmp_path / "no", listen=heard.append)
        assert "\n" not in str(error.value)
    assert [type(event) for event in heard] == [events.Started, events.Failed]
    assert not (tmp_path / "no").exists()


def test_wrong_columns_are_refused_before_anything_is_read(client: Any, folder: Path) -> None:
    with pytest.raises(DataError, match="nothing"), pipeline.prepare(client, job_of(folder, "data.target=nothing")):
        raise AssertionError("not reached")


def test_lost_workers(folder: Path, trained: Any, tmp_path: Path) -> None:
    """One between two trainings, one in the rounds."""
    heard: list[events.Event] = []
    with (
        pipeline.connect(Cluster(device="cpu", workers=2, threads=1)) as own,
        pipeline.prepare(own, job_of(folder, "training.checkpoint_rounds=2")) as prepared,
    ):
        first = prepared.train(model=tmp_path / "first")
        os.kill(next(iter(own.run(os.getpid).values())), signal.SIGKILL)
        time.sleep(0.2)
        second = prepared.train(model=tmp_path / "second")
        killed: list[int] = []

        def kill(event: events.RoundDone) -> bool:
            if event.round >= 5 and not killed:
                killed.append(event.round)
                os.kill(list(own.cluster.workers.values())[1].pid, signal.SIGKILL)
            return False

        third = prepared.train(rounds=400, model=tmp_path / "third", callback=kill, listen=heard.append)
        fourth = prepared.train(model=tmp_path / "fourth")
    assert killed
    assert [event for event in heard if isinstance(event, events.WorkerLost)]
    assert first.model.manifest.job["output"]["model"] == str(tmp_path / "first")
    assert all(result.summary["workers"] == 2 for result in (first, second, fourth))
    assert third.model.manifest.rounds == 400
    for result in (first, second, fourth):
        assert same(result.model, trained())


def test_nothing_is_left_on_the_workers(client: Any, folder: Path, tmp_path: Path) -> None:
    def left(dask_worker: Any) -> list[str]:
        return [*map(str, dask_worker.data), *(name for name in dask_worker.plugins if name.startswith("pipeline"))]

    before = client.run(left)
    with pipeline.prepare(client, job_of(folder)) as prepared:
        prepared.train(rounds=2, model=tmp_path / "a")

    def more() -> list[str]:
        return [name for worker, names in client.run(left).items() for name in names if name not in before[worker]]

    deadline = time.monotonic() + 10
    while (found := more()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found == []


def test_the_rows_are_gone_after_the_with(client: Any, folder: Path, tmp_path: Path) -> None:
    with pipeline.prepare(client, job_of(folder)) as prepared:
        pass
    with pytest.raises(JobError, match="train inside the `with`"):
        prepared.train(model=tmp_path / "late")


def test_one_training_at_a_time(client: Any, folder: Path, tmp_path: Path) -> None:
    errors: list[str] = []
    with pipeline.prepare(client, job_of(folder)) as prepared:

        def another(event: events.RoundDone) -> bool:
            with pytest.raises(JobError) as error:
                prepared.train(model=tmp_path / "other")
            errors.append(str(error.value))
            return True

        prepared.train(rounds=2, model=tmp_path / "one", callback=another)
    assert set(errors) == {"these rows are being trained on: start the next training after that"}


def test_numbers_of_numpy_and_other_names_of_parameters(
    client: Any, folder: Path, trained: Any, tmp_path: Path
) -> None:
    with pipeline.prepare(client, job_of(folder, "training.params.eta=0.5")) as prepared:
        params = {"max_depth": np.int64(3), "learning_rate": np.float64(0.2), "max_bin": 255}
        result = prepared.train(
            params=params,
            rounds=np.int64(3),  # type: ignore[arg-type]
            model=tmp_path / "numpy",
        )
        with pytest.raises(JobError, match="expected a function"):
            prepared.train(callback=5, model=tmp_path / "no")  # type: ignore[arg-type]
    settings = ("training.params.max_depth=3", "training.params.learning_rate=0.2", "training.rounds=3")
    assert same(result.model, trained(*settings))


def test_early_stopping_with_a_callback(client: Any, folder: Path, trained: Any, tmp_path: Path) -> None:
    settings = ("training.early_stopping=3", "training.params.eta=1.5", "training.rounds=200")
    with pipeline.prepare(client, job_of(folder, *settings)) as prepared:
        result = prepared.train(model=tmp_path / "stopped", callback=lambda event: False)
    assert result.model.manifest.rounds < 200
    assert same(result.model, trained(*settings))


def test_a_parameter_that_follows_from_the_labels_is_recorded(client: Any, tmp_path: Path) -> None:
    """Grades beyond 31: their NDCG has linear gains, in `pipeline.train` as on prepared rows."""
    numbers = np.arange(400)
    table = {"x": numbers * 7 % 31 / 31, "q": numbers // 10, "y": numbers * 7 % 61}
    source = pa.table(table)
    job = Job.parse(
        {
            "data": {"source": "rows", "target": "y", "group": "q"},
            "training": {"objective": "rank:pairwise", "rounds": 3, "early_stopping": 0},
            "output": {"report": False, "model": str(tmp_path / "plain")},
        }
    )
    plain = pipeline.train(client, job, source=source)
    with pipeline.prepare(client, job, source=source) as prepared:
        shared = prepared.train(model=tmp_path / "shared")
        deep = prepared.train(params={"max_depth": 3}, model=tmp_path / "deep")
    assert same(plain.model, shared.model)
    assert not same(plain.model, deep.model)
    for result, params in ((plain, {}), (shared, {}), (deep, {"max_depth": 3})):
        assert result.model.manifest.job["training"]["params"] == with_defaults({**params, "ndcg_exp_gain": False})
        assert result.summary["metrics"]["train"]["ndcg"] > 0.5


def test_the_bound_of_a_categorys_splits_follows_from_its_levels(client: Any, tmp_path: Path) -> None:
    """In `pipeline.train` as on prepared rows; what the job says wins."""
    numbers = np.arange(2_000)
    level = numbers * 7 % 40
    source = pa.table({"level": level.astype(str), "x": numbers % 11, "y": (level * 37 % 40 + numbers % 11) / 7})
    name = "max_cat_threshold"

    def job(folder: str, **params: int) -> Job:
        return Job.parse(
            {
                "data": {"source": "rows", "target": "y"},
                "training": {"rounds": 3, "early_stopping": 0, "params": params},
                "output": {"report": False, "model": str(tmp_path / folder)},
            }
        )

    plain = pipeline.train(client, job("plain"), source=source).model
    free = pipeline.train(client, job("free", **{name: 64}), source=source).model
    with pipeline.prepare(client, job("unused"), source=source) as prepared:
        shared = prepared.train(model=tmp_path / "shared").model
        freed = prepared.train(params={name: 64}, model=tmp_path / "freed").model
    with pipeline.prepare(client, job("unused", **{name: 64}), source=source) as prepared:
        bound = prepared.train(params={name: None}, model=tmp_path / "bound").model
    assert same(plain, shared)
    assert same(plain, bound)
    assert same(free, freed)
    assert not same(plain, free)
    for model, value in ((plain, 4), (shared, 4), (bound, 4), (free, 64), (freed, 64)):
        assert model.manifest.job["training"]["params"] == with_defaults({name: value})
