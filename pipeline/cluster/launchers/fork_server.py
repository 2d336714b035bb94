"""Starts the workers of a local cluster as forks of one process that has imported what they need.

A worker that starts by itself imports for about a second of processor time; a fork starts at once and shares the memory
of what is imported, so that every further worker, and every worker that replaces a lost one, costs a tenth of that
(benchmarks/worker_starts.py).  It is Python's own fork server, of which a process has one: while a cluster uses it,
other clusters of this process use it too if their workers would start with the same environment, and else start them as
new processes.  What a worker of such a further cluster prints before it has started goes to the terminal, not into the
error.  Only on Linux, only for workers without a GPU.

The command line starts it `ahead` of a cluster, so that it imports while the client imports Dask.
"""

import contextlib
import importlib.util
import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import forkserver, popen_forkserver
from pathlib import Path
from typing import Any

from pipeline.cluster import affinity, fork_main, openmp, worker_stderr
from pipeline.cluster.child_processes import own_environment, stderr_of_workers
from pipeline.cluster.devices import missing_for_gpu
from pipeline.cluster.launchers.layout import threads_each, workers_on_cpu
from pipeline.config.job import Cluster

METHOD = "distributed.worker.multiprocessing-method"  # Dask's configuration key

# State of the process, like Python's fork server.
_lock = threading.Lock()
_users = 0  # clusters that use it
_started: object = None  # what it was started with; None: it is not ours
_preloads: list[str] = []  # of the user's own fork server
_ahead = False  # whether it runs for a cluster that is still to start


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

    global _users, _ahead
    with _lock:
        early, _ahead = _ahead, False
        ruled_out = dask.config.get(METHOD, "spawn") != "spawn" or not sys.platform.startswith("linux")
        if (_users or (early and not ruled_out)) and _running() and _asked(modules, variables) == _started:
            _users += 1
        else:
            if not _users and _started is not None and not _forks():
                _end()  # it was left to workers that had not ended, or started ahead for another cluster than this one
            if ruled_out or _users or _running():
                return None
            _spawn(modules, variables)
            _users = 1
        # Dask would import all packages that it knows, also here.
        distributed.utils._forkserver_preload_set = True
    return ForkServer()


@contextlib.contextmanager
def ahead(section: Cluster, modules: Sequence[str]) -> Iterator[None]:
    """Starts the fork server for the first cluster that starts within it, before Dask is imported; that cluster ends it.

    The variables of its workers are those that Dask sets by default: if the user's configuration says otherwise, the
    cluster starts another one.
    """
    global _ahead
    on_gpu = section.device != "cpu" and missing_for_gpu() is None  # perhaps: it is not tried here, that takes long
    if not sys.platform.startswith("linux") or section.scheduler is not None or on_gpu:
        yield
        return
    cores = affinity.cores()
    threads = threads_each(section, workers_on_cpu(section, affinity.numa_nodes(), cores), cores)
    with stderr_of_workers():
        with _lock:
            if not _users and not _running():
                _spawn(modules, variables(_defaults_of_dask(), threads))
                _ahead = True
        try:
            yield
        finally:
            with _lock:
                unused, _ahead = _ahead, False
                if unused:
                    _end()


def variables(of_dask: Mapping[str, Any], threads: int) -> dict[str, str]:
    """Returns the environment variables of workers with so many threads; `of_dask`: those in Dask's configuration."""
    unset = {name: str(value) for name, value in of_dask.items() if value is not None and name not in os.environ}
    return unset | openmp.environment(threads)


def _defaults_of_dask() -> Mapping[str, Any]:
    """Returns the variables that Dask sets for workers by default; none if they are not where they used to be."""
    import yaml

    found = importlib.util.find_spec("distributed")
    try:
        places = found.submodule_search_locations if found is not None else None
        text = (Path((places or [""])[0]) / "distributed.yaml").read_text(encoding="utf-8")
        variables: Mapping[str, Any] = yaml.safe_load(text)["distributed"]["nanny"]["pre-spawn-environ"]
    except (OSError, KeyError):
        return {}
    return variables


def _asked(modules: Sequence[str], variables: Mapping[str, str]) -> object:
    """Returns what a server for these has to be started with; each cluster has a folder of its own for stderr."""
    return [*modules], {**os.environ, **variables, worker_stderr.FOLDER: ""}


def _spawn(modules: Sequence[str], variables: Mapping[str, str]) -> None:
    global _started, _preloads
    asked = _asked(modules, variables)
    _preloads = list(_server()._preload_modules)
    multiprocessing.set_forkserver_preload([fork_main.__name__])
    # Its first import has to find the same package as ours, and nothing in the current folder that ours does not.
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    first = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    what = {"modules": list(modules), "variables": {name: os.environ.get(name) for name in first}}
    with own_environment():
        os.environ.update({**variables, **first, fork_main.WHAT: json.dumps(what)})
        forkserver.ensure_running()
    _started = asked


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
