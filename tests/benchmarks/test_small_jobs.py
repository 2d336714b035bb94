"""The benchmark of small jobs, at toy size."""

from pathlib import Path

import click
import pyarrow.csv as pacsv
import pytest
from click.testing import CliRunner

from benchmarks.small_job_shapes import SHAPES, TARGET, made
from benchmarks.small_jobs import Sample, chosen_shapes, command, summary


@pytest.mark.slow
def test_both_ways_run(tmp_path: Path) -> None:
    shapes = "files,csv,gzip,texts"
    words = ["--toy", "--repeat", "1", "--shapes", shapes, "--cache", str(tmp_path), "--name", ""]
    result = CliRunner().invoke(command, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.output.splitlines()] == shapes.split(",")


def test_files_are_made_once(tmp_path: Path) -> None:
    folder = made(SHAPES["files"], tmp_path, toy=True)
    files = sorted(folder.iterdir())
    assert len(files) == SHAPES["files"].toy
    assert TARGET in pacsv.read_csv(files[0]).column_names
    files[0].unlink()
    assert made(SHAPES["files"], tmp_path, toy=True) == folder
    assert not files[0].exists()


def test_the_start_up_of_each_is_subtracted() -> None:
    def runs(*walls: float) -> list[Sample]:
        return [Sample(wall, 2 * wall, 10**9, {}) for wall in walls]

    samples = {
        "empty": {"ours": runs(4, 5, 6), "by hand": runs(1, 1, 1)},
        "csv": {"ours": runs(11, 90, 10), "by hand": runs(5, 5, 6)},
    }
    found = summary("csv", samples)
    assert found["ours, wall"] == {"seconds": 11, "start_up_seconds": 5, "own_seconds": 6}
    assert (found["wall_ratio"], found["cpu_ratio"]) == (1.5, 1.5)


def test_adult_is_left_out_where_its_file_is_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIPELINE_DATA", str(tmp_path))
    assert [shape.name for shape in chosen_shapes("csv,adult")] == ["csv"]
    with pytest.raises(click.UsageError, match="magic"):
        chosen_shapes("magic")
