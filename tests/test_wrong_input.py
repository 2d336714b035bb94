"""Every wrong input that users come with, through the command in a process of its own.

Each gives one line on stderr and exit code 2: no traceback, nothing half-written.
"""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.model.artifact import Model

ROWS = 400
LIMIT_SECONDS = 120  # a run takes 1 to 4; a machine may be busy


@dataclass(frozen=True)
class Wrong:
    """One wrong input: what is asked, and what the line has to say."""

    name: str
    arguments: str  # {data}, {model}: the folders that the fixtures made
    says: str  # regular expression
    prefix: tuple[str, ...] = field(default=())  # of the command


def run_pipeline(arguments: list[str], folder: Path, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, "-m", "pipeline", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)


def good_table(rows: int = ROWS) -> pa.Table:
    rng = np.random.default_rng(0)
    x = rng.normal(size=rows)
    return pa.table({
        "x": x,
        "other": rng.normal(size=rows),
        "carrier": rng.choice(["AA", "UA", "DL"], rows),
        "query": np.arange(rows) // 10,
        "minutes": x * 10 + rng.normal(size=rows),
        "late": x + rng.normal(size=rows) > 0.5,
    })  # fmt: skip


def with_column(name: str, values: Any) -> pa.Table:
    table = good_table()
    return table.set_column(
        table.schema.get_field_index(name), name, values if isinstance(values, pa.Array) else pa.array(values)
    )


