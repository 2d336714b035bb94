"""The first module of the fork server: imports what workers need; stderr goes to a file meanwhile.

`pipeline.cluster.launchers.fork_server` has it imported.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
from multiprocessing import forkserver

from pipeline.cluster import lean, worker_stderr

# Environment variable: {"modules": to import, "variables": to set before, for workers: name -> value, None: unset}
WHAT = "PIPELINE_FORK_SERVER"


def _remove_socket() -> None:
    """Removes what a client that is killed cannot remove; the server ends when its client and its workers have ended."""
    address = str(forkserver._forkserver._forkserver_address)  # type: ignore[attr-defined]  # has no public name
    with contextlib.suppress(OSError):
        os.unlink(address)
        os.rmdir(os.path.dirname(address))


def _prepare(modules: list[str], variables: dict[str, str | None]) -> None:
    atexit.register(_remove_socket)
    for name, value in variables.items():
        os.environ.pop(name)
        if value is not None:
            os.environ[name] = value
    worker_stderr.redirect()
    lean.install()
    for module in modules:
        with contextlib.suppress(ImportError):  # the worker that needs it says so
            importlib.import_module(module)
    folder = os.environ.get(worker_stderr.FOLDER)
    worker_stderr.restore()  # also processes of the user's own may be forks of this one
    if folder:
        os.environ[worker_stderr.FOLDER] = folder  # for the workers
    gc.collect()
    gc.freeze()  # a later collection would write to memory that is shared with the workers


if what := os.environ.pop(WHAT, ""):
    _prepare(**json.loads(what))
