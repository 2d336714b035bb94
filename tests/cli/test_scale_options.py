"""The command lines of scaling runs: what they ask the verb for, what they refuse, what their help explains."""

import contextlib
import json
from types import SimpleNamespace

import pytest

import pipeline
from benchmarks import scaling as benchmark
from pipeline.cli import scale_options
from pipeline.cli.main import cli
from pipeline.cli.terminal import run
from pipeline.cluster.launchers import local
from pipeline.config.job import Job
from pipeline.scaling.synthetic import Synthetic


@pytest.fixture
def asked(monkeypatch):
    """What the verb was called with; nothing is started."""
    calls = {}

    @contextlib.contextmanager
    def connect(where, *, debug=False, meanwhile=lambda: None, first=lambda: None):
        calls["connect"] = where
        yield SimpleNamespace(dashboard_link="http://127.0.0.1:8787/status", cluster=object())

    def scale(client, job, plan, wish, *, cluster, listen, inputs):
        calls.update(job=job, plan=plan, wish=wish, cluster=cluster)
        return SimpleNamespace(sentences=("One.",), to_dict=lambda: {"name": "a"})

    monkeypatch.setattr(pipeline, "connect", connect, raising=False)
    monkeypatch.setattr(pipeline, "scale", scale, raising=False)
    monkeypatch.setattr(scale_options, "said", lambda result, folder: f"a table, {folder}")
    return calls


@pytest.fixture
def job(tmp_path):
    file = tmp_path / "job.toml"
    file.write_text('[data]\nsource = "d"\ntarget = "y"\n[data.validation]\nshare = 0.3\n[cluster]\nmemory = "1GiB"\n')
    return str(file)


def test_a_job_is_scaled_as_it_stands(asked, job, capsys):
    arguments = ["--workers", "1,2,4", "--threads", "1", "--mode", "strong,weak", "--repeat", "3", "--rounds", "7"]
    assert run(cli, ["scale", job, *arguments, "--out", "x", "--set", "training.params.max_depth=4"]) == 0
    plan, cluster = asked["plan"], asked["connect"]
    assert (plan.workers, plan.modes, plan.repeat, plan.rounds) == ((1, 2, 4), ("strong", "weak"), 3, 7)
    assert (cluster.workers, cluster.threads, cluster.memory) == (4, 1, "1GiB")
    assert isinstance(asked["job"], Job)
    assert asked["job"].training.params == {"max_depth": 4}
    assert asked["job"].data.validation.share == 0.3
    assert (asked["wish"].out, asked["wish"].recalibrate, asked["wish"].force) == ("x", False, False)
    assert capsys.readouterr().out == "a table, x\n"


def test_alarms_are_for_training(asked, job, capsys):
    note = "note: alarms are for pipeline train: those of the job are ignored here\n"
    assert run(cli, ["scale", job, "--out", "x"]) == 0
    assert note not in capsys.readouterr().err
    assert run(cli, ["scale", job, "--out", "x", "--set", 'alarm=[{when = "memory > 0.9"}]']) == 0
    assert note in capsys.readouterr().err


def test_the_benchmark_makes_its_rows(asked, job, capsys):
    arguments = ["--rows", "5000", "--features", "16", "--depth", "4", "--classes", "3", "--workers", "1,2"]
    assert run(benchmark.command, [*arguments, "--shares", "0.3,0.7", "--recalibrate", "--json"]) == 0
    assert asked["job"] == Synthetic(rows=5_000, features=16, depth=4, classes=3)
    assert (asked["plan"].shares, asked["wish"].recalibrate) == ((0.3, 0.7), True)
    assert json.loads(capsys.readouterr().out) == {"name": "a"}
    assert run(benchmark.command, ["--job", job, "--set", "training.rounds=9", "--quiet"]) == 0
    assert asked["job"].training.rounds == 9


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--workers", "2,1"], "--workers 2,1: expected rising numbers"),
        (["--workers", "two"], "'two': expected numbers with commas"),
        (["--mode", "fast"], "--mode fast: expected strong, weak"),
        (["--repeat", "0"], "--repeat 0: at least 1"),
        (["--rounds", "0"], "--rounds 0: at least 1"),
        (["--shares", "0.3,0.3"], "add up to 1"),
        (["--shares", "0.2,0.3,0.5"], "--shares 0.2,0.3,0.5: 3 of them"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(asked, job, capsys, arguments, said):
    for command, start in ((cli, ["scale", job]), (benchmark.command, [])):
        assert run(command, [*start, *arguments]) == 2
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1
    assert "connect" not in asked


@pytest.mark.parametrize(
    ("settings", "said"), [([], "d: no such file or folder"), (["--set", "training.params.max_dept=3"], "max_depth")]
)
def test_what_metadata_can_refuse_is_refused_before_a_cluster_starts(job, monkeypatch, capsys, settings, said):
    monkeypatch.setattr(local, "start", lambda *_: pytest.fail("a cluster starts"))
    assert run(cli, ["scale", job, *settings]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_folder_that_is_taken_is_found_before_a_cluster_starts(job, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(local, "start", lambda *_: pytest.fail("a cluster starts"))
    assert run(cli, ["scale", job, "--out", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("command", [(cli, ["scale", "--help"]), (benchmark.command, ["--help"])])
def test_the_help_alone_says_what_the_figures_mean(command, capsys):
    assert run(*command) == 0
    out = " ".join(capsys.readouterr().out.split())
    for said in (
        "A round takes T seconds",
        "C_i = T - u_i",
        "E = mean u_i * sum of pi_i / C_i: seconds of compute for every second of overhead",
        "PE parallel efficiency: mean u_i / T",
        "J = (sum of pi_i / C_i) * (sum of pi_i * C_i)",
        "GE global efficiency",
        "no metrics, no early stopping",
    ):
        assert said in out