@pytest.fixture(scope="module")
def bad_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of folders, each with its own trouble, and "good"."""
    root = tmp_path_factory.mktemp("data")

    def write(name: str, table: pa.Table, file: str = "part-0.parquet") -> Path:
        (root / name).mkdir(exist_ok=True)
        pq.write_table(table, root / name / file)
        return root / name / file

    write("good", good_table())
    write("few", good_table(1))
    (root / "empty").mkdir()
    (root / "not_parquet").mkdir()
    (root / "not_parquet" / "a.parquet").write_text("These are not the rows you are looking for.\n" * 20)
    cut = write("truncated", good_table())
    cut.write_bytes(cut.read_bytes()[:-200])
    write("drifted", good_table())
    write("drifted", with_column("x", ["text"] * ROWS), "part-1.parquet")
    write("nested", good_table().append_column("pair", pa.array([[1, 2]] * ROWS)))
    write("no_target", with_column("late", pa.nulls(ROWS, pa.bool_())))
    write("one_class", with_column("late", [True] * ROWS))
    write("infinite", with_column("x", [1.0] * 7 + [float("inf")] + [2.0] * (ROWS - 8)))
    write("infinite_label", with_column("minutes", [1.0] * 7 + [float("inf")] + [2.0] * (ROWS - 8)))
    write("negative_weight", good_table().append_column("w", pa.array([1.0] * (ROWS - 1) + [-1.0])))
    write("scattered", with_column("query", np.arange(ROWS) % 7).append_column("grade", pa.array(np.arange(ROWS) % 3)))
    write("lacking", good_table().drop_columns(["other"]))
    write("wrong_type", with_column("x", ["text"] * ROWS))
    (root / "ragged.csv").write_text("x,other,late\n1,2,true\n1,2\n3,4,5,6\n" * 30)
    (root / "latin.csv").write_bytes(b"name,late\ncaf\xe9,1\nna\xefve,0\n" * 30)
    jobs = {
        "unknown_key": '[training]\nroundz = 5\n',
        "unknown_section": "[trainning]\nrounds = 5\n",
        "bad_type": '[training]\nrounds = "many"\n',
        "bad_range": "[training]\nmax_bin = 1000\n",
        "not_toml": "[training\n",
        "two_ways": 'validation = { share = 0.1, column = "query", values = [1] }\n',
        "bad_sql": 'derive = { y = "other >>> 15" }\n',
        "unknown_column_in_sql": 'derive = { y = "othr > 15" }\n',
        "reads_a_file": "derive = { y = \"(SELECT content FROM read_text('/etc/hostname'))\" }\n",
        "reads_a_file_by_name": "derive = { y = \"read_text('/etc/hostname')\" }\n",
        "aggregate": 'derive = { y = "sum(x)" }\n',
        "bad_where": 'where = "carrier LIKE"\n',
        "user_code": 'function = "json:loads"\n',
    }  # fmt: skip
    for name, text in jobs.items():
        (root / f"{name}.toml").write_text(f'[data]\nsource = "good"\ntarget = "late"\n{text}')
    return root


@pytest.fixture(scope="module")
def models(bad_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models: a good one, one with a flipped byte in each file, one of a newer format."""
    root = tmp_path_factory.mktemp("models")
    arguments = [
        "train",
        str(bad_data / "good"),
        "--target",
        "late",
        "--rounds",
        "3",
        "--out",
        "good",
        "--no-report",
        "--quiet",
    ]
    done = run_pipeline(arguments, root)
    assert done.returncode == 0, done.stderr
    damage = {"flipped": "model.ubj", "flipped_recipe": "recipe.json", "newer": "", "no_manifest": "", "code": ""}
    for name, file in damage.items():
        shutil.copytree(root / "good", root / name)
        if file:
            content = bytearray((root / name / file).read_bytes())
            content[len(content) // 2] ^= 1
            (root / name / file).write_bytes(bytes(content))
    (root / "no_manifest" / "manifest.json").unlink()
    newer = root / "newer" / "manifest.json"
    manifest = json.loads(newer.read_text())
    newer.write_text(json.dumps({**manifest, "format_version": manifest["format_version"] + 1}))
    trained = Model.load(root / "good").manifest
    calling = dataclasses.replace(trained, derivation=dataclasses.replace(trained.derivation, function="json:loads"))
    (root / "code" / "manifest.json").write_bytes(calling.render())
    return root


TRAIN = "train {data}/%s --target late --out out/model"
JOB = "train {data}/%s.toml --out out/model"
GOOD = TRAIN % "good"
FULL_DISK = ("bash", "-c", 'ulimit -f 1; exec "$@"', "bash")  # no file may grow beyond 1 KiB

WRONG_SOURCES = [
    Wrong("no such path", TRAIN % "nowhere", "nowhere"),
    Wrong("no such job", "train {data}/nowhere.toml", "nowhere.toml: no such job file"),
    Wrong("empty folder", TRAIN % "empty", "empty"),
    Wrong("not Parquet inside", TRAIN % "not_parquet", r"a\.parquet"),
    Wrong("truncated Parquet", TRAIN % "truncated", r"part-0\.parquet"),
    Wrong("ragged CSV", TRAIN % "ragged.csv", r"ragged\.csv"),
    Wrong("bad encoding", TRAIN % "latin.csv", r"latin\.csv.*(UTF|utf|encod)"),
    Wrong("drifted schema", TRAIN % "drifted", r"part-1\.parquet.*\bx\b.*(double.*string|string.*double)"),
    Wrong("nested column", TRAIN % "nested", r"\bpair\b"),
]
WRONG_DATA = [
    Wrong("unknown target", "train {data}/good --target lat --out out/model", r"lat\b.*late"),
    Wrong("no target", "train {data}/good --out out/model", "target"),
    Wrong("target all missing", TRAIN % "no_target", "late"),
    Wrong("one class", TRAIN % "one_class", "late.*(one class|single|only)"),
    Wrong("text for regression", "train {data}/good --target carrier --set training.objective=reg:squarederror --out out/m", "carrier"),
    Wrong("infinite feature", TRAIN % "infinite", r"\bx\b.*\b7\b"),
    Wrong("infinite label", "train {data}/infinite_label --target minutes --out out/model", "minutes.*inf"),
    Wrong("negative weight", TRAIN % "negative_weight" + " --set data.weight=w", r"\bw\b.*(negative|-1)"),
    Wrong("ranking without group", GOOD + " --set training.objective=rank:ndcg", "group"),
    Wrong("unknown group", GOOD + " --set training.objective=rank:ndcg --set data.group=quary", "quary.*query"),
    Wrong(
        "scattered group",
        "train {data}/scattered --target grade --out out/m --set training.objective=rank:ndcg --set data.group=query",
        "(query|group)",
    ),
    Wrong("too few rows", TRAIN % "few", "row"),
]  # fmt: skip
WRONG_JOBS = [
    Wrong(
        "unknown key", JOB % "unknown_key", r"unknown_key\.toml: unknown key training\.roundz; did you mean rounds\?"
    ),
    Wrong("unknown section", JOB % "unknown_section", "did you mean training"),
    Wrong("bad type", JOB % "bad_type", "training.rounds = 'many'"),
    Wrong("bad range", JOB % "bad_range", r"training\.max_bin = 1000.*255"),
    Wrong("not TOML", JOB % "not_toml", r"not_toml\.toml: not a readable TOML file"),
    Wrong("two ways of validation", JOB % "two_ways", "validation"),
    Wrong("unknown key by --set", GOOD + " --set training.roundz=5", "roundz.*rounds"),
    Wrong("no value in --set", GOOD + " --set training.rounds", "section.field=value"),
    Wrong("bad option", GOOD + " --rounds none", "training.rounds = 'none'"),
    Wrong("unknown option", GOOD + " --round 5", "--round"),
    Wrong("unknown verb", "trian {data}/good", "trian"),
    Wrong("unknown XGBoost parameter", GOOD + " --set training.params.max_dept=3", "max_dept.*max_depth"),
    Wrong("unknown objective", GOOD + " --set training.objective=binary:logistik", "binary:logistik.*binary:logistic"),
    Wrong("unknown metric", GOOD + " --set training.metrics=['loglos']", "loglos.*logloss"),
    Wrong("bad SQL", JOB % "bad_sql", r"data\.derive\.y.*>>>"),
    Wrong("unknown column in SQL", JOB % "unknown_column_in_sql", "othr"),
    Wrong("SQL that reads a file", JOB % "reads_a_file", r"\by\b"),
    Wrong("SQL that reads a file by name", JOB % "reads_a_file_by_name", "read_text"),
    Wrong("aggregate", JOB % "aggregate", "sum"),
    Wrong("bad filter", JOB % "bad_where", "where"),
    Wrong("user's code without leave", JOB % "user_code", "--allow-code"),
]
WRONG_PLACES = [
    Wrong("scheduler not reachable", GOOD + " --scheduler tcp://127.0.0.1:9", r"127\.0\.0\.1:9"),
    Wrong("host name not known", GOOD + " --scheduler tcp://nosuch.invalid:8786", r"nosuch\.invalid is not known"),
    Wrong(
        "events into a folder", GOOD + " --events {data}/good", "good: events cannot be written there: Is a directory"
    ),
    Wrong(
        "events into something else", GOOD + " --events {data}/ragged.csv", r"ragged\.csv.*does not begin with an event"
    ),
    Wrong("events without a name", GOOD + " --events=", "--events '': expected the name of a file"),
    Wrong("watch what is no record", "watch {data}/ragged.csv", r"ragged\.csv:1: damaged"),
    Wrong("watch nothing", "watch {data}/nowhere", "nowhere: no recorded events: No such file"),
    Wrong("watch a device", "watch /dev/zero", "/dev/zero: no recorded events: not a regular file"),
    Wrong("watch a host and a port", "watch 127.0.0.1:8786", "given as tcp://127.0.0.1:8786"),
    Wrong("port that is none", "watch {data}/nowhere --port 99999", "99999 is not in the range 0<=x<=65535"),
    Wrong("model folder exists", "train {data}/good --target late --out {model}/good", "exists.*overwrite"),
    Wrong("not writable", "train {data}/good --target late --out {data}/good/part-0.parquet/model", "part-0.parquet"),
    Wrong("not writable at all", "train {data}/good --target late --out /proc/model", "/proc/model"),
    Wrong("disk full", GOOD, "out/model", FULL_DISK),
    Wrong("disk full at predictions", "predict {model}/good {data}/good --out out/p", "out.*too large", FULL_DISK),
]
WRONG_MODELS = [
    Wrong("no such model", "predict {model}/nothing {data}/good --out out/p", "nothing"),
    Wrong("no manifest", "predict {model}/no_manifest {data}/good --out out/p", "manifest"),
    Wrong("flipped byte", "predict {model}/flipped {data}/good --out out/p", r"model\.ubj"),
    Wrong("flipped byte in the recipe", "evaluate {model}/flipped_recipe {data}/good", r"recipe\.json"),
    Wrong("newer format", "describe {model}/newer", "newer|format"),
    Wrong("user's code without leave to predict", "predict {model}/code {data}/good --out out/p", "--allow-code"),
    Wrong("user's code without leave to evaluate", "evaluate {model}/code {data}/good", "--allow-code"),
    Wrong("column lacking", "predict {model}/good {data}/lacking --out out/p", r"\bother\b"),
    Wrong("wrong type", "predict {model}/good {data}/wrong_type --out out/p", r"\bx\b.*string"),
    Wrong("predictions exist", "predict {model}/good {data}/good --out {data}/empty", "exists"),
    Wrong("nothing to predict", "predict {model}/good {data}/nowhere --out out/p", "nowhere"),
    Wrong("evaluate without target", "evaluate {model}/good {data}/no_target", "late"),
]  # fmt: skip
EVERY = [*WRONG_SOURCES, *WRONG_DATA, *WRONG_JOBS, *WRONG_PLACES, *WRONG_MODELS]


@pytest.fixture
def ask(bad_data: Path, models: Path, tmp_path: Path) -> Callable[[Wrong], subprocess.CompletedProcess[str]]:
    def ask_it(wrong: Wrong) -> subprocess.CompletedProcess[str]:
        (tmp_path / "out").mkdir()
        arguments = wrong.arguments.format(data=bad_data, model=models).split()
        return run_pipeline([*arguments, "--quiet"], tmp_path, wrong.prefix)

    return ask_it


@pytest.mark.parametrize("wrong", EVERY, ids=lambda wrong: wrong.name)
def test_wrong_input_is_one_line_and_exit_code_2(wrong, ask, tmp_path, bad_data, models):
    before = set(bad_data.rglob("*")), set(models.rglob("*"))
    done = ask(wrong)
    assert "Traceback" not in done.stderr
    assert re.fullmatch(r"pipeline: error: .+\n", done.stderr), done.stderr
    assert re.search(wrong.says, done.stderr), done.stderr
    assert (done.returncode, done.stdout) == (2, "")
    assert list(tmp_path.rglob("*")) == [tmp_path / "out"]
    assert (set(bad_data.rglob("*")), set(models.rglob("*"))) == before


@pytest.mark.slow
def test_a_scheduler_that_is_not_there_is_given_up_within_ten_seconds(ask):
    start = time.monotonic()
    ask(next(wrong for wrong in WRONG_PLACES if wrong.name == "scheduler not reachable"))
    assert time.monotonic() - start < 10 + 5  # and five for Python to start and end on a busy machine


def test_gpu_asked_and_absent(ask):
    from pipeline.cluster.devices import probe_gpu

    if probe_gpu().reason_unusable is None:
        pytest.skip("this machine has a usable GPU")
    done = ask(Wrong("", f"{GOOD} --device cuda", ""))
    assert done.returncode == 2
    assert re.fullmatch(r"pipeline: error: .*(GPU|CUDA|cuda).*\n", done.stderr)


def test_more_workers_than_a_running_scheduler_has(ask, client):
    done = ask(Wrong("", f"{GOOD} --scheduler {client.scheduler.address} --workers 7", ""))
    assert done.returncode == 2
    assert re.fullmatch(r"pipeline: error: .*\b7\b.*\b2\b.*\n|pipeline: error: .*\b2\b.*\b7\b.*\n", done.stderr), (
        done.stderr
    )


def test_more_workers_than_cores_is_only_noted(bad_data, tmp_path):
    import os

    workers = len(os.sched_getaffinity(0)) + 1
    arguments = ["train", str(bad_data / "good"), "--target", "late", "--rounds", "2", "--out", "m", "--no-report"]
    done = run_pipeline([*arguments, "--workers", str(workers), "--threads", "1", "--json"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "oversubscribed" in done.stderr
    assert json.loads(done.stdout)["oversubscribed"] is True


def test_json_says_what_was_wrong(bad_data, tmp_path):
    done = run_pipeline(["train", str(bad_data / "nowhere"), "--target", "late", "--json", "--quiet"], tmp_path)
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert error["exit_code"] == 2
    assert done.stderr == f"pipeline: error: {error['message']}\n"
