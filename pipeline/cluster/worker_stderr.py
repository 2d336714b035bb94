"""Redirects the stderr of processes that start to files, so that the client can say why one did not start."""

import contextlib
import os

FOLDER = "PIPELINE_WORKER_STDERR"  # environment variable: the folder of those files
KEPT = "PIPELINE_WORKER_STDERR_KEPT"  # environment variable: descriptor of this process's own stderr


def redirect() -> None:
    """Redirects this process's stderr to a file of its own in the folder, if there is one; forks inherit that."""
    folder = os.environ.get(FOLDER)
    if not folder:
        return
    file = None  # of a worker that restarts later: its folder is gone
    with contextlib.suppress(OSError):
        file = os.open(os.path.join(folder, str(os.getpid())), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    saved = int(os.environ.get(KEPT, -1))
    if saved < 0:
        if file is None:
            return
        try:
            saved = os.dup(2)
        except OSError:  # stderr is closed
            saved = os.open(os.devnull, os.O_WRONLY)
    os.dup2(saved if file is None else file, 2)
    if file is not None:
        os.close(file)
    os.environ[KEPT] = str(saved)


def restore() -> None:
    """Restores this process's own stderr, with what was written meanwhile, if it was redirected."""
    saved, folder = os.environ.pop(KEPT, ""), os.environ.pop(FOLDER, "")
    if not saved:
        return
    with contextlib.suppress(OSError), open(os.path.join(folder, str(os.getpid())), "rb") as written:
        os.write(int(saved), written.read())
    os.dup2(int(saved), 2)
    os.close(int(saved))
