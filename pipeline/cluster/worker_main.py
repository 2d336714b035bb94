"""Main module of worker processes that start.

`pipeline.cluster.launchers.plain_nanny` names it as the main module that a worker's process runs first, in place of the
user's script; nothing imports it.
"""

import ctypes
import signal
import sys
from multiprocessing import forkserver

from pipeline.cluster import worker_stderr

PR_SET_PDEATHSIG = 1  # of prctl


def _end_with_parent() -> None:
    """A fork whose server was killed would live on while its nanny takes it for dead."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__mp_main__":
    worker_stderr.redirect()
    if sys.platform.startswith("linux") and forkserver.get_inherited_fds() is not None:  # a fork
        _end_with_parent()
