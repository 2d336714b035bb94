"""The benchmark of small jobs, at toy size."""

from pathlib import Path

import click
import pyarrow.csv as pacsv
import pytest
from click.testing import CliRunner

from benchmarks import small_jobs
from benchmarks.small_job_shapes import EMPTY, SHAPES, TARGET, write_shape
from benchmarks.small_jobs import LEAST_SECONDS, Sample, chosen_shapes, command, line, our_command, summary


@pytest.mark.slow
def test_both_ways_run(tmp_path: Path) -> None:
    shapes = "files,csv,gzip,texts,categories"
    words = ["--toy", "--repeat", "1", "--shapes", shapes, "--cache", str(tmp_path), "--name", ""]
    result = CliRunner().invoke(command, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert [one.split()[:2] for one in result.output.splitlines()] == [[shape, "wall"] for shape in shapes.split(",")]


def test_files_are_made_once(tmp_path: Path) -> None:
    folder = write_shape(SHAPES["files"], tmp_path, toy=True)
    files = sorted(folder.iterdir())
    assert len(files) == SHAPES["files"].toy
    assert TARGET in pacsv.read_csv(files[0]).column_names
    files[0].unlink()
    assert write_shape(SHAPES["files"], tmp_path, toy=True) == folder
    assert not files[0].exists()


def test_the_start_up_of_each_is_subtracted() -> None:
    samples = {
        "empty": {"ours": runs((4, 8), (6, 7), (5, 9)), "by hand": runs((1, 2), (1, 2), (1, 2))},
        "csv": {"ours": runs((11, 11), (90, 10), (10, 99)), "by hand": runs((5, 10), (5, 10), (6, 9))},
    }
    found = summary("csv", samples)
    assert found["ours, wall"] == {"seconds": 11, "start_up_seconds": 5, "own_seconds": 6}
    assert found["by hand, cpu"] == {"seconds": 10, "start_up_seconds": 2, "own_seconds": 8}
    assert found["wall_ratio"] == 1.5  # (11 - 5) / (5 - 1)
    assert found["cpu_ratio"] == 0.375  # (11 - 8) / (10 - 2)
    text = line(SHAPES["csv"], found)
    assert "wall    6.00 /    4.00 s = 1.50" in text
    assert text.endswith("above 1.3")


def test_a_shape_costs_something_even_where_its_start_up_took_longer() -> None:
    samples = {
        "empty": {"ours": runs((5, 5)), "by hand": runs((1, 1))},
        "short": {"ours": runs((4, 6)), "by hand": runs((2, 2))},
    }
    found = summary("short", samples)
    assert (found["wall_ratio"], found["cpu_ratio"]) == (LEAST_SECONDS, 1)


def runs(*seconds: tuple[float, float]) -> list[Sample]:
    """Runs of so many wall and CPU seconds."""
    return [Sample(wall, cpu, 10**9, {}) for wall, cpu in seconds]


@pytest.mark.parametrize(
    ("nodes", "workers", "each"), [(1, None, "6"), (2, None, "3"), (2, 1, "6"), (1, 4, "1"), (1, 12, "1")]
)
def test_both_ways_have_the_same_threads(
    nodes: int, workers: int | None, each: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(small_jobs, "numa_nodes", lambda: ((0,),) * nodes)
    monkeypatch.setattr(small_jobs, "cores", lambda: 8)
    words = our_command(EMPTY, tmp_path, tmp_path, threads=6, workers=workers)
    assert words[words.index("--threads") + 1] == each
    assert ("--workers" in words) == (workers is not None)


def test_adult_is_left_out_where_its_file_is_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIPELINE_DATA", str(tmp_path))
    assert [shape.name for shape in chosen_shapes("csv,adult")] == ["csv"]
    with pytest.raises(click.UsageError, match="magic"):
        chosen_shapes("magic")
