"""Implements the verb `doctor`: what this machine offers a run, or what runs keep on a running cluster."""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from distributed import Client

from pipeline.cluster import interrupts, logs, machine_checks
from pipeline.cluster.launchers import existing
from pipeline.config.job import Cluster
from pipeline.errors import JobError
from pipeline.formatting import nbytes
from pipeline.runtime.sessions import RunContent, held

NO_ANSWER = "does not answer"


def doctor(scheduler: str | None = None, *, section: Cluster | None = None) -> dict[str, Any]:
    """Returns checks of this machine by name; "problems" lists as text what would stop a run.

    Starts a worker for a moment, to see the settings that a worker really gets.  With the address of a `scheduler`:
    returns instead what runs keep on it and on its workers, each as {"run": id, "what": text, "nbytes": or None};
    "kept" of a worker that does not answer is None.  What a run keeps is dropped when it ends.  `section` has the TLS
    files.  ClusterError if the scheduler cannot be reached, JobError for a `section` without one.
    """
    if scheduler is None:
        for name in Cluster.model_fields if section is not None else ():
            if getattr(section, name) != getattr(Cluster(), name):
                raise JobError(f"cluster.{name} has an effect with a scheduler only")
        return machine_checks.check_machine()
    logs.silence()
    there = (section or Cluster()).model_copy(update={"scheduler": scheduler})
    with contextlib.closing(interrupts.finish(lambda: existing.reach(there), Client.close)) as client:
        on_scheduler, on_workers = held(client)
    workers = [{"worker": name, "kept": _plain(kept)} for name, kept in on_workers.items()]
    return {"scheduler": scheduler, "kept": _plain(on_scheduler), "workers": workers}


def _plain(kept: Iterable[RunContent] | None) -> list[dict[str, Any]] | None:
    return None if kept is None else [asdict(one) for one in kept]


def lines(checks: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Returns the result as rows of text for people."""
    if "scheduler" not in checks:
        return [*machine_checks.lines(checks)]
    rows = list(_rows("scheduler", checks["kept"]))
    for worker in checks["workers"]:
        rows += _rows(f"worker {worker['worker']}", worker["kept"])
    return rows


def _rows(process: str, kept: Iterable[Mapping[str, Any]] | None) -> Iterable[tuple[str, ...]]:
    if kept is None:
        return [(process, NO_ANSWER)]
    found: list[tuple[str, ...]] = []
    for one in kept:
        size = "" if one["nbytes"] is None else nbytes(one["nbytes"])
        found.append((process, f"run {one['run']}", one["what"], size))
    return found or [(process, "nothing")]
