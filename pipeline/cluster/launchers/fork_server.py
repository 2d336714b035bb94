"""Starts the workers of a local cluster as forks of one process that has imported what they need.

A worker that starts by itself imports for about a second of processor time; a fork starts at once and shares the memory
of what is imported, so that every further worker, and every worker that replaces a lost one, costs a tenth of that
(benchmarks/worker_starts.py).  It is Python's own fork server, of which a process has one: while a cluster uses it,
other clusters of this process use it too if their workers would start with the same environment, and else start them as
new processes.  What a worker of such a further cluster prints before it has started goes to the terminal, not into the
error.  Only on Linux, only for workers without a GPU.
"""

import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver, popen_forkserver
from typing import Any

import dask
import distributed.utils

from pipeline.cluster import fork_main, worker_stderr
from pipeline.cluster.child_processes import own_environment

METHOD = "distributed.worker.multiprocessing-method"  # Dask's configuration key

# State of the process, like Python's fork server.
_lock = threading.Lock()
_users = 0  # clusters that use it
_started: object = None  # what it was started with; None: it is not ours
_preloads: list[str] = []  # of the user's own fork server


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
    global _users, _started, _preloads
    asked = [*modules], {**os.environ, **variables, worker_stderr.FOLDER: ""}  # a folder for the start of each cluster
    with _lock:
        if dask.config.get(METHOD, "spawn") != "spawn" or not sys.platform.startswith("linux"):
            return None
        if _users and _running() and asked == _started:
            _users += 1
            return ForkServer()
        if not _users and _started is not None and not _forks():
            _end()  # it was left to workers that had not ended
        if _users or _running():
            return None
        # Dask would import all packages that it knows, also here.
        distributed.utils._forkserver_preload_set = True
        _preloads = list(_server()._preload_modules)
        multiprocessing.set_forkserver_preload([fork_main.__name__])
        # Its first import has to find the same package as ours, and nothing in the current folder that ours does not.
        path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
        first = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
        what = {"modules": list(modules), "variables": {name: os.environ.get(name) for name in first}}
        with own_environment():
            os.environ.update({**variables, **first, fork_main.WHAT: json.dumps(what)})
            forkserver.ensure_running()
        _users, _started = 1, asked
    return ForkServer()


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
