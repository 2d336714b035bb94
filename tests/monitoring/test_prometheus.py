"""What the runs say, as Prometheus reads it; and the example dashboard that draws it."""

import json
import re
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.job import Cluster
from pipeline.dashboard.install import attached
from pipeline.events.types import (
    Event,
    Failed,
    Place,
    Placed,
    Planned,
    Restarted,
    RoundDone,
    Saved,
    Started,
    WorkerLost,
    WorkerRounds,
)
from pipeline.monitoring import prometheus
from pipeline.monitoring.publish import publishing
from pipeline.monitoring.state.run_store import RunStore
from pipeline.run.connect import connect
from pipeline.runtime.placement import placement

GRAFANA = Path(__file__).resolve().parents[2] / "docs" / "grafana.json"
TABLE = re.findall(r"^\| (pipeline_\w+) +\| ([\w, ]+?) +\|", prometheus.__doc__ or "", re.MULTILINE)
METRICS = {"train.auc": 0.75, "validation.auc": 0.5}


def place(name: str) -> Place:
    return Place(
        worker=name, rows=50, share=0.5, capability=0.5, threads=1, memory_limit_nbytes=2**30, planned_nbytes=2**28
    )


def rounds_of(name: str, cpu: float, **more: Any) -> WorkerRounds:
    return WorkerRounds(
        worker=name, first=1, round=10, seconds=1.0, cpu_seconds=cpu, runqueue_seconds=0.0, bytes_sent=10,
        memory_nbytes=2**29, **more,
    )  # fmt: skip


def going(run: str) -> list[Event]:
    """A run of two workers at its tenth round."""
    return [
        Started(verb="train", run=run),
        Planned(rows=1_000, features=2, fragments=4, workers=2, threads=1, nbytes=1),
        Placed(workers=(place("0"), place('quoted"\n'))),
        WorkerLost(worker="0", stage="rounds", round=3, reason="killed by signal 9"),
        Restarted(round=2, workers=2),
        *(
            RoundDone(round=number, rounds=20, metrics=METRICS, best_round=4, rows_per_second=3e6, time=2e9 + number)
            for number in range(6, 11)
        ),
        rounds_of("0", 0.9),
        rounds_of('quoted"\n', 0.3),
    ]


def board_of(**runs: list[Event]) -> RunStore:
    board = RunStore()
    for name, events in runs.items():
        for event in events:
            board.apply(name, event)
    return board


