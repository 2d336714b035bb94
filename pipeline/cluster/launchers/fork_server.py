"""Starts the workers of a local cluster as forks of one process that has imported what they need.

A worker that starts by itself imports for about a second of processor time; a fork starts at once and shares the memory
of what is imported, so that every further worker, and every worker that replaces a lost one, costs a tenth of that
(benchmarks/worker_starts.py).  It is Python's own fork server, of which a process has one: while a cluster uses it,
other clusters of this process start their workers as new processes.  Only on Linux, only for workers without a GPU.
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

from pipeline.cluster import fork_main
from pipeline.cluster.child_processes import own_environment

METHOD = "distributed.worker.multiprocessing-method"  # Dask's configuration key

_lock = threading.Lock()
_lent = False  # state of the process, like Python's fork server


class ForkServer:
    """The fork server while a cluster uses it."""

    def stop(self) -> None:
        """Ends it, once the cluster's workers have ended; later workers of Dask's other clusters start as before."""
        global _lent
        with _lock:
            if not _lent:
                return
            _lent = False
            if not any(map(_is_fork, multiprocessing.active_children())):  # else it lives as long as this process
                _end()


def start(modules: Sequence[str], variables: Mapping[str, str]) -> ForkServer | None:
    """Starts the fork server with this process's environment and these variables; it imports these modules.

    Returns at once.  None if there can be none: another cluster or the user's own code uses it, or the system or the
    user's configuration of Dask rules it out.
    """
    global _lent
    chosen = dask.config.get(METHOD, "spawn")
    with _lock:
        if _lent or _running() or chosen != "spawn" or not sys.platform.startswith("linux"):
            return None
        # Dask would import all packages that it knows, also here.
        distributed.utils._forkserver_preload_set = True
        multiprocessing.set_forkserver_preload([fork_main.__name__])
        # Its first import has to find the same package as ours, and nothing in the current folder that ours does not.
        path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
        first = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
        what = {"modules": list(modules), "variables": {name: os.environ.get(name) for name in first}}
        with own_environment():
            os.environ.update({**variables, **first, fork_main.WHAT: json.dumps(what)})
            forkserver.ensure_running()
        _lent = True
    return ForkServer()


def _is_fork(process: Any) -> bool:
    return isinstance(getattr(process, "_popen", None), popen_forkserver.Popen)


def _server() -> Any:
    return forkserver._forkserver  # has no public name, like its process id


def _running() -> bool:
    return _server()._forkserver_pid is not None


def _end() -> None:
    """Kills the server first: its own way to stop waits for all processes that it started."""
    server = _server()
    if server._forkserver_pid is not None:
        os.kill(server._forkserver_pid, signal.SIGKILL)
        server._stop()
