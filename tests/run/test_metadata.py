"""What metadata can refuse is refused before a cluster starts, a task runs, or a folder is made."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import Client

import pipeline
from pipeline.config.job import Cluster, Data, Job, Training, Validation
from pipeline.errors import ClusterError, JobError, UserError
from pipeline.events import types as events
from pipeline.preprocess.constraints import check_constraints, without_absent
from pipeline.preprocess.features import Number
from pipeline.preprocess.recipe import Recipe
from pipeline.run.metadata import are_local, resolve
from pipeline.run.resource_plan import check_run

ROWS = 50


class NoClient(Client):
    """It has no scheduler to ask."""

    asynchronous, status = False, "running"

    def __init__(self) -> None:
        pass

    def __del__(self) -> None:
        pass

    def __repr__(self) -> str:
        return "NoClient"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    table = pa.table(
        {
            "x": np.linspace(0, 1, ROWS),
            "name": ["a", "b"] * (ROWS // 2),
            "day": pa.array(range(ROWS), pa.timestamp("s")),
            "empty": pa.nulls(ROWS),
            "y": np.arange(ROWS) % 2,
        }
    )
    (tmp_path / "data").mkdir()
    pq.write_table(table, tmp_path / "data/0.parquet")
    return tmp_path


def job_of(files: Path, *settings: str) -> Job:
    table = {"data": {"source": "data", "target": "y"}, "output": {"model": str(files / "model")}}
    return Job.parse(table, settings=settings, folder=files)


WRONG = {
    "data.target=z": "data.target = 'z': no such column",
    "data.target=day": "the target day is timestamp",
    "data.weight=name": "the weight name is string; weights are numbers",
    "data.group=x training.objective=reg:squarederror": "data.group is for ranking",
    "data.group=g": "data.group = 'g'",
    "data.id=['key']": "data.id = 'key'",
    "data.exclude=['nme']": "did you mean name",
    "data.derive.q=x+w": "data.derive.q: no column w",
    "data.where=x": "data.where: gives double; expected true or false",
    "data.format=csv": "holds no CSV files",
    "data.source=nowhere": "no such file or folder",
    "data.validation={column='x',values=['a']}": "data.validation.values: 'a' does not fit the column x",
    "data.validation={time='name',share=0.1}": "data.validation.time: name is string",
    "training.objective=reg:squarederor": "did you mean reg:squarederror",
    "data.target=name training.objective=reg:squarederror": "the target name is text",
    "training.objective=rank:ndcg": "name the column of query ids",
    "training.metrics=['au']": "unknown metric 'au'",
    "training.quantiles=[0.1,0.9]": "training.quantiles = [0.1, 0.9] is for training.objective = 'reg:quantileerror': for 'auto' it",
    "training.quantiles=[0.5] training.objective=reg:absoluteerror": "for 'reg:absoluteerror' it would be ignored",
    "training.class_weights=balanced training.objective=reg:squarederror": "training.class_weights is for classes",
    "data.positive=1 training.objective=multi:softprob": "data.positive = 1 is for a target of two classes",
    "training.params.max_dept=3": "did you mean max_depth",
    "training.monotone={z=1}": "training.monotone: no feature 'z'",
    "training.interactions=[['x','nam']]": "training.interactions: no feature 'nam'; did you mean name?",
    "preprocess.columns.nam.kind=drop": "preprocess.columns: 'nam' fits no feature; did you mean 'name'",
    "preprocess.columns.name.log1p=true": "name.log1p: is for a number; this column is a category",
    "preprocess.columns.name.clip=[2,1]": "the lowest value comes first",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_mistake_is_reported_before_the_first_task(files: Path, wrong: str) -> None:
    """The client is none: whatever asks it for anything fails otherwise."""
    client = NoClient()
    said: list[events.Event] = []
    with pytest.raises(UserError) as caught:
        pipeline.train(client, job_of(files, *wrong.split(" ")), listen=said.append)
    assert WRONG[wrong] in str(caught.value)
    assert [type(event) for event in said] == [events.Started, events.Failed]
    assert [path.name for path in files.iterdir()] == ["data"]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_plan_refuses_what_a_training_refuses(files: Path, wrong: str) -> None:
    with pytest.raises(UserError) as caught:
        pipeline.plan(job_of(files, *wrong.split(" ")))
    assert WRONG[wrong] in str(caught.value)


def test_a_plan_needs_no_client(files: Path) -> None:
    job = job_of(files, "cluster.workers=2", "cluster.threads=1", "cluster.memory=300MiB", "cluster.device=cpu")
    plan = pipeline.plan(job, workers=[2])
    plan.validate()
    assert isinstance(plan, pipeline.Plan)
    assert plan.size.rows == ROWS
    assert plan.survey.columns == (("x", "double"), ("name", "string"), ("day", "timestamp[ms]"))
    (resources,) = plan.resources
    assert [(one.threads, one.memory_limit_nbytes) for one in resources.workers] == [(1, 300 * 2**20)] * 2
    assert "50 rows, 3 columns, in 1 fragment of 1 file" in str(plan)
    assert [path.name for path in files.iterdir()] == ["data"]


def test_a_plan_of_rows_in_memory(files: Path) -> None:
    table = pa.table({"x": [1.0, 2.0], "y": [0, 1]})
    assert pipeline.plan(job_of(files, "cluster.device=cpu"), source=table).size.rows == 2


def test_behind_a_scheduler_workers_are_assumed(files: Path) -> None:
    plan = pipeline.plan(job_of(files, "cluster.scheduler=tcp://127.0.0.1:1", "cluster.workers=3"))
    assert [(one.limit_nbytes, len(one.workers)) for one in plan.resources] == [(0, 1), (0, 3)]
    assert "tcp://127.0.0.1:1 are known once a client is connected to it; assumed here: 3" in str(plan)


def too_deep(files: Path) -> Job:
    """Histograms of so many columns and nodes take more than any machine has."""
    columns = {f"x{i}": np.arange(4.0) for i in range(20_000)}
    pq.write_table(pa.table({**columns, "y": [0, 1, 0, 1]}), files / "data/0.parquet")
    return job_of(files, "training.params.max_depth=20")


def test_a_run_that_fits_no_worker_is_refused_before_the_first_task(
    client: Client, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a task was submitted")

    monkeypatch.setattr(Client, "_graph_to_futures", fail)
    said: list[events.Event] = []
    with pytest.raises(ClusterError, match=r"2 rows needs .* MiB of memory even with .* its limit is .*: raise"):
        pipeline.train(client, too_deep(files), listen=said.append)
    assert [type(event) for event in said] == [events.Started, events.Failed]
    assert [path.name for path in files.iterdir()] == ["data"]


def test_a_run_that_does_not_fit_starts_no_cluster(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a cluster was started")

    monkeypatch.setattr("pipeline.cluster.launchers.local.start", fail)
    inputs = resolve(too_deep(files))
    with (
        pytest.raises(ClusterError, match="4 rows needs"),
        pipeline.connect(Cluster(workers=1, device="cpu"), first=lambda: check_run(inputs)),
    ):
        pass


REFUSED = """
import sys
from pipeline.cli.main import cli
from pipeline.cli.terminal import run
code = run(cli, ["train", *sys.argv[1:]])
print(code, *({"dask", "distributed", "xgboost"} & sys.modules.keys()))
"""


@pytest.mark.parametrize("arguments", [["--target", "z"], ["--target", "y", "--set", "data.format=csv"]])
def test_the_command_refuses_before_it_imports_dask(files: Path, arguments: list[str]) -> None:
    """The import alone takes as long as everything else before the error."""
    command = [sys.executable, "-c", REFUSED, str(files / "data"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "2\n"
    assert re.fullmatch(r"pipeline: error: .*(no such column|holds no CSV files).*\n", done.stderr)


def test_a_url_is_read_while_the_cluster_starts() -> None:
    local, remote = (Data(source=source) for source in (["a", "b.parquet"], ["a", "s3://bucket/b"]))
    validating = Data(source="a", validation=Validation(source="https://host/b.csv"))
    assert [are_local(one) for one in (local, remote, validating)] == [True, False, False]


def test_a_folder_that_is_taken_is_reported_before_the_first_task(files: Path) -> None:
    (files / "model").mkdir()
    (files / "model/manifest.json").write_text("{}")
    client = NoClient()
    with pytest.raises(UserError, match="exists"):
        pipeline.train(client, job_of(files))


def test_settings_of_columns_without_a_value_wait_for_them(files: Path) -> None:
    """Last month's job runs this month, when a column that it names holds nothing."""
    settings = [
        "preprocess.columns.empty.clip=[0, 1]",
        "preprocess.columns.x.clip=[0, 1]",
        "preprocess.columns.'emp*'.log1p=true",
        "training.monotone={empty=1, x=-1, 'day.hour'=1}",
        "training.interactions=[['empty', 'x'], ['empty']]",
    ]
    inputs = resolve(job_of(files, *settings))
    assert list(inputs.job.preprocess.columns) == ["x"]
    assert inputs.job.training.monotone == {"x": -1, "day.hour": 1}
    assert inputs.job.training.interactions == [["x"]]
    told = [note for note in inputs.notes if "is left out: the column 'empty' has no value in any file" in str(note)]
    assert [str(note).split(":")[0] for note in told] == [
        "preprocess.columns", "preprocess.columns", "training.monotone", "training.interactions",
    ]  # fmt: skip


