"""Commands whose standard streams are closed, or whose reader has gone."""

import subprocess
import sys
from pathlib import Path

import pytest

GENERATE = (
    f"{sys.executable} -c 'from pipeline.cli.main import main; main()' generate data --rows 10 --overwrite --quiet"
)


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "> >(exec true)", "2> >(exec true)"])
def test_a_stream_that_is_closed(closed: str, tmp_path: Path) -> None:
    done = shell(f"{GENERATE} {closed}", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["part-00000.parquet"]


def test_a_stream_that_is_full_is_an_error(tmp_path: Path) -> None:
    done = shell(f"{GENERATE} > /dev/full", tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


@pytest.mark.parametrize("options", ["", " --json"])
def test_a_result_that_cannot_be_written_is_one_line(tmp_path: Path, options: str) -> None:
    doctor = f"{sys.executable} -c 'from pipeline.cli.main import main; main()' doctor{options}"
    done = shell(f"{doctor} > /dev/full", tmp_path)
    assert done.returncode == 1
    assert done.stderr == "pipeline: error: stdout cannot be written: No space left on device\n"
