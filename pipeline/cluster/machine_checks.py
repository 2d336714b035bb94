"""Checks what this machine offers a run, and what would prevent one: `pipeline doctor`."""

import importlib.metadata
import platform
import socket
from collections.abc import Mapping
from typing import Any

from distributed.system import MEMORY_LIMIT

from pipeline.cluster import affinity, ports, throwaway_tls
from pipeline.cluster.connect import connect
from pipeline.cluster.devices import probe_gpu
from pipeline.config.job import Cluster

PACKAGES = (
    "dask-train-pipeline", "dask", "distributed", "xgboost", "numpy", "pyarrow", "duckdb", "bokeh", "cupy-cuda13x",
    "dask-cuda",
)  # fmt: skip


def check_machine() -> dict[str, Any]:
    """Returns checks by name, each a plain value or a dict of them; "problems" lists as text what would stop a run.

    Starts a worker for a moment, to see the settings that a worker really gets.
    """
    gpus, cores = probe_gpu(), affinity.cores()
    worker = _worker_settings()
    problems = []
    if worker.get("error"):
        problems.append(f"no worker can be started: {worker['error']}")
    elif worker["omp_num_threads"] != str(worker["threads"]):
        problems.append(f"OMP_NUM_THREADS is {worker['omp_num_threads']} in a worker of {worker['threads']} threads")
    if MEMORY_LIMIT < 2**30:
        problems.append(f"only {MEMORY_LIMIT / 2**20:.0f} MiB of memory")
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "cores": {
            "usable": cores,
            "allowed": len(affinity.allowed_cores()),
            "quota": affinity.cpu_quota(),
            "numa_nodes": len(affinity.numa_nodes()),
        },
        "memory": {"limit_nbytes": int(MEMORY_LIMIT), "available_nbytes": _available_nbytes()},
        "gpu": {
            "usable": gpus.reason_unusable is None,
            "reason": gpus.reason_unusable,
            "names": list(gpus.names),
            "total_nbytes": list(gpus.total_nbytes),
        },
        "ports": {
            "loopback": _can_listen(),
            "dashboard": ports.PORT,
            "dashboard_free": ports.free_port(ports.PORT) is not None,
        },
        "tls": {"auto": throwaway_tls.usable(), "clusters": throwaway_tls.running()},
        "worker": worker,
        "problems": problems,
    }


def lines(checks: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns the checks as (what, finding) for people."""
    cores, memory, gpu = checks["cores"], checks["memory"], checks["gpu"]
    ports, worker = checks["ports"], checks["worker"]
    installed = (f"{name} {version}" for name, version in checks["versions"].items() if version)
    names = ", ".join(
        f"{name} ({nbytes / 2**30:.0f} GiB)" for name, nbytes in zip(gpu["names"], gpu["total_nbytes"], strict=True)
    )
    quota = "" if cores["quota"] is None else f", a quota of {cores['quota']:.1f}"
    free = "free" if ports["dashboard_free"] else "in use: the dashboard takes another port"
    made = f'cluster.security = "auto" {"works" if checks["tls"]["auto"] else "needs the command openssl"}'
    started = (
        worker.get("error")
        or f"{worker['threads']} threads on cores {worker['cores']}, OMP_NUM_THREADS {worker['omp_num_threads']}, "
        f"{worker['memory_limit_nbytes'] / 2**30:.1f} GiB"
    )
    return [
        ("versions", ", ".join(installed)),
        ("cores", f"{cores['usable']} usable: {cores['allowed']} allowed, {cores['numa_nodes']} NUMA nodes{quota}"),
        ("memory", f"{memory['limit_nbytes'] / 2**30:.1f} GiB, {memory['available_nbytes'] / 2**30:.1f} available"),
        ("GPU", names if gpu["usable"] else f"not usable: {gpu['reason']}"),
        ("ports", f"{ports['dashboard']} {free}" if ports["loopback"] else "cannot listen on 127.0.0.1"),
        ("TLS", ", ".join([made, *checks["tls"]["clusters"]])),
        ("worker", started),
        ("problems", "; ".join(checks["problems"]) or "none"),
    ]


def _worker_settings() -> dict[str, Any]:
    """Returns the settings of the first worker of a default cluster."""
    section = Cluster(device="cpu", dashboard=False)
    try:
        with connect(section) as client:
            found: dict[str, Any] = client.submit(_look, pure=False).result(timeout=30)
            return found
    except Exception as error:  # a doctor reports every error
        return {"error": f"{type(error).__name__}: {error}"}


def _look() -> dict[str, Any]:
    """Runs in a worker."""
    import os

    from distributed import get_worker

    worker = get_worker()
    return {
        "threads": worker.state.nthreads,
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "cores": list(affinity.allowed_cores()),
        "memory_limit_nbytes": worker.memory_manager.memory_limit,
        "error": None,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _available_nbytes() -> int:
    import psutil

    return int(psutil.virtual_memory().available)


def _can_listen() -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", 0))
        except OSError:
            return False
    return True
