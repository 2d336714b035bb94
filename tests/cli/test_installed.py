"""The installed command in processes of its own: each verb on a little data, and Ctrl-C."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.dataset
import pytest

COMMAND = str(Path(sys.executable).with_name("pipeline"))
ROWS = 6_000


def run_pipeline(*arguments: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated flights, by the command."""
    root = tmp_path_factory.mktemp("installed")
    done = run_pipeline("generate", root / "flights", "--rows", ROWS, "--files", 3, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == ROWS
    return root


@pytest.fixture(scope="module")
def summary(folder: Path) -> dict:
    """What `train --json` says."""
    derived = ["--set", "data.derive.late=arr_delay > 15", "--set", "data.exclude=['dep_delay', 'taxi_out']"]
    done = run_pipeline(
        "train", folder / "flights", "--target", "late", *derived, "--rounds", 10, "--out", folder / "model", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert "plan: 6,000 rows" in done.stderr
    assert "round 10/10" in done.stderr
    return json.loads(done.stdout)


def test_train_says_what_it_did(summary, folder):
    assert summary["model"] == str(folder / "model")
    assert summary["rows"]["train"] + summary["rows"]["validation"] + sum(summary["rows"]["dropped"].values()) == ROWS
    assert 0.15 < summary["rows"]["validation"] / ROWS < 0.25
    assert summary["rounds"] == 10
    assert set(summary["metrics"]) == {"train", "validation"}
    stages = ["import", "connect", "statistics", "blocks", "matrix", "rounds", "evaluate", "save", "total"]
    assert set(stages) <= set(summary["seconds"])
    assert summary["seconds"]["total"] == pytest.approx(sum(summary["seconds"].values()) / 2, rel=0.02)
    assert 50e6 < summary["peak_memory_nbytes"] < 5e9
    assert {"features", "workers", "threads", "best_round", "versions", "sha256"} <= set(summary)


@pytest.mark.slow
def test_predict_and_evaluate(summary, folder):
    done = run_pipeline(
        "predict", folder / "model", folder / "flights", "--out", folder / "p", "--contributions", "--json"
    )
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)
    table = pyarrow.dataset.dataset(folder / "p", format="parquet").to_table()
    assert table["row"].to_pylist() == list(range(ROWS))
    assert {"prediction", "probability"} < set(table.column_names)
    assert any(name.startswith("contribution_") for name in table.column_names)
    done = run_pipeline("evaluate", folder / "model", folder / "flights", "--json")
    assert done.returncode == 0, done.stderr
    assert 0.5 < json.loads(done.stdout)["auc"] <= 1


def test_describe_files_and_model(summary, folder):
    done = run_pipeline("describe", folder / "flights", "--target", "carrier", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == ROWS
    done = run_pipeline("describe", folder / "flights", "--target", "carrier")
    assert "6,000" in done.stdout
    assert re.search(r"^scheduled +timestamp", done.stdout, re.MULTILINE)
    done = run_pipeline("describe", folder / "model")
    assert "late" in done.stdout
    done = run_pipeline("describe", folder / "model", "--json")
    assert "files" in json.loads(done.stdout)


@pytest.mark.slow
def test_doctor():
    done = run_pipeline("doctor", "--json")
    assert done.returncode == 0, done.stderr
    assert "xgboost" in json.loads(done.stdout)["versions"]
    assert re.search(r"^problems +", run_pipeline("doctor").stdout, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (signal.SIGINT, 130, "pipeline: interrupted\n"),
        (signal.SIGHUP, 129, "pipeline: ended by SIGHUP\n"),
        (signal.SIGTERM, 143, "pipeline: ended by SIGTERM\n"),
    ],
)
def test_signals_end_a_run_at_once(folder, number, code, line):
    """As from a terminal: the signal goes to the whole group; nothing is left but one line and the exit code.

    SIGTERM, which batch systems send, reaches the workers too: they may be reported as lost.
    """
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
    arguments = ["train", folder / "flights", "--target", "distance", "--rounds", "1000000", "--out", folder / "never"]
    command = [COMMAND, *map(str, arguments), "--set", "training.early_stopping=0", "--no-report"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stderr is not None
        started = iter(process.stderr.readline, "")
        assert any(line.startswith("round ") for line in started)
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, number)
        start = time.monotonic()
        said = [told for told in process.stderr if not told.startswith("round ")]
        assert process.wait(timeout=30) == code
    assert time.monotonic() - start < 8  # the workers stop within 5; then Python has to end
    assert [told for told in said if not re.match(r"worker \d lost", told)] == [line]
    assert number == signal.SIGTERM or said == [line]
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    assert not (folder / "never").exists()
