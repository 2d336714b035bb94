"""`pipeline plan`: options, refusals, exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROWS = 2_000


def command(*words: str, state: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline", "plan", *words], capture_output=True, text=True, check=False,
        env={**os.environ, "XDG_STATE_HOME": str(state)},
    )  # fmt: skip


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    x = rng.random((ROWS, 3))
    folder = tmp_path / "rows"
    folder.mkdir()
    pq.write_table(
        pa.table({**{f"x{place}": x[:, place] for place in range(3)}, "y": (x[:, 0] > 0.5).astype(np.int8)}),
        folder / "0.parquet",
    )
    return folder


def test_a_plan_without_a_probe(rows: Path, tmp_path: Path) -> None:
    done = command(str(rows), "--target", "y", "--workers", "1,2", "--probe", "0", "--json", state=tmp_path / "state")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [one["workers"] for one in document["layouts"]] == [1, 2]
    assert document["best"]["workers"] == 1
    assert any("do not distribute" in answer for answer in document["answers"])
    assert any("2 workers asked, the rows lie in 1 fragment" in answer for answer in document["answers"])
    assert not (tmp_path / "state").exists()


@pytest.mark.slow
def test_1_a_plan_with_a_probe(rows: Path, tmp_path: Path) -> None:
    done = command(str(rows), "--target", "y", "--probe", "1", state=tmp_path / "state")
    assert done.returncode == 0, done.stderr
    assert "numbers from  a probe of" in done.stdout
    assert "####" in done.stdout


@pytest.mark.parametrize(("words", "said"), [
    (["--deadline", "soon"], "--deadline soon: expected"),
    (["--deadline", "0s"], "--deadline 0s: expected"),
    (["--budget", "-1"], "--budget -1: expected"),
    (["--budget", "5"], "a budget needs prices"),
    (["--prices", "absent.toml"], "absent.toml"),
    (["--workers", "0"], "workers"),
    (["--workers", "two"], "expected numbers with commas"),
    (["--deadline", "1s"], "no layout is sure to end within --deadline 1 s: the nearest is 1 worker"),
    (["--target", "absent"], "absent"),
])  # fmt: skip
def test_a_mistake_is_one_line_and_exit_code_2(rows: Path, tmp_path: Path, words: list[str], said: str) -> None:
    target = [] if "--target" in words else ["--target", "y"]
    done = command(str(rows), *target, "--probe", "0", *words, state=tmp_path / "state")
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_scheduler_that_is_not_there(rows: Path, tmp_path: Path) -> None:
    words = [str(rows), "--target", "y", "--scheduler", "tcp://127.0.0.1:9", "--set", "cluster.wait_seconds=1"]
    done = command(*words, state=tmp_path / "state")
    assert done.returncode in (1, 2)
    assert "127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_given(tmp_path: Path) -> None:
    done = command(state=tmp_path / "state")
    assert done.returncode == 2
    assert "expected a job file, or files and --target" in done.stderr


def test_8_audits_of_a_machine_without_runs(tmp_path: Path) -> None:
    done = command("--audits", state=tmp_path / "state")
    assert done.returncode == 0
    assert done.stdout.strip() == "no run on this machine yet"