UNUSED = {
    "training.early_stopping=5": "training.early_stopping = 5 has no effect: no rows are held out (data.validation), all 150",
    "data.csv.separator=;": "data.csv.separator has no effect: no source is CSV",
    "preprocess.smoothing=5.0 preprocess.high_cardinality=hash": "preprocess.smoothing has no effect: no column has the target",
    "preprocess.folds=3 preprocess.columns.name.encoding=codes": "preprocess.folds has no effect: no column has the target",
    "preprocess.hash_bins=9": "preprocess.hash_bins has no effect: no column has the hash encoding",
    "preprocess.min_count=2 data.exclude=['name']": "preprocess.min_count has no effect: no feature column is a category",
    "preprocess.high_cardinality=hash preprocess.columns.name.encoding=codes": "preprocess.high_cardinality has no effect",
    "preprocess.columns.na*.parts=['hour']": "preprocess.columns.na*.parts has no effect: it is for a time, and the matching",
    "preprocess.columns.x={kind='drop',log1p=true}": "preprocess.columns.x.log1p has no effect: it is for a number",
    "cluster.threads=2 cluster.scheduler=tcp://h:1": "cluster.threads has no effect: cluster.scheduler names a running",
    "cluster.gpu_pool=2GiB cluster.device=cpu": "cluster.gpu_pool has no effect: cluster.device",
    "cluster.dashboard_hosts=['h'] cluster.dashboard=false": "cluster.dashboard_hosts has no effect: cluster.dashboard",
}


