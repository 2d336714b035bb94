"""The command line in this process, with verbs that only note what they were asked."""

import contextlib
import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import pipeline
from pipeline.cli.main import cli
from pipeline.cli.terminal import plain, run
from pipeline.cluster.interrupts import Terminated
from pipeline.config.job import Cluster, Job
from pipeline.errors import AlarmError, DataError, StrictError, TrainingError
from pipeline.events.types import Checkpoint, Started

REPOSITORY = Path(__file__).parents[2]
VERBS = ["train", "predict", "evaluate", "describe", "scale", "watch", "generate", "doctor"]
CLIENT = SimpleNamespace(dashboard_link="http://127.0.0.1:8787/status", cluster=object())
SUMMARY = {
    "model": "models/late",
    "report": "models/late/report.html",
    "rows": {"train": 800, "validation": 200, "dropped": {"label missing": 7}},
    "features": 9,
    "workers": 1,
    "threads": 2,
    "device": "cpu",
    "rounds": 30,
    "best_round": 21,
    "metrics": {"train": {"logloss": 0.4, "confusion": [[1, 2], [3, 4]]}, "validation": {"logloss": np.float64(0.5)}},
    "seconds": {"rounds": 1.25, "total": 3.5},
    "account": {
        "worker_seconds": 7.0,
        "notes": [],
        "shares": {"useful": 0.7, "transfer": 0.05, "wait": 0.1, "other": 0.1, "idle": 0.04, "remainder": 0.01},
        "stages": {"rounds": {"useful": 4.9, "transfer": 0.35, "wait": 0.8, "other": 0.7, "idle": 0.28}},
    },
    "peak_memory_nbytes": 345_000_000,
    "peak_memory_of": "all processes together",
    "incidents": [],
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict:
    """What the verbs were called with; connecting and loading a model cost nothing here."""
    calls: dict = {}

    @contextlib.contextmanager
    def connect(where, *, debug=False, meanwhile=lambda: None, first=lambda: None):
        calls["connect"] = where
        yield CLIENT

    monkeypatch.setattr("pipeline.run.metadata.open_checked", lambda job, allow_code: None)
    monkeypatch.setattr("pipeline.dashboard.install.register", lambda client: None)
    monkeypatch.setattr("pipeline.runtime.placement.await_workers", lambda client, section, note, modules: None)

    def verb(name, result, began=False):
        def call(*args, **kwargs):
            sys.stdout.write(f"{name} chatters on stdout\n")
            if began:
                kwargs["listen"](Started(verb=name, run="62aa"))
            calls[name] = (args, kwargs)
            return result

        monkeypatch.setattr(pipeline, name, call, raising=False)

    monkeypatch.setattr(pipeline, "connect", connect, raising=False)
    monkeypatch.setattr(
        pipeline,
        "Model",
        SimpleNamespace(load=lambda path, allow_code: f"model in {path}, {allow_code}"),
        raising=False,
    )
    verb("train", SimpleNamespace(summary=SUMMARY), began=True)
    verb("predict", {"rows": 3})
    verb("evaluate", {"auc": 0.75, "nothing": float("nan")})
    verb("generate", {"rows": 10})
    return calls


def job_of(asked: dict, *arguments: str) -> Job:
    assert run(cli, ["train", *arguments, "--quiet"]) == 0
    return asked["train"][0][1]


def test_files_and_a_target_are_a_job_with_a_fifth_held_out(asked):
    job = job_of(asked, "flights/", "--target", "late")
    assert job == Job.parse({"data": {"source": "flights/", "target": "late", "validation": {"share": 0.2}}})
    assert asked["connect"] == job.cluster


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--validation", "0.1"], {"share": 0.1}),
        (["--validation", "test/"], {"source": "test/"}),
        (
            ["--set", "data.validation.column=month", "--set", "data.validation.values=[11]"],
            {"column": "month", "values": [11]},
        ),
        (["--validation", "0"], None),
    ],
)
def test_validation(asked, arguments, expected):
    validation = job_of(asked, "a", "--target", "y", *arguments).data.validation
    assert (validation and validation.model_dump(exclude_defaults=True)) == expected


