"""Finds and kills child processes, and collects the stderr of workers that fail to start."""

import contextlib
import multiprocessing
import os
import shutil
import signal
import tempfile
from collections.abc import Collection, Iterable, Iterator
from multiprocessing import resource_tracker
from pathlib import Path

from pipeline.cluster import worker_stderr
from pipeline.cluster.memory import process_tree


def children() -> set[int]:
    """Returns all descendants of this process except Python's resource tracker; opens no file for direct children."""
    tracker = getattr(getattr(resource_tracker, "_resource_tracker", None), "_pid", None)
    own = {process.pid for process in multiprocessing.active_children() if process.pid is not None}
    return (own | set(process_tree())) - {os.getpid(), tracker}


def kill_children(spared: Collection[int] = ()) -> None:
    """Kills all descendants of this process except these."""
    kill_own(children().difference(spared))


def kill_own(pids: Iterable[int]) -> None:
    """Kills those of these processes that are descendants of this one: an id may have been reused by another process."""
    for pid in children().intersection(pids):
        with contextlib.suppress(OSError):  # it has ended, or runs as another user
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def stderr_of_workers(folder: Path | None = None) -> Iterator[Path | None]:
    """Gives a folder where workers that start meanwhile write their stderr until they have started; removes it.

    Set by an environment variable that they inherit.  `folder`: default: a new one; None if none can be made.
    """
    folder = folder or new_stderr_folder()
    if folder is None:
        yield None
        return
    os.environ[worker_stderr.FOLDER] = str(folder)
    try:
        yield folder
    finally:
        os.environ.pop(worker_stderr.FOLDER, None)
        shutil.rmtree(folder, ignore_errors=True)


def new_stderr_folder() -> Path | None:
    """Makes a folder for the stderr of processes that start; None if that fails."""
    with contextlib.suppress(OSError):
        return Path(tempfile.mkdtemp(prefix="pipeline-start-"))
    return None


@contextlib.contextmanager
def own_environment() -> Iterator[None]:
    """Removes what is written inside into this process's environment, for processes that it starts."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


def last_words(folder: Path | None) -> str:
    """Returns the last line that a worker wrote; empty if none wrote any."""
    found = ""
    with contextlib.suppress(OSError):
        for path in sorted(folder.iterdir()) if folder else ():
            lines = path.read_text(errors="replace").strip().splitlines()
            found = lines[-1].strip() if lines else found
    return found
