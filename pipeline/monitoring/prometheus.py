"""Exports the state of the runs to Prometheus, on the scheduler's own `/metrics`, if prometheus_client is installed.

| metric                               | labels           | unit, and what it is                                     |
|--------------------------------------|------------------|----------------------------------------------------------|
| pipeline_run_state                   | run, verb, state | 1 for the state it is in: running, finished or failed     |
| pipeline_run_start_time_seconds      | run              | seconds since the epoch                                  |
| pipeline_run_rows                    | run              | rows that were planned                                   |
| pipeline_run_round                   | run              | boosting rounds done                                     |
| pipeline_run_rounds                  | run              | boosting rounds asked for                                |
| pipeline_run_best_round              | run              | the best round so far, counted from 1                    |
| pipeline_run_metric                  | run, metric      | its latest value, e.g. metric="validation.logloss"        |
| pipeline_run_rows_per_second         | run              | rows per second of boosting, all workers                 |
| pipeline_run_remaining_seconds       | run              | seconds that are left, the middle of the estimate        |
| pipeline_run_restarts_total          | run              | how often the training restarted after a loss            |
| pipeline_run_parallel_efficiency     | run              | 0 to 1: PE of the last rounds, a live estimate           |
| pipeline_events_dropped_total        |                  | messages of clients and workers that were no events       |
| pipeline_worker_round                | run, worker      | the round it has reached                                 |
| pipeline_worker_memory_bytes         | run, worker      | bytes, resident memory of its process                    |
| pipeline_worker_memory_limit_bytes   | run, worker      | bytes, 0: none                                           |
| pipeline_worker_gpu_memory_bytes     | run, worker      | bytes in use on its GPU                                  |
| pipeline_worker_gpu_utilisation      | run, worker      | 0 to 1                                                   |

Unknown values are left out.  At most eight runs have series, running ones before those that ended last; workers have
series only while their run is running.  A run's metrics are those it measures.
"""

import importlib.util
import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

from pipeline.monitoring.state.live import figures_of
from pipeline.monitoring.state.run_state import RunState
from pipeline.monitoring.state.run_store import RunStore
from pipeline.monitoring.state.worker_state import WorkerState

RUNS = 8
METRICS = 50  # per run

Sample = tuple[str, dict[str, str], float | None]  # name without "pipeline_", labels, value; None: unknown

BOARDS: list[RunStore] = []  # of the schedulers in this process, which have one registry


def expose(store: RunStore) -> Callable[[], None]:
    """Adds the board's metrics to those of this process; returns a function that removes them."""
    if importlib.util.find_spec("prometheus_client") is None:
        return lambda: None
    from prometheus_client import REGISTRY

    if not BOARDS:
        REGISTRY.register(_COLLECTOR)
    BOARDS.append(store)

    def withdraw() -> None:
        BOARDS.remove(store)
        if not BOARDS:
            REGISTRY.unregister(_COLLECTOR)

    return withdraw


class Collector:
    """Collector that prometheus_client calls on each request to `/metrics`."""

    def describe(self) -> list[Any]:
        """No names in advance: they depend on the runs."""
        return []

    def collect(self) -> Iterator[Any]:
        """A family of series for each metric that has any."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        described = dict(re.findall(r"^\| pipeline_(\w+) +\|[^|]+\| (.+?) +\|$", __doc__ or "", re.MULTILINE))
        families: dict[str, Any] = {}
        for name, labels, value in itertools.chain(*map(samples, BOARDS)):
            if value is not None:
                kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
                if name not in families:
                    families[name] = kind(f"pipeline_{name}", described.get(name, ""), labels=list(labels))
                families[name].add_metric(list(labels.values()), value)
        yield from families.values()


_COLLECTOR: Any = Collector()


def samples(store: RunStore) -> Iterator[Sample]:
    """Every metric of the running runs, and of those that ended last."""
    yield "events_dropped_total", {}, store.dropped
    runs = [*reversed([*store.runs.values()])]  # a web server's thread may call this
    runs.sort(key=lambda run: (run.state != "running", -(run.ended or run.heard)))
    for run in runs[:RUNS]:
        name = run.name
        yield "run_state", {"run": name, "verb": run.verb, "state": run.state}, 1.0
        yield from ((f"run_{metric}", {"run": name}, value) for metric, value in _of_run(run).items())
        for metric, value in itertools.islice(run.measured.items(), METRICS):
            yield "run_metric", {"run": name, "metric": metric}, value
        if run.state == "running":
            for worker in run.training:
                labels = {"run": name, "worker": worker.name}
                yield from ((f"worker_{metric}", labels, value) for metric, value in _of_worker(worker).items())


def _of_run(run: RunState) -> dict[str, float | None]:
    live, eta, planned = figures_of(run), run.eta, run.planned
    return {
        "start_time_seconds": run.started,
        "rows": planned.rows if planned else None,
        "round": run.round,
        "rounds": run.rounds or None,
        "best_round": run.best_round or None,
        "rows_per_second": run.rows_per_second if run.state == "running" else None,
        "remaining_seconds": eta[1] if eta else None,
        "restarts_total": run.restarts,
        "parallel_efficiency": live.PE if live and run.state == "running" else None,
    }


def _of_worker(worker: WorkerState) -> dict[str, float | None]:
    heard = bool(worker.heard)
    return {
        "round": worker.round if heard else None,
        "memory_bytes": worker.memory_nbytes if heard else None,
        "memory_limit_bytes": worker.place.memory_limit_nbytes if worker.place else None,
        "gpu_memory_bytes": worker.gpu_memory_nbytes,
        "gpu_utilisation": worker.gpu_utilisation,
    }