def test_options_set_fields_and_win_over_the_file(asked, tmp_path):
    file = tmp_path / "job.toml"
    file.write_text('[data]\nsource = "d"\ntarget = "y"\n[data.validation]\nshare = 0.3\n[training]\nrounds = 7\n')
    assert job_of(asked, str(file)).training.rounds == 7
    job = job_of(
        asked, str(file), "--rounds", "8", "--out", "17", "--overwrite", "--no-report", "--workers", "2",
        "--threads", "1", "--device", "cpu", "--scheduler", "tcp://h:1", "--set", "training.seed=5", "--validation", "0",
    )  # fmt: skip
    assert (job.training.rounds, job.training.seed) == (8, 5)
    assert (job.output.model, job.output.overwrite, job.output.report) == ("17", True, False)
    assert job.cluster == Cluster(device="cpu", workers=2, threads=1, scheduler="tcp://h:1")
    assert job.data.source == str(tmp_path / "d")
    assert job.data.validation is None


def test_errors_name_the_option_that_is_at_fault(asked, capfd, tmp_path):
    file = tmp_path / "job.toml"
    file.write_text('[data]\nsource = "d"\ntarget = "y"\n[training]\nrounds = 10\n')
    for arguments, said in (
        (["--rounds", "abc"], "--rounds: training.rounds = 'abc': expected a whole number"),
        (["--rounds", str(2**64)], f"--rounds: training.rounds = {2**64}: expected <= 2147483647"),
        (["--set", "training.rounds=abc"], "--set: training.rounds = 'abc': expected a whole number"),
        (["--validation", "2"], "--validation: data.validation.share = 2: expected < 1"),
    ):
        assert run(cli, ["train", str(file), *arguments, "--quiet"]) == 2
        assert capfd.readouterr().err.startswith(f"pipeline: error: {said}")


@pytest.mark.parametrize("arguments", [["--resume"], ["--rounds"], ["--nonsense"], ["a", "--workers"]])
def test_errors_of_usage_point_to_the_help_of_the_verb(capfd, arguments):
    assert run(cli, ["train", *arguments]) == 2
    assert capfd.readouterr().err.endswith("See 'pipeline train --help'.\n")


def test_several_files_are_one_source(asked):
    assert job_of(asked, "a.csv", "b.csv", "--target", "y").data.source == ["a.csv", "b.csv"]


def test_predict_and_evaluate_pass_on_what_was_asked(asked):
    assert run(cli, ["predict", "m", "a", "b", "--out", "p", "--contributions", "--workers", "2", "--quiet"]) == 0
    (client, model, data), options = asked["predict"]
    assert (client, model, data) == (CLIENT, "model in m, False", ["a", "b"])
    assert (options["out"], options["contributions"], options["overwrite"]) == ("p", True, False)
    assert asked["connect"] == Cluster(workers=2)
    assert run(cli, ["evaluate", "m", "a", "--allow-code", "--quiet"]) == 0
    assert asked["evaluate"][0] == (CLIENT, "model in m, True", "a")


@pytest.mark.parametrize("verb", [["predict", "m", "a", "--out", "p"], ["evaluate", "m", "a"]])
def test_what_can_be_set_where_the_model_says_the_rest(asked, monkeypatch, tmp_path, capfd, verb):
    @contextlib.contextmanager
    def connect(where, *, debug, meanwhile, first):
        first()
        yield asked.setdefault("connect", where) and CLIENT

    opened = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "connect", connect)
    monkeypatch.setattr(f"pipeline.inference.{verb[0]}.open_to_{verb[0]}", lambda model, data, csv: opened.append(csv))
    assert run(cli, [*verb, "--set", "cluster.workers=2", "--set", "data.csv.separator=;", "--quiet"]) == 0
    assert asked["connect"] == Cluster(workers=2)
    assert opened == [{"separator": ";"}]
    assert run(cli, [*verb, "--set", "data.exclude=['x']", "--quiet"]) == 2
    assert "only fields of cluster and data.csv can be set here" in capfd.readouterr().err


