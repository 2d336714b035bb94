"""The data sets that plans are compared with, and the runs on them, at toy size."""

import json
import tomllib
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow.dataset as pads
import pytest
from click.testing import CliRunner

from benchmarks import plan_runs
from benchmarks.plan_runs import command, toml_of
from benchmarks.plan_sets import FILES, NAMED, SETS, PlanSet
from benchmarks.small_job_shapes import TARGET
from pipeline.config.job import Job

TOY = 0.01  # of the rows
GENERATED = [name for name, one in SETS.items() if not one.real]
REAL = [name for name, one in SETS.items() if one.real]


def test_names() -> None:
    assert set(NAMED) <= set(SETS)
    assert all(name == one.name for name, one in SETS.items())


@pytest.mark.parametrize("name", GENERATED)
def test_generated_sets(name: str, tmp_path: Path) -> None:
    fields = SETS[name].job(tmp_path, TOY)
    job = Job.parse(fields)
    assert job.training.rounds == SETS[name].rounds
    folder = Path(fields["data"]["source"])
    files = sorted(folder.iterdir())
    assert len(files) >= 4
    rows = pads.dataset(folder, format=files[0].suffix[1:])
    assert rows.count_rows() > 0
    assert job.data.target == TARGET
    assert TARGET in rows.schema.names
    if files[0].suffix == ".parquet":
        assert sum(fragment.num_row_groups for fragment in rows.get_fragments()) == 2 * FILES


@pytest.mark.parametrize("name", REAL)
def test_real_sets(name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_DATA", str(data))
    assert SETS[name].available()
    fields = SETS[name].job(tmp_path, TOY)
    job = Job.parse(fields)
    assert job.training.rounds == SETS[name].rounds
    assert job.training.early_stopping == 0
    if SETS[name].write is None:
        assert fields["data"]["source"].startswith(str((data / SETS[name].real).resolve()))


def test_sources_are_absolute(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are relative to the folder that a run writes its job file to, otherwise."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(data)
    monkeypatch.setenv("PIPELINE_DATA", "data")
    for name in ("rank", "csv"):
        source = SETS[name].job(Path("cache"), TOY)["data"]["source"]
        assert Path(source).is_absolute()
        assert Path(source).exists()


def test_files_are_written_once_and_completely(tmp_path: Path) -> None:
    calls = []

    def write(folder: Path, share: float) -> None:
        (folder / "rows.csv").write_text("label,x\n1,2\n", encoding="ascii")
        calls.append(share)
        if len(calls) == 1:
            raise KeyboardInterrupt

    toy = PlanSet("toy", "toy", 3, {}, write)
    with pytest.raises(KeyboardInterrupt):
        toy.job(tmp_path)
    assert toy.job(tmp_path) == toy.job(tmp_path)
    assert toy.job(tmp_path, 0.5) != toy.job(tmp_path)
    assert calls == [1, 1, 0.5]


def test_missing_values(tmp_path: Path) -> None:
    rows = pads.dataset(SETS["holes"].job(tmp_path, TOY)["data"]["source"]).to_table()
    share = rows["x3"].null_count / rows.num_rows
    assert 0.08 < share < 0.12
    assert rows[TARGET].null_count == 0


def test_classes_are_even(tmp_path: Path) -> None:
    rows = pads.dataset(SETS["classes10"].job(tmp_path, TOY)["data"]["source"]).to_table()
    _, counts = np.unique(rows[TARGET].to_numpy(), return_counts=True)
    assert len(counts) == 10
    assert max(counts) - min(counts) <= 1


def test_jobs_survive_toml(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_DATA", str(data))
    for name in REAL:
        fields = SETS[name].job(tmp_path, TOY)
        assert Job.parse(tomllib.loads(toml_of(fields))) == Job.parse(fields), name


def run_command(*words: str) -> tuple[str, list[Any]]:
    """Output of `plan_runs`, and the lines of its file."""
    result = CliRunner().invoke(command, words, catch_exceptions=False, standalone_mode=False)
    out = Path(words[words.index("--out") + 1])
    return result.output, [json.loads(line) for line in out.read_text("utf-8").splitlines()] if out.exists() else []


def test_runs_in_the_file_are_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []

    def attempt(one: PlanSet, layout: str, *rest: Any) -> dict[str, Any]:
        measured.append((one.name, layout, rest[0]))
        return {"layout": layout, "wall_seconds": 1.0, "cpu_seconds": 2.0}

    monkeypatch.setattr(plan_runs, "attempt", attempt)
    out = str(tmp_path / "runs.jsonl")
    run_command("--sets", "csv,long", "--layouts", "1x1", "--out", out)
    run_command("--sets", "csv,long", "--layouts", "1x1,2x1", "--out", out)
    _, lines = run_command("--sets", "csv", "--layouts", "1x1", "--rounds", "7", "--repeat", "2", "--out", out)
    assert measured == [
        ("csv", "1x1", None), ("long", "1x1", None), ("csv", "2x1", None), ("long", "2x1", None),
        ("csv", "1x1", 7), ("csv", "1x1", 7),
    ]  # fmt: skip
    assert [line["key"][-1] for line in lines] == [0, 0, 0, 0, 0, 1]


def test_sets_without_data_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_DATA", str(tmp_path))
    output, lines = run_command("--sets", "adult", "--layouts", "1x1", "--out", str(tmp_path / "runs.jsonl"))
    assert "left out: no adult in" in output
    assert lines == []


def test_unknown_sets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match="magic"):
        CliRunner().invoke(
            command, ["--sets", "magic", "--out", str(tmp_path / "out")], catch_exceptions=False, standalone_mode=False
        )


@pytest.mark.slow
def test_a_run_is_recorded(tmp_path: Path) -> None:
    words = ["--sets", "narrow", "--layouts", "1x1", "--rounds", "2", "--share", "0.01", "--depth", "3"]
    _, (line,) = run_command(*words, "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "runs.jsonl"))
    assert line["key"] == ["narrow", "1x1", 2, 3, 0.01, False, 0]
    assert line["job"]["training"]["rounds"] == 2
    assert line["job"]["training"]["params"]["max_depth"] == 3
    assert line["cpu_seconds"] > 0
    assert line["peak_pss_nbytes"] > 5e7
    summary = line["summary"]
    assert "versions" not in summary
    assert summary["report"] is None
    assert summary["audit"]["size"]["rounds"] == 2
    assert summary["account"]["workers"]["0"]["peak_rss_nbytes"]["rounds"] > 5e7
