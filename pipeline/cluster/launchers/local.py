"""Starts a cluster on this machine: how many workers, with how many threads and how much memory, on which cores."""

import contextlib
import importlib.machinery
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import dask
import dask.utils
from distributed import LocalCluster, Nanny
from distributed.system import MEMORY_LIMIT

from pipeline.cluster import affinity, logs, openmp, ports, throwaway_tls, tls, web_guard
from pipeline.cluster.devices import resolve_device
from pipeline.cluster.launchers import cuda
from pipeline.config.job import Cluster

HOST = "127.0.0.1"
WORKER_MAIN = "pipeline.cluster.worker_main"
GUARD = "pipeline.cluster.web_guard"


@dataclass(frozen=True)
class LocalLayout:
    """The workers of a local cluster."""

    device: Literal["cpu", "cuda"]
    workers: int
    threads: int  # per worker
    memory_limit_nbytes: int  # per worker
    core_sets: tuple[tuple[int, ...] | None, ...]  # None: not pinned
    cores: int  # of the machine that this process may use

    @property
    def oversubscribed(self) -> bool:
        """Whether there are more threads than cores."""
        return self.workers * self.threads > self.cores


def layout(section: Cluster) -> LocalLayout:
    """Resolves "auto": one worker with all cores per NUMA node, or one per GPU; memory shared evenly.

    ClusterError if the GPU was asked for and cannot be used, or if there are fewer GPUs than workers.
    """
    device = resolve_device(section.device)
    nodes, cores = affinity.numa_nodes(), affinity.cores()
    if device == "cuda":
        workers = cuda.workers(section)
    else:
        workers = min(len(nodes), cores) if section.workers == "auto" else section.workers
    threads = max(1, cores // workers) if section.threads == "auto" else section.threads
    limit = int(MEMORY_LIMIT // workers if section.memory == "auto" else dask.utils.parse_bytes(section.memory))
    # dask-cuda pins its workers to the cores next to their GPUs
    sets = (None,) * workers if device == "cuda" else affinity.core_sets(workers, threads, nodes, cores)
    return LocalLayout(device, workers, threads, limit, sets, cores)


def _settings(plan: LocalLayout, debug: bool, hosts: Sequence[str] = (), warm_up: Sequence[str] = ()) -> dict[str, Any]:
    """Returns Dask's configuration for a local cluster, in the client's process and in the workers.

    Memory: nothing is spilled (kept data belong in memory; other data are decoded again) and no worker is paused
    (without spilling a paused worker waits for ever); the nanny restarts a worker above 95 % of its limit, which the
    user sees as an error.
    Lost workers: a restarted worker has another address, so tasks pinned to the old one would wait for ever.
    Quiet: the profiler, the event loops' health checks and the monitors took 7.6 % of a core as Dask sets them, 2 %
    like this (measured, idle cluster of one worker).
    """
    return {
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": 0.95,
        "distributed.scheduler.no-workers-timeout": "30s",  # safely more than a restart takes
        "distributed.scheduler.worker-ttl": None,  # uses the system's clock, which may be set; `WorkerMembership` uses its own
        "distributed.worker.profile.enabled": False,
        "distributed.admin.tick.interval": "500ms",
        "distributed.admin.tick.limit": "1h",
        "distributed.admin.system-monitor.interval": "2s",
        **preloads("worker", "pipeline.cluster.affinity", GUARD),
        web_guard.HOSTS: web_guard.allowed_hosts(hosts),
        affinity.CORE_SETS: plan.core_sets,
        affinity.WARM_UP: tuple(warm_up),
        affinity.DEBUG: debug,
    }


def preloads(of: Literal["scheduler", "worker"], *modules: str) -> dict[str, Any]:
    """Returns the configuration of preloads for schedulers or workers: the user's modules, then these."""
    names, arguments = f"distributed.{of}.preload", f"distributed.{of}.preload-argv"
    given, argv = dask.config.get(names), dask.config.get(arguments)
    found: dict[str, Any] = {names: [*([given] if isinstance(given, str) else given), *modules]}
    if argv and not isinstance(argv[0], str):  # one list for each module
        found[arguments] = [*argv, *([] for _ in modules)]
    return found


def start(
    section: Cluster, debug: bool = False, scheduler_preloads: Sequence[str] = (), warm_up: Sequence[str] = ()
) -> LocalCluster:
    """Starts a cluster on loopback, for the device the job asks for, its workers pinned and answering.

    With `cluster.security` all its connections are encrypted, and each side shows a certificate; the dashboard, whose
    browser has none, stays on loopback without TLS.  ClusterError if a file cannot be used.
    `scheduler_preloads`: modules that the scheduler loads if it has a dashboard; `warm_up`: modules that each worker
    imports as it starts.
    """
    plan = layout(section)
    PlainNanny.exit_codes.clear()
    options: dict[str, Any] = {
        "memory_limit": plan.memory_limit_nbytes,
        "host": HOST,
        "dashboard_address": ports.free_address() if section.dashboard else f"{HOST}:0",
        "scheduler_kwargs": {"dashboard": False},  # loaded at the first visit
        "worker_class": PlainNanny,
        "processes": True,
        "silence_logs": False if debug else logs.NEVER,
    }
    if section.security:
        made = throwaway_tls.make() if section.security == "auto" else tls.for_all(section.security)
        options |= {"security": made, "protocol": "tls://"}
    if section.local_directory:
        options["local_directory"] = section.local_directory
    pages = scheduler_preloads if section.dashboard else ()
    configuration = _settings(plan, debug, section.dashboard_hosts, warm_up) | preloads("scheduler", GUARD, *pages)
    with _own_environment(), dask.config.set(configuration):
        if plan.device == "cuda":
            return cuda.start(section, plan.workers, plan.threads, options)
        return LocalCluster(n_workers=plan.workers, threads_per_worker=plan.threads, **options)


class PlainNanny(Nanny):
    """A nanny whose worker does not import the main script again.

    Spawned processes import it because pickled functions might need it; ours never do, and the import costs time and
    memory in every worker, and a script without `if __name__ == "__main__"` would start a cluster in each.  It also
    sets the variables of `openmp.environment`.
    """

    exit_codes: ClassVar[list[int]] = []  # of this process's workers that ended, since the latest cluster was started

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.exits: dict[str, int] = {}  # of its workers that ended: address -> exit code
        variables = openmp.environment(self.nthreads)
        self.pre_spawn_env.update(variables)  # for libraries that read it as they are loaded
        self.env.update(variables)

    def _on_worker_exit_sync(self, exitcode: int) -> None:
        self.exits[str(self.worker_address)] = exitcode
        self.exit_codes.append(exitcode)
        super()._on_worker_exit_sync(exitcode)

    async def instantiate(self) -> Any:
        with _hidden_main():
            return await super().instantiate()


# State of the process, like its main module: nannies start in parallel, and the last one restores what was hidden.
_main_lock = threading.Lock()
_main_hidden = 0
_main_kept: dict[str, Any] = {}


@contextlib.contextmanager
def _hidden_main() -> Iterator[None]:
    """Makes `worker_main` look like the main module, which spawned processes import first."""
    global _main_hidden
    main = sys.modules["__main__"]
    with _main_lock:
        _main_hidden += 1
        if _main_hidden == 1:
            _main_kept.update({name: vars(main)[name] for name in ("__file__", "__spec__") if name in vars(main)})
            vars(main).pop("__file__", None)
            vars(main)["__spec__"] = importlib.machinery.ModuleSpec(WORKER_MAIN, None)
    try:
        yield
    finally:
        with _main_lock:
            _main_hidden -= 1
            if _main_hidden == 0:
                vars(main).update(_main_kept)
                _main_kept.clear()


@contextlib.contextmanager
def _own_environment() -> Iterator[None]:
    """Removes what nannies write into this process's environment for their workers."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)