def test_describe_takes_a_job_or_settings(asked, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(pipeline, "describe", lambda job: seen.append(job.data) or SimpleNamespace(to_dict=dict))
    (tmp_path / "job.toml").write_text('[data]\nsource = "d"\ntarget = "y"\n')
    assert run(cli, ["describe", str(tmp_path / "job.toml"), "--json"]) == 0
    assert run(cli, ["describe", "a", "b", "--target", "7", "--set", "data.csv.separator=;", "--json"]) == 0
    assert (seen[0].source, seen[0].target) == (str(tmp_path / "d"), "y")
    assert (seen[1].source, seen[1].target, seen[1].csv.separator) == (["a", "b"], "7", ";")


def test_json_is_one_object_on_stdout_and_nothing_else(asked, capfd):
    assert run(cli, ["train", "a", "--target", "y", "--json"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["metrics"]["validation"]["logloss"] == 0.5
    assert "chatters" in err
    assert "note: dashboard at http://127.0.0.1:8787/training (run 62aa)\n" in err
    assert run(cli, ["evaluate", "m", "a", "--json"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out) == {"auc": 0.75, "nothing": None}
    assert "note: dashboard at http://127.0.0.1:8787/status\n" in err


def test_text_for_people(asked, capfd):
    assert run(cli, ["train", "a", "--target", "y"]) == 0
    out = capfd.readouterr().out
    assert re.search(r"train +validation\nlogloss +0\.4 +0\.5\n", out)
    for said in (
        "800 train, 200 validation",
        "7 label missing",
        "30, best 21",
        "1 x 2 threads on cpu",
        "total 3.5",
        "345 MB",
        "models/late/report.html",
    ):
        assert said in out
    account = "where the 7.0 worker-seconds went: 70 % useful, 5 % transfer, 10 % waiting, 10 % other"
    assert "345 MB at the peak, all processes together\n" in out
    assert f"\n\n{account} (rounds 10 %), 4 % idle (1 % unexplained)\nlargest loss: 11 % waiting in rounds: " in out
    assert out.endswith("thereby all)\n")
    assert run(cli, ["train", "a", "--target", "y", "--quiet"]) == 0
    assert capfd.readouterr().out == "models/late\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "other", "--resume", "late"], "--out other with --resume late: .*leave out --out"),
        (["--set", "output.model=other", "--resume", "late"], "leave out --out"),
        (["--resume", "late.checkpoints"], "did you mean --resume late"),
        (["--resume", "nothing"], "nothing to resume"),
        (["--out", "late"], "resume it with --resume"),
        (["--out", "file/late"], "a part of its path is a file"),
    ],
)
def test_wrong_folders_are_reported_before_a_cluster_starts(asked, tmp_path, monkeypatch, capfd, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "late.checkpoints").mkdir()
    (tmp_path / "late.checkpoints" / "round-000008.checkpoint").write_bytes(b"")
    (tmp_path / "file").write_text("")
    assert run(cli, ["train", "a", "--target", "y", *arguments]) == 2
    assert re.search(said, capfd.readouterr().err)
    assert asked == {}
    assert run(cli, ["train", "a", "--target", "y", "--out", "late", "--resume", "late", "--quiet"]) == 0


def training_stops(monkeypatch, tmp_path, error, *, told, stands):
    """Has a training fail after a checkpoint in round 180: whether its event was emitted, and whether its file exists."""

    def stop(*_, listen, **__):
        if told:
            listen(Checkpoint(round=180, path=str(tmp_path / "late"), seconds=0.1))
        raise error

    monkeypatch.setattr(pipeline, "train", stop)
    if stands:
        (tmp_path / "late.checkpoints").mkdir()
        (tmp_path / "late.checkpoints" / "round-000180.checkpoint").write_bytes(b"")


@pytest.mark.parametrize("checkpoints", [True, False])
def test_how_to_resume_where_an_alarm_has_ended_the_run(asked, tmp_path, monkeypatch, capfd, checkpoints):
    error = AlarmError("stopped by the alarm restarts > 2 (now 3)")
    training_stops(monkeypatch, tmp_path, error, told=checkpoints, stands=checkpoints)
    assert run(cli, ["train", "a", "--target", "y", "--quiet"]) == 1
    _, *how = capfd.readouterr().err.splitlines()
    if checkpoints:
        assert how == [
            "pipeline: the last checkpoint is of round 180; a run resumed with the same alarm may end there again",
            f"pipeline: resume with: pipeline train a --target y --quiet --resume {tmp_path}/late",
        ]
    else:
        (line,) = how
        assert "there is no checkpoint to resume from yet" in line


def test_how_to_resume_where_a_finding_has_ended_a_strict_run(asked, tmp_path, monkeypatch, capfd):
    training_stops(monkeypatch, tmp_path, StrictError("no tree has a split"), told=True, stands=True)
    assert run(cli, ["train", "a", "--target", "y", "--set", "data.strict=true", "--quiet"]) == 2
    how = f"--set data.strict=true --quiet --resume {tmp_path}/late --set data.strict=false"
    assert capfd.readouterr().err.splitlines()[-1] == f"pipeline: resume with: pipeline train a --target y {how}"


@pytest.mark.parametrize("checkpoints", [True, False])
def test_how_to_resume_where_a_checkpoint_exists(asked, tmp_path, monkeypatch, capfd, checkpoints):
    training_stops(monkeypatch, tmp_path, TrainingError("the disk is full"), told=True, stands=checkpoints)
    assert run(cli, ["train", "a", "--target", "y", "--quiet"]) == 1
    lines = capfd.readouterr().err.splitlines()
    how = [
        "the last checkpoint is of round 180",
        f"resume with: pipeline train a --target y --quiet --resume {tmp_path}/late",
    ]
    assert lines[1:] == ([f"pipeline: {line}" for line in how] if checkpoints else [])


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DataError("no column\nlate"), 2, "pipeline: error: no column late\n"),
        (TrainingError("a worker was lost"), 1, "pipeline: error: a worker was lost\n"),
        (ZeroDivisionError("oh"), 1, "pipeline: error: ZeroDivisionError: oh; run with --debug for the traceback\n"),
        (KeyboardInterrupt(), 130, "pipeline: interrupted\n"),
        (Terminated(15), 143, "pipeline: ended by SIGTERM\n"),
        (Terminated(1), 129, "pipeline: ended by SIGHUP\n"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(asked, monkeypatch, capfd, error, code, line, as_json):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(pipeline, "train", fail)
    assert run(cli, ["train", "a", "--target", "y", *(["--json"] if as_json else [])]) == code
    out, err = capfd.readouterr()
    assert err == line
    if as_json:
        assert json.loads(out)["error"]["exit_code"] == code
    else:
        assert out == ""


def test_an_error_that_an_interrupt_turned_into_is_the_interrupt(asked, monkeypatch, capfd):
    def fail(*_, **__):
        try:
            raise Terminated(15)
        finally:
            threading.Lock().release()  # as Condition.wait does if it is interrupted while it takes its lock again

    monkeypatch.setattr(pipeline, "train", fail)
    assert run(cli, ["train", "a", "--target", "y"]) == 143
    assert capfd.readouterr().err == "pipeline: ended by SIGTERM\n"


def test_debug_shows_where(asked, monkeypatch, capfd):
    monkeypatch.setattr(pipeline, "train", lambda *_, **__: 1 / 0)
    assert run(cli, ["train", "a", "--target", "y", "--debug"]) == 1
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.parametrize("arguments", [["predict"], ["trian"], ["train", "a", "--target"], ["train", "a", "--nothing"]])
def test_usage_errors_are_one_line_with_a_hint(capfd, arguments):
    assert run(cli, arguments) == 2
    out, err = capfd.readouterr()
    assert re.fullmatch(r"pipeline: error: .*See 'pipeline.* --help'\.\n", err)
    assert out == ""


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example_and_the_exit_codes(capfd, verb):
    assert run(cli, [verb, "--help"]) == 0
    out = capfd.readouterr().out
    assert f"  pipeline {verb}" in out
    assert "130 interrupted" in out
    assert all(option in out for option in ("--json", "--quiet", "--debug"))


def test_fields_are_all_fields_of_the_job(capfd):
    assert run(cli, ["train", "--fields"]) == 0
    out = capfd.readouterr().out
    assert re.search(r"^training\.rounds +150 +boosting rounds at most$", out, re.MULTILINE)
    assert "data.csv.header" in out
    assert "preprocess.columns.NAME.clip" in out


def test_help_imports_nothing_heavy():
    code = "import sys; from pipeline.cli.main import cli; from pipeline.cli.terminal import run; run(cli, ['train', '--help']); print(sorted(sys.modules))"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = done.stdout.splitlines()[-1]
    assert not [
        name for name in ("numpy", "pyarrow", "distributed", "xgboost", "duckdb", "bokeh") if f"'{name}'" in modules
    ]
    assert time.perf_counter() - start < 5  # 0.2 s on an idle machine; the list above is the exact check


def test_plain_values():
    value = {"a": np.float32(0.5), 2: (np.int64(3), float("inf")), "path": Path("x"), "array": np.arange(2)}
    assert plain(value) == {"a": 0.5, "2": [3, None], "path": "x", "array": [0, 1]}
