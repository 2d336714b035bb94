"""Starts the workers of a local cluster as forks of one process that has imported what they need.

A worker that starts by itself imports for about a second of processor time; a fork starts at once and shares the memory
of what is imported, so that every further worker, and every worker that replaces a lost one, costs a tenth of that
(benchmarks/worker_starts.py).  It is Python's own fork server, of which a process has one: while a cluster uses it,
other clusters of this process use it too if their workers would start with the same environment, and else start them as
new processes.  What a worker of such a further cluster prints before it has started goes to the terminal, not into the
error.  Only on Linux, only for workers without a GPU.

The command line starts it early, before a cluster: it then imports while the client imports Dask.
"""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import forkserver, popen_forkserver
from pathlib import Path
from typing import Any

from pipeline.cluster import affinity, fork_main, interrupts, openmp, worker_stderr
from pipeline.cluster.child_processes import new_stderr_folder, own_environment
from pipeline.cluster.devices import without_gpu
from pipeline.cluster.launchers.layout import threads_each, workers_on_cpu
from pipeline.config.job import Cluster

METHOD = "distributed.worker.multiprocessing-method"  # Dask's configuration key
# What Dask sets for workers unless it is configured otherwise (distributed.nanny.pre-spawn-environ): known here before
# Dask is imported.
DASK_VARIABLES = {
    "MALLOC_TRIM_THRESHOLD_": 65536, "OMP_NUM_THREADS": 1, "MKL_NUM_THREADS": 1, "OPENBLAS_NUM_THREADS": 1,
}  # fmt: skip

# State of the process, like Python's fork server.
_lock = threading.Lock()
_users = 0  # clusters that use it
_started: object = None  # what it was started with; None: it is not ours
_preloads: list[str] = []  # of the user's own fork server
_early: Path | None = None  # the folder for stderr of a server that no cluster uses yet


class ForkServer:
    """The fork server while a cluster uses it; to be stopped once."""

    def stop(self) -> None:
        """Ends it with its last cluster, whose workers have ended; later workers of Dask's own clusters start as before."""
        global _users
        with _lock:
            _users -= 1
            if not _users and not _forks():  # else the next cluster's start ends it
                _end()


def start(modules: Sequence[str], variables: Mapping[str, str]) -> ForkServer | None:
    """Starts the fork server with this process's environment and these variables; it imports these modules.

    Returns at once.  None if there can be none: another cluster, with other variables, or the user's own code uses it, or
    the system or the user's configuration of Dask rules it out.
    """
    import dask
    import distributed.utils

    global _users, _early
    with _lock:
        early, _early = _early is not None, None
        allowed = dask.config.get(METHOD, "spawn") == "spawn" and sys.platform.startswith("linux")
        if allowed and (_users or early) and _running() and _wanted(modules, variables) == _started:
            _users += 1
        else:
            if not _users and _started is not None and not _forks():
                _end()  # it was left to workers that had not ended, or it was started early for other workers than these
            if not allowed or _users or _running():
                return None
            _spawn(modules, variables)
            _users = 1
        # Dask would import all packages that it knows, also here.
        distributed.utils._forkserver_preload_set = True
    return ForkServer()


@contextlib.contextmanager
def started_early(section: Cluster, modules: Sequence[str]) -> Iterator[None]:
    """Starts the fork server for the cluster that starts next, so that it imports while this process imports Dask.

    That cluster ends it, or starts another one if its workers need other variables.  Without a cluster it ends here.
    Does nothing where the workers may be others than those of a local cluster without GPU, or if it fails: then the
    cluster starts its own.
    """
    global _early
    folder = None
    if sys.platform.startswith("linux") and section.scheduler is None and without_gpu(section.device):
        folder = new_stderr_folder()
    if folder is None:
        yield
        return
    try:
        cores = affinity.cores()
        threads = threads_each(section, workers_on_cpu(section, affinity.numa_nodes(), cores), cores)
        with contextlib.suppress(OSError), _lock, interrupts.signals_blocked():
            if not _users and not _running():
                _early = folder
                _spawn(modules, variables(DASK_VARIABLES, threads), folder)
        yield
    finally:
        with _lock:
            if _early == folder:
                _early = None
                _end()
        shutil.rmtree(folder, ignore_errors=True)


def early_stderr() -> Path | None:
    """Returns the folder where workers of a server that was started early, and has no cluster yet, write their stderr."""
    return _early


def variables(of_dask: Mapping[str, Any], threads: int) -> dict[str, str]:
    """Returns the environment variables of workers with so many threads; `of_dask`: those in Dask's configuration."""
    unset = {name: str(value) for name, value in of_dask.items() if value is not None and name not in os.environ}
    return unset | openmp.environment(threads)


def _wanted(modules: Sequence[str], variables: Mapping[str, str]) -> object:
    """Returns what a server has to be started with; the folder for stderr is another one for each cluster."""
    return [*modules], {**os.environ, **variables, worker_stderr.FOLDER: ""}


def _spawn(modules: Sequence[str], variables: Mapping[str, str], stderr: Path | None = None) -> None:
    """Starts it; `stderr`: the folder for its and its workers' stderr, default: that of this process's environment."""
    global _started, _preloads
    wanted = _wanted(modules, variables)
    _preloads = list(_server()._preload_modules)
    multiprocessing.set_forkserver_preload([fork_main.__name__])
    # Its first import has to find the same package as ours, and nothing in the current folder that ours does not.
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    first = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    what = {"modules": list(modules), "variables": {name: os.environ.get(name) for name in first}}
    with own_environment():
        os.environ.update({**variables, **first, fork_main.WHAT: json.dumps(what)})
        if stderr is not None:
            os.environ[worker_stderr.FOLDER] = str(stderr)
        forkserver.ensure_running()
    _started = wanted


def _forks() -> list[Any]:
    """Returns the forks that have not ended."""
    children = multiprocessing.active_children()
    return [child for child in children if isinstance(getattr(child, "_popen", None), popen_forkserver.Popen)]


def _server() -> Any:
    return forkserver._forkserver  # has no public name, like its process id


def _running() -> bool:
    return _server()._forkserver_pid is not None


def _end() -> None:
    """Kills the server first: its own way to stop waits for all processes that it started."""
    global _started
    server, _started = _server(), None
    multiprocessing.set_forkserver_preload(_preloads)
    if server._forkserver_pid is not None:
        os.kill(server._forkserver_pid, signal.SIGKILL)
        server._stop()
