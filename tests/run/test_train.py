"""Whole runs on real clusters: one model for any layout, of any source, written whole or not at all."""

import asyncio
import dataclasses
import errno
import itertools
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost
from distributed import Client

import pipeline
from pipeline.cluster.scheduler_info import scheduler_info
from pipeline.config.job import Cluster, Job
from pipeline.data import fragments
from pipeline.errors import ClusterError, DataError, JobError, PipelineError, UserError
from pipeline.events import types as events
from pipeline.events.topics import RUN_EVENTS, WORKER_EVENTS
from pipeline.metrics.exact import evaluate
from pipeline.model.artifact import Model
from pipeline.preprocess import prepare
from pipeline.run import finish
from pipeline.run import train as run
from pipeline.runtime import scheduler_session, sessions
from pipeline.runtime.timing import StageTimer
from pipeline.runtime.worker_session import contents_on, session_of
from pipeline.storage.scratch import Scratch
from pipeline.training import supervisor
from pipeline.training.evaluation import in_order

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
    """A run, its events, and its predictions in the order of row ids."""

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

    def evaluate_and_keep(context: Any, prepared: Any, trained: Any, workers: Any) -> Any:
        parts = context.client.gather(list(trained.scores))
        scores.append((in_order([part[0] for part in parts]), in_order([part[1] for part in parts])))
        return keep(context, prepared, trained, workers)

    keep = supervisor.evaluate
    monkeypatch.setattr(supervisor, "evaluate", evaluate_and_keep)

    def train(*settings: str, layout: tuple[int, int] = (2, 1), files: object = folder, **options: Any) -> Outcome:
        said: list[events.Event] = []
        job = job_of(files, tmp_path / f"model-{len(list(tmp_path.iterdir()))}", *settings)
        result = pipeline.train(make_cluster(*layout), job, listen=said.append, **options)
        return Outcome(result, said, *scores[-1])

    return train


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`place((0, 1), (2,))`: which fragments each worker gets."""

    def choose(*shares: tuple[int, ...]) -> None:
        monkeypatch.setattr(prepare, "assign", lambda sizes, capabilities: shares)

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
    """And in any order of the rows: metrics and scores are in source order, whichever they are trained in."""
    first, *others = [
        go(*CASES[name], f"training.row_order={order}", layout=layout)
        for layout, order in zip(LAYOUTS, itertools.cycle(("source", "key")))
    ]
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


@pytest.mark.slow
def test_ranking_is_the_same_on_any_workers(go: Go, data: Path) -> None:
    """LIBSVM files with their .query files, as source and to validate on."""
    settings = [f"data.validation.source={data / 'rank' / 'rank.test'}", "data.format=libsvm"]
    first, other = (go(*settings, files=data / "rank" / "rank.train", layout=layout) for layout in ((1, 2), (3, 1)))
    assert first.summary["objective"] == "rank:ndcg"
    assert first.summary["rows"] == {"train": 3_005, "validation": 768, "dropped": {}}
    assert 0.4 < first.summary["metrics"]["validation"]["ndcg@10"] < 1
    same_model(first, other)


def test_libsvm_with_its_labels_built_in(go: Go, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 3))
    lines = [
        f"{int(row[0] > 0)} 1:{row[0]:.4f} 2:{row[1]:.4f}" + (f" 3:{row[2]:.4f}" if row[2] > 0 else "") for row in x
    ]
    for part in range(3):
        (tmp_path / f"{part}.libsvm").write_text("\n".join(lines[part * 200 : part * 200 + 200]) + "\n")
    first, other = (go(files=tmp_path / "*.libsvm", layout=layout) for layout in ((1, 2), (2, 1)))
    assert first.summary["metrics"]["train"]["auc"] > 0.95
    assert first.result.model.manifest.job["data"]["target"] == first.result.model.manifest.target.column
    same_model(first, other)


PLAIN = ("data.target=flag", "data.exclude=['value', 'kind', 'many']")


def test_no_more_workers_train_than_there_are_fragments(go: Go, tmp_path: Path) -> None:
    pq.write_table(table_of(rows=1_000), tmp_path / "one.parquet")
    first, other = (go(*PLAIN, files=tmp_path / "one.parquet", layout=layout) for layout in ((1, 2), (3, 1)))
    assert other.summary["workers"] == 3
    same_model(first, other)


@pytest.mark.parametrize("kind", ["flag", "kind"])
def test_workers_without_rows_of_one_use(kind: str, go: Go, place: Callable[..., None]) -> None:
    """One has training rows only, one both, and one only rows to validate on, whose blocks it gives away."""
    others = sorted({"flag", "kind", "value"} - {kind})
    settings = [
        f"data.target={kind}", f"data.exclude={others}", "data.weight=weight",
        "data.validation={column='month', values=[8, 10, 11, 12]}", "training.class_weights=balanced",
    ]  # fmt: skip
    first = go(*settings, layout=(1, 2))
    place((0, 1, 2), (3, 4, 5), (6, 7))
    same_model(first, go(*settings, layout=(3, 1)))
    place((6, 7), (), (0, 1, 2, 3, 4, 5))
    same_model(first, go(*settings, layout=(3, 1)))


# Rows: who trains, who validates, what is predicted


def by_place(scores: Any) -> np.ndarray:
    """The place of the rows in `table_of()`: each file is a fragment."""
    ids = scores.row_ids
    return (ids >> np.uint64(40)).astype(int) * ROWS + (ids & np.uint64((1 << 40) - 1)).astype(int)


def test_the_model_predicts_what_was_evaluated(go: Go) -> None:
    settings = ["data.target=flag", "data.exclude=['value', 'kind']", "data.validation.share=0.25"]
    table, plain, encoded = table_of(), go(*settings, "data.exclude=['value', 'kind', 'many']"), go(*settings)
    for outcome, side in ((plain, "train"), (plain, "validation"), (encoded, "validation")):
        scores = getattr(outcome, side)
        predictions = pipeline.Model.load(outcome.result.model.path).predict(table)[by_place(scores)]
        np.testing.assert_array_equal(predictions, scores.prediction)
        assert evaluate("binary", "binary:logistic", predictions, scores.label) == outcome.summary["metrics"][side]
    # Training rows were encoded without their own label, so that training and prediction differ for them by design.
    own = encoded.result.model.predict(table)[by_place(encoded.train)]
    assert not np.array_equal(own, encoded.train.prediction)


def test_rows_are_split_and_counted_as_asked(go: Go) -> None:
    table = table_of()
    labelled = table["flag"].is_valid().to_numpy()
    assert labelled.sum() < len(labelled)

    def check(outcome: Outcome, validating: np.ndarray, kept: np.ndarray) -> None:
        assert np.array_equal(np.sort(by_place(outcome.train)), np.flatnonzero(kept & ~validating))
        assert np.array_equal(np.sort(by_place(outcome.validation)), np.flatnonzero(kept & validating))
        rows = outcome.summary["rows"]
        assert (rows["train"], rows["validation"]) == (len(outcome.train.row_ids), len(outcome.validation.row_ids))
        assert rows["train"] + rows["validation"] + sum(rows["dropped"].values()) == table.num_rows

    months = go(*PLAIN, "data.validation={column='month', values=[11, 12]}")
    check(months, np.isin(table["month"].to_numpy(), [11, 12]), labelled)
    assert months.summary["rows"]["dropped"] == {"label missing": int((~labelled).sum())}

    filtered = go(*PLAIN, "data.validation={time='day', share=0.2}", "data.where=x > 0")
    positive = np.nan_to_num(table["x"].to_numpy()) > 0
    days = table["day"].to_numpy()
    first = days[by_place(filtered.validation)].min()
    check(filtered, days >= first, labelled & positive)
    assert 0.15 < len(filtered.validation.row_ids) / (labelled & positive).sum() < 0.25
    assert filtered.summary["rows"]["dropped"]["where"] == int((~positive).sum())


def test_another_source_to_validate_on(go: Go, tmp_path: Path) -> None:
    """The same as telling the files apart by a column."""
    for number in range(FILES):
        table = table_of().slice(number * ROWS, ROWS)
        part = pa.array(np.full(ROWS, int(number >= 6)))
        target = tmp_path / ("held_out" if number >= 6 else "train") / f"{number}.parquet"
        target.parent.mkdir(exist_ok=True)
        pq.write_table(table.append_column("part", part), target)
    settings = ["data.target=flag", "data.exclude=['value', 'kind', 'part']"]
    apart = go(*settings, f"data.validation.source={tmp_path / 'held_out'}", files=tmp_path / "train")
    column = "data.validation={column='part', values=[1]}"
    files = f"data.source={[str(tmp_path / name) for name in ('train', 'held_out')]}"
    same_model(apart, go(*settings, column, files))


@pytest.mark.slow
def test_tables_and_frames_as_source(go: Go, folder: Path) -> None:
    """The same rows in the same order, from files, from an Arrow table, and from a Dask DataFrame."""
    from dask.dataframe import from_pandas

    table = table_of()
    files, arrow = go(*PLAIN), go(*PLAIN, source=table)
    frame = go(*PLAIN, source=from_pandas(table.to_pandas(), npartitions=FILES, sort=False))
    assert arrow.booster == files.booster == frame.booster
    assert files.summary["metrics"] == arrow.summary["metrics"] == frame.summary["metrics"]


@pytest.mark.slow
def test_the_partitions_of_a_dask_frame_do_not_change_the_model(go: Go) -> None:
    """Rows are sampled, held out and put into folds by their number in the whole frame."""
    from dask.dataframe import from_pandas

    frame = table_of().to_pandas()
    settings = ("data.target=flag", "data.exclude=['value', 'kind']", "data.validation={share=0.3}",
                "training.row_sample=0.6", "preprocess.columns={many={encoding='target'}}")  # fmt: skip
    whole = go(*settings, source=frame)
    for partitions in (3, 5):
        parts = go(*settings, source=from_pandas(frame, npartitions=partitions, sort=False))
        assert parts.booster == whole.booster
        assert parts.result.model.recipe == whole.result.model.recipe
        assert parts.summary["metrics"] == whole.summary["metrics"]


def test_queries_may_go_over_the_borders_of_partitions(go: Go) -> None:
    from dask.dataframe import from_pandas

    table = table_of(rows=1_200).select(["x", "whole", "few"])
    grades = pa.array(np.random.default_rng(1).integers(0, 4, 1_200))
    table = table.append_column("grade", grades).append_column("query", pa.array(np.arange(1_200) // 17))
    settings = ("data.target=grade", "data.group=query")
    whole = go(*settings, source=table)
    assert go(*settings, source=from_pandas(table.to_pandas(), npartitions=7)).booster == whole.booster


@pytest.mark.slow
def test_arrays_as_source(go: Go) -> None:
    """Of NumPy and of Dask, in blocks of whatever shape: the same model, which takes their rows."""
    from dask.array import from_array

    rng = np.random.default_rng(0)
    array = rng.normal(size=(2_000, 4))
    array[:, 3] = array[:, 0] + array[:, 1] * array[:, 2]
    array[rng.random(2_000) < 0.1, 1] = np.nan
    names, settings = ["a", "b", "c", "y"], ("data.target=y", "data.validation={share=0.2}")
    numpy = go(*settings, source=array, names=names)
    blocks = go(*settings, source=from_array(array, chunks=(700, 3)), names=names)
    frame = go(*settings, source=pa.table(dict(zip(names, array.T, strict=True))))
    assert numpy.booster == blocks.booster == frame.booster
    assert numpy.result.model.predict(array[:, :3]).shape == (2_000,)


def test_categories_of_numbers_are_categories(go: Go) -> None:
    """As feature and as target of a frame: what is a categorical there is none of the numbers it is made of."""
    import pandas as pd

    rng = np.random.default_rng(0)
    code, x = rng.integers(0, 6, 1_000), rng.normal(size=1_000)
    kind = (code % 3 + (x > 1)).astype(np.int64) % 3
    frame = pd.DataFrame({"code": pd.Categorical(code * 10), "x": x, "kind": pd.Categorical(kind)})
    model = go("data.target=kind", source=frame).result.model
    assert model.manifest.target.objective == "multi:softprob"
    assert {feature.name: feature.type for feature in model.manifest.features} == {"code": "c", "x": "q"}
    assert np.array_equal(model.predict(frame), model.predict({"code": code * 10, "x": x}))


def test_clients_that_cannot_be_waited_for_are_refused(make_cluster: Any, folder: Path, tmp_path: Path) -> None:
    """Asynchronous ones, closed ones, and what is no client, by every verb that takes one."""
    running = make_cluster(2, 1)
    job, model = job_of(folder, tmp_path / "model", *PLAIN), SimpleNamespace()
    verbs: tuple[Callable[[Any], object], ...] = (
        lambda client: pipeline.train(client, job),
        lambda client: pipeline.predict(client, model, table_of(), out=tmp_path / "out"),
        lambda client: pipeline.evaluate(client, model, table_of()),
    )

    async def refuse() -> None:
        async with Client(running.scheduler.address, asynchronous=True, set_as_default=False) as client:
            for verb in verbs:
                with pytest.raises(ClusterError, match="the client is asynchronous"):
                    verb(client)

    asyncio.run(refuse())
    closed = Client(running.scheduler.address, set_as_default=False)
    closed.close()
    for verb in verbs:
        with pytest.raises(ClusterError, match="the client is closed"):
            verb(closed)
        with pytest.raises(ClusterError, match="client is a str"):
            verb(running.scheduler.address)
    assert not (tmp_path / "model").exists()


def test_what_the_users_own_function_makes(
    folder: Path, tmp_path: Path, make_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module in the current folder, with leave; the model asks for leave too."""
    (tmp_path / "my_columns.py").write_text(
        "import pyarrow.compute as pc\n"
        "def double(table):\n"
        "    return table.append_column('twice', pc.multiply(table['x'], 2)) if 'x' in table.column_names else table\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    job = job_of(folder, tmp_path / "model", *PLAIN, "data.function=my_columns:double")
    with pytest.raises(JobError, match="--allow-code"):
        pipeline.train(make_cluster(2, 1), job)
    with pipeline.connect(Cluster(device="cpu", workers=1, threads=1)) as client:  # its workers start in this folder
        model = pipeline.train(client, job, allow_code=True).model
    assert "twice" in model.recipe.names
    assert model.manifest.function_sha256 is not None
    assert pipeline.Model.load(model.path, allow_code=True).predict(table_of()).shape == (FILES * ROWS,)
    with pytest.raises(UserError, match=r"allow.code"):
        pipeline.Model.load(model.path).predict(table_of())


# What a run says


def test_early_stopping_keeps_the_best_round(go: Go) -> None:
    settings = ["training.rounds=60", "training.params.learning_rate=1.0", "training.early_stopping=3"]
    outcome = go(*PLAIN, "data.validation.share=0.25", *settings)
    summary = outcome.summary
    assert summary["best_round"] + 3 == summary["rounds"] < 60
    model = xgboost.Booster(model_file=bytearray(outcome.booster))
    assert model.num_boosted_rounds() == summary["best_round"]
    history = json.loads((outcome.result.model.path / "metrics.json").read_text())["history"]["validation.logloss"]
    assert len(history) == summary["rounds"]
    assert int(np.argmin(history)) + 1 == summary["best_round"]
    assert min(history) == pytest.approx(summary["metrics"]["validation"]["logloss"], rel=1e-6)


def test_the_summary_says_what_it_should(go: Go) -> None:
    clock = StageTimer(begin=time.time() - 2.0, seconds={"import": 1.5})
    outcome = go(*PLAIN, "data.validation.share=0.25", clock=clock)
    summary, model = outcome.summary, outcome.result.model
    assert summary == json.loads(json.dumps(summary))
    assert (summary["model"], summary["sha256"]) == (str(model.path), model.sha256)
    assert summary["rows"].keys() == {"train", "validation", "dropped"}
    assert summary["features"] == len(model.manifest.features) == len(model.recipe.names)
    assert (summary["workers"], summary["threads"], summary["device"]) == (2, 1, "cpu")
    assert (summary["rounds"], summary["best_round"]) == (6, 6)
    assert summary["metrics"].keys() == {"train", "validation"}
    assert summary["metrics"]["validation"].keys() >= {"logloss", "auc", "average_precision", "accuracy", "brier"}
    seconds = summary["seconds"]
    stages = {"import", "connect", "statistics", "blocks", "matrix", "rounds", "evaluate", "save", "total"}
    assert seconds.keys() >= stages
    assert seconds["import"] == 1.5
    assert seconds["total"] == pytest.approx(sum(seconds.values()) - seconds["total"])
    account = summary["account"]
    assert sum(account["shares"].values()) == pytest.approx(1)
    metrics = json.loads((model.path / "metrics.json").read_text())
    efficiency = metrics["efficiency"]
    assert sorted(worker["worker"] for worker in efficiency["workers"]) == [
        "0",
        "1",
    ]  # by rank, which follows the shares
    assert (efficiency["rounds"], efficiency["method"]) == (6, "thread-cpu")
    assert 0 <= efficiency["figures"]["PE"] < 1  # 0: such rounds are shorter than the collectives of a busy machine
    saved = metrics["account"]
    assert saved["useful"] == account["useful"] > 0
    for worker in account["workers"].values():
        assert set(worker["peak_rss_nbytes"]) >= {"reading", "statistics", "blocks", "matrix", "rounds"}
        assert all(50e6 < nbytes < 2e9 for nbytes in worker["peak_rss_nbytes"].values())
    assert 0 < saved["seconds"] <= account["seconds"] < seconds["total"]
    assert summary["peak_memory_nbytes"] > 100e6
    assert summary["peak_memory_of"] == metrics["peak_memory_of"] == "all processes together"
    assert summary["versions"].keys() >= {"python", "xgboost", "dask", "pyarrow"}
    assert summary["report"] is None


def test_events_come_in_order(go: Go) -> None:
    said = go(*PLAIN, "data.validation.share=0.25").said
    kinds = [type(event).__name__ for event in said if not isinstance(event, events.Note)]
    order = list(dict.fromkeys(kinds))
    assert order == [
        "Started", "JobResolved", "FragmentDone", "Planned", "StatisticsDone", "BlocksDone", "MatrixDone", "Placed", "RoundDone",
        "WorkerRounds", "Checkpoint", "Evaluated", "Saved",
    ]  # fmt: skip
    once = set(order) - {"FragmentDone", "RoundDone", "WorkerRounds"}
    assert all(kinds.count(kind) == 1 for kind in once)
    for stage in ("survey", "statistics", "blocks"):
        passed = [event for event in said if isinstance(event, events.FragmentDone) and event.stage == stage]
        assert [event.done for event in passed] == list(range(1, FILES + 1))
        assert [event.total for event in passed] == [FILES] * FILES
        assert passed[-1].rows == FILES * ROWS
    rounds = [event for event in said if isinstance(event, events.RoundDone)]
    assert [event.round for event in rounds] == sorted({event.round for event in rounds})
    assert rounds[-1].round == 6
    assert rounds[-1].metrics.keys() >= {"validation.logloss", "validation.auc"}


@pytest.mark.slow
def test_with_a_report(go: Go) -> None:
    outcome = go(*PLAIN, "data.validation.share=0.25", "output.report=true")
    folder = outcome.result.model.path
    assert outcome.summary["report"] == str(folder / "report.html")
    assert "bokeh" in (folder / "report.html").read_text().lower()
    assert any(folder.rglob("*.png"))
    assert outcome.summary["seconds"]["report"] > 0
    bare = go(*PLAIN, "data.validation.share=0.25")
    assert not (bare.result.model.path / "report.html").exists()
    assert not any(bare.result.model.path.rglob("*.png"))
    same_model(bare, outcome)
    assert Model.load(folder).manifest == outcome.result.model.manifest
    assert {"report.html", "pictures/learning.png"} <= outcome.result.model.manifest.files.keys()


def test_a_report_that_fails_costs_no_model(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is drawn after the model is saved and its event emitted."""

    def broken(record: object) -> None:
        raise ValueError("no ink")

    monkeypatch.setattr(finish, "draw_report", broken)
    outcome = go(*PLAIN, "output.report=true")
    [saved] = [event for event in outcome.said if isinstance(event, events.Saved)]
    [note] = [event for event in outcome.said if isinstance(event, events.Note) and "no ink" in event.message]
    assert outcome.said.index(saved) < outcome.said.index(note)
    assert outcome.summary["notes"][-1] == "the model is saved; its report cannot be made: no ink"
    assert outcome.summary["report"] is None
    assert Model.load(outcome.result.model.path).sha256 == saved.sha256


def test_the_job_in_the_manifest_makes_the_model_again(go: Go, make_cluster: Any, tmp_path: Path) -> None:
    first = go(*CASES["two classes"], "training.seed=7")
    manifest = json.loads((first.result.model.path / "manifest.json").read_text())
    job = Job.parse(manifest["job"], settings=[f"output.model={tmp_path / 'again'}"])
    again = pipeline.train(make_cluster(2, 1), job).model
    assert again.booster_bytes == first.booster
    assert again.manifest.fingerprint == first.result.model.manifest.fingerprint
    assert Job.parse(manifest["job"]).model_dump(mode="json") == manifest["job"]


def test_another_seed_makes_another_model(go: Go) -> None:
    settings = [*PLAIN, "training.row_sample=0.5"]
    assert go(*settings, "training.seed=1").booster != go(*settings, "training.seed=2").booster


# When it fails


WRONG: dict[str, tuple[list[str], type[PipelineError], str]] = {
    "before any row": (["data.target=flak"], DataError, "did you mean flag"),
    "at the parameters": (["training.params.max_dept=3"], JobError, "max_depth"),
    "in the survey": (["data.target=flag", "training.objective=reg:squarederror"], DataError, "text"),
    "in the first pass": (["data.target=flag", "data.weight=x"], DataError, "the weight x is (negative|missing)"),
    "at the recipe": (["data.target=flag", "training.class_weights={maybe=2}"], DataError, "no such class"),
    "in the split": (
        [*PLAIN, "data.validation={column='few', values=['nowhere']}"],
        DataError,
        "no row has one of them",
    ),
    "before the rounds": ([*PLAIN, "training.monotone={y=1}"], JobError, "no feature 'y'"),
    "in the rounds": ([*PLAIN, "training.params.max_depth=-3"], JobError, "max_depth"),
    "in the rounds too": ([*PLAIN, "training.params.max_depth=deep"], JobError, "max_depth"),
}


@pytest.mark.parametrize("name", WRONG)
def test_nothing_is_written_when_it_fails(name: str, make_cluster: Any, folder: Path, tmp_path: Path) -> None:
    settings, kind, says = WRONG[name]
    said: list[events.Event] = []
    with pytest.raises(kind, match=says) as caught:
        pipeline.train(make_cluster(2, 1), job_of(folder, tmp_path / "deep" / "model", *settings), listen=said.append)
    assert isinstance(caught.value, UserError)
    assert list(tmp_path.iterdir()) == []
    assert said[-1] == events.Failed(message=str(caught.value), time=said[-1].time)


def test_a_folder_that_is_taken_is_found_before_anything_is_read(go: Go, folder: Path, make_cluster: Any) -> None:
    first = go(*PLAIN)
    before = {path: path.stat().st_mtime_ns for path in first.result.model.path.rglob("*")}
    said: list[events.Event] = []
    with pytest.raises(UserError, match="exists"):
        pipeline.train(make_cluster(2, 1), job_of(folder, first.result.model.path, *PLAIN), listen=said.append)
    assert [type(event) for event in said] == [events.Started, events.Failed]
    assert {path: path.stat().st_mtime_ns for path in first.result.model.path.rglob("*")} == before
    job = job_of(folder, first.result.model.path, *PLAIN, "training.rounds=2", "output.overwrite=true")
    assert pipeline.train(make_cluster(2, 1), job).model.booster_bytes != first.booster
    assert pipeline.Model.load(first.result.model.path).manifest.rounds == 2


def test_what_is_noted_before_the_workers_are_known_is_in_the_summary(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    look = run.find_workers

    def slow(client: Client, section: Cluster, members: Any, modules: Any) -> Any:
        members.note("the scheduler has not answered for 5 s")
        return look(client, section, members, modules)

    monkeypatch.setattr(run, "find_workers", slow)
    assert "the scheduler has not answered for 5 s" in go(*PLAIN, "training.rounds=2").summary["notes"]


def _tasks(dask_scheduler: Any) -> list[str]:
    return [str(key) for key in dask_scheduler.tasks]


@pytest.mark.parametrize("settings", [list(PLAIN), *(settings for settings, _, _ in WRONG.values())], ids=["", *WRONG])
def test_nothing_is_left_on_the_cluster(settings: list[str], make_cluster: Any, folder: Path, tmp_path: Path) -> None:
    """No tasks, and nothing in the sessions, even while the caller holds the result or the error."""
    client, held = make_cluster(2, 1), []
    before = set(client.run_on_scheduler(_tasks))  # of other tests, whose clusters these are too
    try:
        held.append(pipeline.train(client, job_of(folder, tmp_path / "model", *settings)))
    except UserError as error:
        held.append(error)
    give_up = time.monotonic() + 10
    while (left := set(client.run_on_scheduler(_tasks)) - before) and time.monotonic() < give_up:
        pass
    assert left == set()
    assert list(client.run(contents_on).values()) == [[], []]
    assert client.run_on_scheduler(scheduler_session.call, "contents") == []


def _leave_behind(run: str, dask_worker: Any) -> None:
    """What a run has on a worker between its passes."""
    from pipeline.preprocess.row_cache import RowCache
    from pipeline.runtime.recorder import _begin

    session = session_of(dask_worker)
    cache: Any = RowCache(session)
    session.put(run, cache)
    cache.rows[0] = SimpleNamespace(value=None, nbytes=8)
    _begin(run, dask_worker)


def _left(client: Client) -> list[list[str]]:
    """The runs that each worker keeps something of."""
    found = client.run(contents_on)
    return [sorted({run for run, _, _ in kept}) for kept in found.values()]


def _registered(client: Client) -> set[str]:
    return {run for run, _ in client.run_on_scheduler(scheduler_session.call, "contents")}


def test_what_a_killed_client_left_is_dropped_by_the_next_run(make_cluster: Any, folder: Path, tmp_path: Path) -> None:
    """A run whose client is still there keeps what it has."""
    client = make_cluster(2, 1)
    address = client.scheduler.address
    with Client(address, set_as_default=False) as living:
        with Client(address, set_as_default=False) as killed:
            for run, owner in (("living", living), ("dead", killed)):
                sessions.open_run(owner, run)
                owner.run(_leave_behind, run)
        assert _left(client) == [["dead", "living"]] * 2
        pipeline.train(client, job_of(folder, tmp_path / "model", *PLAIN, "training.rounds=2"))
        assert _left(client) == [["living"]] * 2
        assert _registered(client) == {"living"}
    pipeline.train(client, job_of(folder, tmp_path / "other", *PLAIN, "training.rounds=2"))
    assert _left(client) == [[], []]


def test_a_round_is_sent_once_and_the_client_subscribes_once(
    make_cluster: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker sends it to everyone who follows runs, and to the client, which passes it on."""
    client, heard = make_cluster(2, 1), []
    subscribed: list[str] = []
    subscribe = client.subscribe_topic
    monkeypatch.setattr(client, "subscribe_topic", lambda topic, _: (subscribed.append(topic), subscribe(topic, _)))
    pipeline.train(client, job_of(folder, tmp_path / "model", *PLAIN, "training.rounds=7"), listen=heard.append)
    assert subscribed.count(WORKER_EVENTS) == 1
    assert RUN_EVENTS not in subscribed
    (run,) = [event.run for event in heard if isinstance(event, events.Started)]
    sent = [message for _, message in client.get_events(RUN_EVENTS) if message["run"] == run]
    rounds = [message for message in sent if message["event"]["event"] == "RoundDone"]
    assert not any("client" in message for message in rounds)
    numbers = [message["event"]["round"] for message in rounds]
    assert set(numbers) >= {1, 2, 5, 7}
    assert numbers == [event.round for event in heard if isinstance(event, events.RoundDone)]
    assert sent[-1]["event"]["event"] == "Saved"


def _write_scratch(run: str, root: str, dask_worker: Any) -> str:
    scratch: Any = session_of(dask_worker).of(run, Scratch)
    path = scratch.open(Path(root))
    (path / "block").write_bytes(b"codes")
    return str(path)


@pytest.mark.slow
def test_what_a_killed_client_left_is_dropped_without_another_run(
    make_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler notices that the client has gone; one that is still there keeps what it has."""
    monkeypatch.setattr(scheduler_session, "RETURN_SECONDS", 0.2)
    client = make_cluster(2, 1)
    address, folders = client.scheduler.address, {}
    with Client(address, set_as_default=False) as living:
        with Client(address, set_as_default=False) as killed:
            for run_id, owner in (("kept", living), ("dropped", killed)):
                sessions.open_run(owner, run_id)
                owner.run(_leave_behind, run_id)
                folders[run_id] = [Path(one) for one in owner.run(_write_scratch, run_id, str(tmp_path)).values()]
                assert all(folder.is_dir() for folder in folders[run_id])
        give_up = time.monotonic() + 20
        while "dropped" in _registered(client):
            assert time.monotonic() < give_up
            time.sleep(0.1)
        assert _left(client) == [["kept"]] * 2
        assert not any(folder.exists() for folder in folders["dropped"])
        assert all(folder.is_dir() for folder in folders["kept"])
        sessions.close_run(client, "kept")
        assert _left(client) == [[], []]


def test_a_saved_model_is_a_success_whatever_cannot_be_removed(
    make_cluster: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of the checkpoints turns read-only in mid-run; then the events' last listener fails, too."""
    said: list[events.Event] = []
    unlink, checkpoints = Path.unlink, tmp_path / "model.checkpoints"

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.parent == checkpoints:
            raise OSError(errno.EROFS, "Read-only file system")
        unlink(path, missing_ok)

    def listen(event: events.Event) -> None:
        said.append(event)
        if isinstance(event, events.Checkpoint):
            monkeypatch.setattr(Path, "unlink", refuse)
        if isinstance(event, events.Saved):
            raise OSError(errno.EIO, "the recorder's disk is gone")

    data = tmp_path / "data"  # the same files by two names: a finding
    data.mkdir()
    for name in ("one", "two"):
        (data / name).symlink_to(folder)
    job = job_of(data, tmp_path / "model", *PLAIN, "training.checkpoint_rounds=2")
    result = pipeline.train(make_cluster(2, 1), job, listen=listen)
    assert pipeline.Model.load(tmp_path / "model").sha256 == result.model.sha256
    assert "file_twice" in [note["kind"] for note in result.summary["notes"] if isinstance(note, dict)]
    removing, closing = result.summary["notes"][-2:]
    assert removing.endswith("model.checkpoints cannot be removed: Read-only file system")
    assert closing.startswith("the model is saved; cleaning up after the run failed: ")
    assert not any(isinstance(event, events.Failed) for event in said)


def test_a_worker_that_dies_at_the_start_is_waited_for(folder: Path, tmp_path: Path) -> None:
    job = job_of(folder, tmp_path / "model", *PLAIN, "training.rounds=2", "cluster.workers=2", "cluster.device=cpu")
    with pipeline.connect(job) as client:
        os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
        while len(scheduler_info(client)["workers"]) == 2:
            time.sleep(0.01)
        result = pipeline.train(client, job)
    assert result.summary["workers"] == 2


@pytest.mark.slow
def test_workers_with_too_little_memory_are_the_error(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file is blamed, and the message needs no knowledge of Dask.  The plan refuses such a run, if there is one."""
    cluster = ("cluster.workers=2", "cluster.device=cpu", "cluster.memory=100MiB")
    job = job_of(folder, tmp_path / "model", *PLAIN, *cluster, "training.matrix=memory")
    refused = r"MiB of it for the process itself, .* raise cluster\.memory, or use fewer workers$"
    with pytest.raises(ClusterError, match=refused):
        pipeline.plan(job, workers=[2]).validate()
    monkeypatch.setattr("pipeline.run.train.plan_of_run", lambda *_: None)
    with pipeline.connect(job) as client, pytest.raises(PipelineError) as caught:
        pipeline.train(client, job)
    assert re.fullmatch(
        r"(\w+: )?workers were ended \d+ times? because their memory came near the limit of 100 MiB, and one is expected "
        r"to take \d+ MiB: raise cluster.memory, or use fewer workers with more memory each",
        str(caught.value),
    )


# A GPU


@pytest.mark.gpu
def test_the_walk_on_a_gpu(folder: Path, tmp_path: Path, make_cluster: Any) -> None:
    """Blocks through CuPy, rounds on the GPU; the metric is that of the CPU, the model need not be."""
    settings = [*CASES["two classes"], "training.rounds=20"]
    cpu = pipeline.train(make_cluster(1, 2), job_of(folder, tmp_path / "cpu", *settings)).summary
    job = job_of(folder, tmp_path / "cuda", *settings, "cluster.device=cuda", "cluster.workers=1")
    with pipeline.connect(job) as client:
        result = pipeline.train(client, job)
    assert result.summary["device"] == "cuda"
    assert result.summary["rows"] == cpu["rows"]
    for metric in ("auc", "logloss"):
        reached = result.summary["metrics"]["validation"][metric]
        assert reached == pytest.approx(cpu["metrics"]["validation"][metric], abs=0.03)
    predictions = result.model.predict(table_of())  # on the CPU
    assert len(predictions) == FILES * ROWS