def values(board: RunStore) -> dict[str, dict[tuple[str, ...], float]]:
    """Metric -> values of its labels -> value."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for name, labels, value in prometheus.samples(board):
        if value is not None:
            assert tuple(labels.values()) not in found.get(name, {})
            found.setdefault(name, {})[tuple(labels.values())] = value
    return found


def test_a_run_that_continues() -> None:
    found = values(board_of(a=going("a")))
    assert found["run_state"] == {("a", "train", "running"): 1}
    assert found["run_metric"] == {("a", name): value for name, value in METRICS.items()}
    assert {name: found[f"run_{name}"]["a",] for name in ("rows", "round", "rounds", "best_round", "rows_per_second")} == {
        "rows": 1_000, "round": 10, "rounds": 20, "best_round": 4, "rows_per_second": 3e6,
    }  # fmt: skip
    assert found["run_restarts_total"]["a",] == 1
    assert found["run_remaining_seconds"]["a",] == pytest.approx(10)
    assert found["run_parallel_efficiency"]["a",] == pytest.approx(0.6)
    assert found["worker_round"] == {("a", "0"): 10, ("a", 'quoted"\n'): 10}
    assert found["worker_memory_bytes"]["a", "0"] == 2**29
    assert found["worker_memory_limit_bytes"]["a", "0"] == 2**30
    assert "worker_gpu_memory_bytes" not in found


def test_gpus() -> None:
    more = {"gpu_memory_nbytes": 5, "gpu_utilisation": 0.5}
    found = values(board_of(a=[Started(verb="train", run="a"), rounds_of("0", 0.9, **more)]))
    assert found["worker_gpu_memory_bytes"]["a", "0"] == 5
    assert found["worker_gpu_utilisation"]["a", "0"] == 0.5
    assert "run_parallel_efficiency" not in found


def test_series_are_bounded() -> None:
    wide = RoundDone(
        round=1, rounds=2, metrics={f"m{number}": 1.0 for number in range(1_000)}, best_round=1, rows_per_second=1.0
    )
    ended = [*going("x"), wide, Saved(path="m", sha256="")]
    found = values(board_of(**{f"r{number}": ended for number in range(30)}, last=going("last")))
    assert {key[0] for series in found.values() for key in series if key} == {*(f"r{n}" for n in range(23, 30)), "last"}
    assert {key[0] for key in found["worker_round"]} == {"last"}
    assert len(found["run_metric"]) <= 7 * prometheus.METRICS + len(METRICS)


def test_a_run_that_continues_is_there_however_many_have_ended_since() -> None:
    board = board_of(long=going("long"))
    for number in range(12):
        board.apply(f"short{number}", Started(time=3e9 + number, verb="train", run=f"short{number}"))
        board.apply(f"short{number}", Saved(time=3e9 + number, path="m", sha256=""))
    assert {key[0] for key in values(board)["run_state"]} == {"long", *(f"short{number}" for number in range(5, 12))}


def test_metrics_that_are_not_measured_in_every_round_stay() -> None:
    board = board_of(a=going("a"))
    board.apply(
        "a",
        RoundDone(time=3e9, round=11, rounds=20, metrics={"validation.auc": 0.25}, best_round=4, rows_per_second=1.0),
    )
    assert values(board)["run_metric"] == {("a", "train.auc"): 0.75, ("a", "validation.auc"): 0.25}


def test_only_documented_metrics_each_with_its_labels() -> None:
    gpu = rounds_of("gpu", 0.1, gpu_memory_nbytes=5, gpu_utilisation=0.5)
    board = board_of(a=going("a"), b=[Started(verb="train", run="b"), gpu], c=[Failed(message="no")])
    found = {(f"pipeline_{name}", ", ".join(labels)) for name, labels, value in prometheus.samples(board)}
    assert found == {(name, labels.strip()) for name, labels in TABLE}


def test_on_dasks_metrics_page() -> None:
    section, before = Cluster(device="cpu", workers=1, threads=1), list(prometheus.BOARDS)
    with connect(section) as client:
        link = str(placement(client, section).dashboard).replace("/status", "/metrics")
        with attached(client, lambda note: None), publishing(client, "a") as listen:
            for event in going("a"):
                listen(event)
        deadline = time.monotonic() + 20
        while 'pipeline_worker_memory_limit_bytes{run="a"' not in page(link) and time.monotonic() < deadline:
            time.sleep(0.1)
        text = page(link)
        assert 'pipeline_run_state{run="a",state="running",verb="train"} 1.0' in text
        assert 'pipeline_run_metric{metric="validation.auc",run="a"} 0.5' in text
        assert 'pipeline_worker_memory_limit_bytes{run="a",worker="quoted\\"\\n"} 1.073741824e+09' in text
        assert "# HELP pipeline_run_round boosting rounds done\n# TYPE pipeline_run_round gauge\n" in text
        assert "# TYPE pipeline_run_restarts_total counter" in text
        assert "dask_scheduler_workers" in text  # Dask's own are still there
        with connect(section) as other:  # a second scheduler in this process
            again = str(placement(other, section).dashboard).replace("/status", "/metrics")
            assert page(again).count("# TYPE pipeline_run_round gauge") == 1
        assert "pipeline_run_round" in page(link)
    assert prometheus.BOARDS == before


def page(link: str) -> str:
    with urllib.request.urlopen(link, timeout=20) as answer:
        text: str = answer.read().decode()
        return text


def test_the_example_dashboard_asks_for_documented_metrics() -> None:
    text = GRAFANA.read_text(encoding="utf-8")
    dashboard = json.loads(text)
    assert dashboard["panels"]
    used = set(re.findall(r"pipeline_\w+", text))
    known = {name for name, _ in TABLE}
    assert used <= known
    assert known - used <= {"pipeline_run_start_time_seconds", "pipeline_run_rows", "pipeline_events_dropped_total"}
    boxes = [panel["gridPos"] for panel in dashboard["panels"]]
    cells = [(x, y) for b in boxes for x in range(b["x"], b["x"] + b["w"]) for y in range(b["y"], b["y"] + b["h"])]
    assert len(cells) == len(set(cells))  # no panel over another
    assert max(x for x, _ in cells) < 24
    assert all(panel["datasource"]["uid"] == "${source}" for panel in dashboard["panels"])
