"""Main module of worker processes that start: redirects their stderr to a file until they have started.

`pipeline.cluster.launchers.local` names it as the main module that spawned processes import first, in place of the
user's script.
"""

import contextlib
import os

KEPT = "PIPELINE_WORKER_STDERR_KEPT"  # environment variable: descriptor of this process's own stderr


def _redirect() -> None:
    folder = os.environ.get("PIPELINE_WORKER_STDERR")
    if not folder:
        return
    try:
        file = os.open(os.path.join(folder, str(os.getpid())), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError:
        return  # a worker that restarts later: its folder is gone
    try:
        saved = os.dup(2)
    except OSError:  # stderr is closed
        saved = os.open(os.devnull, os.O_WRONLY)
    os.dup2(file, 2)
    os.close(file)
    os.environ[KEPT] = str(saved)


def restore() -> None:
    """Restores this process's own stderr, with what was written meanwhile, if it was redirected."""
    saved, folder = os.environ.pop(KEPT, ""), os.environ.pop("PIPELINE_WORKER_STDERR", "")
    if not saved:
        return
    with contextlib.suppress(OSError), open(os.path.join(folder, str(os.getpid())), "rb") as written:
        os.write(int(saved), written.read())
    os.dup2(int(saved), 2)
    os.close(int(saved))


if __name__ == "__mp_main__":
    _redirect()
