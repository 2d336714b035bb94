"""Tracing a tiny training: every process has entered something, and events go from the worker to client and scheduler."""

import doctest
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pipeline
from tools import trace
from tools.trace import event_in, table, to_the_state

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the command prints with --json."""
    folder = tmp_path_factory.mktemp("trace") / "flights"
    pipeline.generate(folder, rows=2_000, files=2)
    job = ["--job", "workflows/generated.toml", "--set", "training.rounds=3"]
    done = subprocess.run(
        [sys.executable, "-m", "tools.trace", str(folder), *job, "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_functions_and_files_of_each_process(traced: dict[str, Any]) -> None:
    counts = traced["processes"]
    assert list(counts) == ["client", "scheduler", "worker", "all"]
    for count in counts.values():
        assert 5 < count["files"] < count["functions"]
    parts = [counts[process] for process in ("client", "scheduler", "worker")]
    for what in ("files", "functions"):
        assert max(part[what] for part in parts) < counts["all"][what] < sum(part[what] for part in parts)
    files = {file for entered in traced["entered"].values() for file in entered}
    assert len(files) == counts["all"]["files"]
    assert all((ROOT / file).is_file() for file in files)


@pytest.mark.parametrize("event", ["RoundDone", "WorkerRounds"])
def test_events_go_from_the_worker_to_client_and_scheduler(event: str, traced: dict[str, Any]) -> None:
    hops = traced["hops"][event]
    for process in ("client", "scheduler", "worker"):
        names = [name.rpartition(":")[2] for name in hops[process]]
        assert 2 <= len(names) == len(set(hops[process])) < 40
        assert ("encode" in names) == (process == "worker")
        assert ("decode" in names) == (process != "worker")


@pytest.mark.parametrize("event", ["RoundDone", "WorkerRounds"])
def test_an_event_reaches_the_dashboards_state_in_few_hops(event: str, traced: dict[str, Any]) -> None:
    hops = to_the_state(traced["hops"][event])
    assert hops[-1] == "pipeline/monitoring/state/run_store.py:RunStore.apply"
    assert len(hops) <= 6, hops


def test_every_hop_is_a_function_that_was_entered(traced: dict[str, Any]) -> None:
    for hops in traced["hops"].values():
        for process, names in hops.items():
            entered = traced["entered"][process]
            for name in names:
                file, _, function = name.rpartition(":")
                assert function in entered[file]


def test_the_table_has_every_number(traced: dict[str, Any]) -> None:
    lines = [line.split() for line in table(traced).splitlines()]
    for process, count in traced["processes"].items():
        assert [process, str(count["functions"]), str(count["files"])] in lines
    for event, hops in traced["hops"].items():
        numbers = [len(hops[process]) for process in ("client", "scheduler", "worker")]
        assert [event, *map(str, (*numbers, sum(numbers), len(to_the_state(hops))))] in lines


def test_messages_that_hold_no_event() -> None:
    for value in (None, "RoundDone", {"event": 3}, {"run": "1"}, (1, 2), {"event": {"event": "Note"}}):
        assert event_in(value) is None


def test_the_example_holds() -> None:
    assert doctest.testmod(trace) == (0, 1)