@pytest.mark.parametrize("settings", UNUSED)
def test_settings_without_effect_are_noted(files: Path, settings: str) -> None:
    (note,) = [str(note) for note in resolve(job_of(files, *settings.split(" "))).notes if "no effect" in str(note)]
    assert note.startswith(UNUSED[settings])


@pytest.mark.parametrize(
    "settings",
    [
        "training.early_stopping=0",
        "training.early_stopping=5 data.validation.share=0.2",
        "preprocess.smoothing=5.0 preprocess.folds=3 preprocess.min_count=2 preprocess.high_cardinality=target",
        "preprocess.hash_bins=9 preprocess.columns.name.encoding=hash preprocess.smoothing=20.0",
        "preprocess.columns.'*'={parts=['hour'],clip=[0,1]} preprocess.columns.'emp*'.log1p=true",
        "cluster.threads=2 cluster.memory=2GiB cluster.gpu_pool=2GiB",
    ],
)
def test_settings_with_an_effect_are_not_noted(files: Path, settings: str) -> None:
    assert [note for note in resolve(job_of(files, *settings.split(" "))).notes if "no effect" in str(note)] == []


def test_options_of_csv_files_have_an_effect_where_a_source_is_csv(files: Path) -> None:
    (files / "0.csv").write_text("x;name;y\n" + "1;a;0\n2;b;1\n" * ROWS)
    inputs = resolve(job_of(files, "data.csv.separator=;"), str(files / "0.csv"))
    assert not [note for note in inputs.notes if "no effect" in str(note)]


def test_constraints_of_columns_that_say_nothing_are_left_out() -> None:
    recipe = Recipe((Number(name="x", column="x"),), {"empty": "missing", "a<b": "constant"})
    assert [recipe.lacks(name) for name in ("x", "empty", "empty.missing", "a_b", "unknown")] == [
        False, True, True, True, False,
    ]  # fmt: skip
    training = Training(monotone={"empty": 1, "x": -1}, interactions=[["empty"], ["x", "a_b"]])
    kept = without_absent(training, recipe)
    assert (kept.monotone, kept.interactions) == ({"x": -1}, [["x"]])
    check_constraints(training, recipe, "regression")
    with pytest.raises(UserError, match="unknown"):
        check_constraints(Training(monotone={"unknown": 1}), recipe, "regression")


@pytest.mark.parametrize("given", ["job.toml", None, {"data": {}}])
def test_something_else_than_a_job_is_refused(client: Any, given: Any) -> None:
    """Its path, above all."""
    calls: list[Callable[[], object]] = [
        lambda: pipeline.plan(given),
        lambda: pipeline.train(client, given),
        lambda: pipeline.prepare(client, given).__enter__(),
    ]
    for call in calls:
        with pytest.raises(JobError, match=f"job is a {type(given).__name__}: give a pipeline.Job"):
            call()
