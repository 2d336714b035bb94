"""Packaging: the locks, and the script that finds a Python."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("requirements.lock", "requirements-cuda13.lock")


def pins(name: str) -> dict[str, str]:
    """Distribution -> version, of a lock."""
    found = re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)", (ROOT / name).read_text(), re.MULTILINE)
    return dict(found)


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_hashes_and_no_address(name):
    text = (ROOT / name).read_text()
    entries = re.split(r"\n(?=\S)", text.strip())
    assert all(re.match(r"^[a-z0-9._-]+==\S+", entry) for entry in entries)
    assert all("--hash=sha256:" in entry for entry in entries)
    assert not re.search(r"https?:|file:|^--|^-", text, re.MULTILINE)


def test_the_locks_agree():
    plain, cuda = (pins(name) for name in LOCKS)
    assert {name: cuda.get(name) for name in plain} == plain


def test_the_locks_hold_what_the_project_names():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {
        "requirements.lock": [*project["dependencies"], *extras["dev"]],
        "requirements-cuda13.lock": [*project["dependencies"], *extras["dev"], *extras["cuda13"]],
    }
    for lock, requirements in wanted.items():
        names = {re.match(r"[\w-]+", requirement)[0] for requirement in requirements}
        assert names <= pins(lock).keys()


def test_dask_is_the_one_that_dask_cuda_takes():
    assert pins("requirements.lock")["dask"] == pins("requirements.lock")["distributed"] == "2026.7.1"
    assert pins("requirements.lock")["bokeh"].startswith("3.9.")


def find_python(path: str, home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": path, "HOME": str(home), **more}
    return subprocess.run([ROOT / "tools" / "find_python.sh"], env=env, capture_output=True, text=True, check=False)


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def tools(tmp_path):
    """A PATH with what the script needs, and no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "env", "ls"):
        found = next(Path(place) / name for place in os.defpath.split(":") if (Path(place or ".") / name).exists())
        (folder / name).symlink_to(found)
    return folder


def test_a_name_that_does_not_run_is_passed_over(tools, tmp_path):
    script(tools / "python3.13", "echo 'python3.13: command not found' >&2; exit 127")  # as pyenv's shims do
    script(tmp_path / ".pyenv" / "versions" / "3.12.99" / "bin" / "python3", f'exec "{sys.executable}" "$@"')
    found = find_python(str(tools), tmp_path)
    assert found.returncode == 0
    assert "3.12.99" in found.stdout or found.stdout.strip() == sys.executable


def test_one_line_where_there_is_none(tools, tmp_path):
    script(tools / "python3", "exit 1")  # any older Python
    found = find_python(str(tools), tmp_path)
    assert found.returncode == 1
    assert found.stdout == ""
    assert len(found.stderr.splitlines()) == 1
    assert "Python 3.12" in found.stderr


def test_the_one_asked_for_comes_first(tools, tmp_path):
    found = find_python(str(tools), tmp_path, PYTHON=sys.executable)
    assert found.stdout.strip() == sys.executable
