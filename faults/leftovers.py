"""Finds what outlived a run: processes, by a mark in their environment, and files."""

import time
from pathlib import Path

import psutil

MARK = "FAULTS_RUN"  # variable of the environment that all processes of a run inherit
DASK_OWN = ("purge.lock", "global.lock")  # lock files that Dask keeps in its scratch space
WAIT_SECONDS = 5.0  # for processes that are ending


def processes(mark: str, seconds: float = WAIT_SECONDS) -> list[str]:
    """Returns the command lines of processes that still carry the mark after at most `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = [process for process in psutil.process_iter() if _bears(process, mark)]
        if not found or time.monotonic() > deadline:
            return [_named(process) for process in found]
        psutil.wait_procs(found, timeout=0.2)


def _bears(process: psutil.Process, mark: str) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark
    except (psutil.Error, OSError):
        return False


def _named(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())}"[:200]
    except psutil.Error:
        return f"{process.pid}, gone since"


def end(mark: str) -> None:
    """Kills the processes that carry the mark."""
    for process in psutil.process_iter():
        if _bears(process, mark):
            process.kill()


def files(folder: Path, *kept: Path) -> list[str]:
    """Returns files and folders below `folder`; those of Dask's own scratch space only if they hold files of ours."""
    found = []
    for path in sorted(folder.rglob("*")):
        inside = any(path == known or path.is_relative_to(known) or known.is_relative_to(path) for known in kept)
        if not inside and not _is_dasks(path):
            found.append(str(path.relative_to(folder)))
    return found


def _is_dasks(path: Path) -> bool:
    """Whether it is one of Dask's lock files, or a folder that Dask makes."""
    if "dask-scratch-space" not in path.parts and not any(part.startswith("worker-") for part in path.parts):
        return False
    return (
        path.name in DASK_OWN
        or path.name.endswith(".dirlock")
        or (path.is_dir() and not any(path.iterdir()))
        or _is_dasks_folder(path)
    )


def _is_dasks_folder(path: Path) -> bool:
    return path.is_dir() and (path.name == "dask-scratch-space" or path.name.startswith(("worker-", "scheduler-")))
