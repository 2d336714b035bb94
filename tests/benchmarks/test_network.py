"""Hosts made of network namespaces: they are shaped, they reach each other, and nothing of them stays."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import namespaces


def usable() -> str:
    """Why hosts cannot be made here; empty where they can."""
    try:
        namespaces.check()
        with namespaces.hosts(1, 100):
            return ""
    except (namespaces.NotHere, subprocess.CalledProcessError) as error:
        return str(error)


@pytest.fixture
def root() -> None:
    if reason := usable():
        pytest.skip(reason)


def left() -> str:
    return subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout + (
        subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    )


@pytest.mark.usefixtures("root")
def test_links_are_shaped_and_nothing_stays():
    nbytes = 2_000_000
    with namespaces.hosts(2, 20) as (first, second):
        before = second.passed_nbytes()
        megabits = namespaces.raw_megabits(second, first, nbytes)
        assert second.passed_nbytes() - before >= nbytes
        assert 10 < megabits <= 20
    assert first.name not in left()
    assert first.link not in left()


@pytest.mark.usefixtures("root")
def test_what_a_killed_run_left_is_removed():
    code = "import os, signal, sys; sys.path[:0] = ['.']; from benchmarks import namespaces\n"
    code += (
        "with namespaces.hosts(1, 100) as (host,):\n print(host.name, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(__file__).resolve().parents[2]
    name = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False
    ).stdout.strip()
    assert name in left()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{name[3:].partition('h')[0]}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    namespaces.sweep()
    assert name not in left()


def test_refusals_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    from benchmarks import network

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["network"])
    with pytest.raises(SystemExit) as ended:
        network.main()
    assert ended.value.code == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert "root" in said


@pytest.mark.slow
@pytest.mark.usefixtures("root")
def test_the_model_is_checked_over_a_link(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    from benchmarks import network
    from pipeline.scaling.synthetic import Synthetic

    monkeypatch.setattr(network, "SUBJECTS", (Synthetic(4_000, 6, depth=3),))
    monkeypatch.setattr(sys, "argv", ["network", "--megabits", "100", "--hosts", "2", "--repeat", "1", "--name", ""])
    with pytest.raises(SystemExit) as ended:
        network.main()
    said = capsys.readouterr()
    assert ended.value.code == 0, said.err
    assert "bytes exact in all: True" in said.out
    assert "pln" not in left()
