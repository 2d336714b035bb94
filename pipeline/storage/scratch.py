"""Manages scratch folders on a worker's local disk, and decides whether data fit in its memory.

A worker has one folder for each run, named by run, process id and a random number, and holds a lock on a file next to
it as long as its process runs.  So the next process that opens a folder recognises those of processes that are gone,
also of other containers that share the disk, where process ids mean nothing; it removes them.
"""

import contextlib
import errno
import fcntl
import gc
import math
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.util import Finalize
from pathlib import Path

import psutil

from pipeline.errors import OutputError, PipelineError
from pipeline.planning.storage_plan import SPILL_SHARE
from pipeline.runtime.worker_session import Content, RunResource, current_worker, worker_session

PREFIX, LOCK, RESERVED = "pipeline-scratch-", ".lock", ".reserved"
MIB = 2**20


@dataclass(frozen=True)
class _Folder:
    """What a worker has of a run under one root."""

    path: Path
    lock: int  # open file with the lock


class Scratch(RunResource):
    """The folders of one run on one worker, one under each root."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._folders: dict[Path, _Folder] = {}  # by root
        self._over = False
        self._at_exit: Finalize | None = None
        self._guard = threading.Lock()

    def open(self, root: Path) -> Path:
        """Returns the folder under `root`, of mode 0700.  PipelineError if the run is over."""
        with self._guard:
            if self._over:
                raise _over(self._run)
            if root not in self._folders:
                # Python 3.12 ends forks without `atexit`.
                self._at_exit = self._at_exit or Finalize(None, self.remove, exitpriority=0)
                self._folders[root] = _make(self._run, root)
            return self._folders[root].path

    def remove(self) -> None:
        """Removes the folders with their content; none can be opened again.  Called before the process ends, too."""
        with self._guard:
            self._over = True
            while self._folders:
                _remove(self._folders.popitem()[1])

    def close(self) -> None:
        gc.collect()  # matrices that only a reference cycle keeps need their files when they are collected
        roots = list(self._folders)
        self.remove()
        for root in roots:
            _remove_leftovers(root)  # of workers that were killed in this run
        if self._at_exit is not None:
            self._at_exit.cancel()

    def contents(self) -> list[Content]:
        return [Content(f"files in {folder.path}", _nbytes_in(folder.path)) for folder in list(self._folders.values())]


def _over(run: str) -> PipelineError:
    return PipelineError(f"run {run} is over: nothing more is written for it")


def open_scratch(run: str, root: str | None) -> Path:
    """Returns the run's folder on the worker of this task, of mode 0700 under `root`.

    `root`: `cluster.scratch`; None: where Dask has the worker's own files.  The first use in a run removes what
    processes that are gone have left under the same root.  OutputError if the folder cannot be made.
    """
    session = worker_session()
    scratch = None if session is None else session.of(run, Scratch)
    if scratch is None:
        raise _over(run)
    return scratch.open(Path(root).expanduser() if root is not None else _default_root())


@contextlib.contextmanager
def reserved_space(prefix: Path, nbytes: int, what: str, free: int | None = None) -> Iterator[None]:
    """Reserves disk space for files with this prefix, against other workers on the same disk, while the context lasts.

    OutputError, as `require_space`, if there is less.  `free`: bytes; default: as the disk reports.
    """
    reservation = Path(f"{prefix}{RESERVED}")
    with _alone(prefix.parent.parent) as root:
        _remove_leftovers(root)  # frees the space of processes that are gone
        require_space(prefix.parent, nbytes, what, free)
        with open(reservation, "wb") as file:
            file.truncate(nbytes)  # the file's length is the reservation: it has no blocks
    try:
        yield
    finally:
        reservation.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[Path]:
    """Serialises reservations under a root."""
    lock = os.open(root, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield root
    finally:
        os.close(lock)


def _outstanding_nbytes(root: Path) -> int:
    """Returns what is reserved under a root and not written yet."""
    total = 0
    for reservation in root.glob(f"{PREFIX}*/*{RESERVED}"):
        with contextlib.suppress(OSError):
            stem = reservation.name.removesuffix(RESERVED)
            written = sum(path.stat().st_blocks * 512 for path in reservation.parent.glob(f"{stem}*"))
            total += max(0, reservation.stat().st_size - written)
    return total


def require_space(folder: Path, nbytes: int, what: str, free: int | None = None) -> None:
    """Raises OutputError if the folder's disk, minus the reservations of others, has less room than will be written.

    `free`: bytes on the disk without regard to reservations; default: as the disk reports.
    """
    free = shutil.disk_usage(folder).free if free is None else free
    free = max(0, free - _outstanding_nbytes(folder.parent))
    if nbytes > free:
        raise OutputError(
            f"{_root_of(folder)}: {what} take {_size(nbytes, math.ceil)} of scratch space, {_size(free, math.floor)} are "
            "free: make room, or give another disk with cluster.scratch"
        )


def write_error(folder: Path, error: OSError) -> OutputError:
    """Returns the error for scratch space that cannot be used."""
    root = _root_of(folder)
    if isinstance(error, FileExistsError) and root.is_file():
        reason = "it is a file, not a folder"
    elif isinstance(error, FileNotFoundError) and not root.parent.exists():
        reason = f"there is no folder {root.parent}"
    else:
        reason = error.strerror or str(error)
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(root).free
        reason += f" ({_size(free, math.floor)} are free)" if error.errno == errno.ENOSPC else ""
    return OutputError(f"{root}: scratch files cannot be written: {reason}; see cluster.scratch")


def _root_of(folder: Path) -> Path:
    """Returns the folder of scratch files that the user knows: the one that contains it."""
    return folder.parent if folder.name.startswith(PREFIX) else folder


def memory_is_short(share: float = SPILL_SHARE) -> bool:
    """Whether this worker's process exceeds a share of its limit, as nannies measure it; False outside a worker."""
    worker = current_worker()
    limit = worker.memory_manager.memory_limit if worker is not None else None
    return bool(limit) and psutil.Process().memory_info().rss > share * int(limit or 0)


def _default_root() -> Path:
    worker = current_worker()
    return Path(tempfile.gettempdir() if worker is None else worker.local_directory)


def _make(run: str, root: Path) -> _Folder:
    """Makes a folder, its lock first: a folder without a lock counts as left behind."""
    try:
        root.mkdir(exist_ok=True)  # makes no parents: a misspelled path must not create a new tree
        _remove_leftovers(root)
        path = root / f"{PREFIX}{run}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        lock = os.open(f"{path}{LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.mkdir(mode=0o700)
        except BaseException:
            os.close(lock)
            raise
    except OSError as error:
        raise write_error(root, error) from None
    return _Folder(path, lock)


def _remove(folder: _Folder) -> None:
    shutil.rmtree(folder.path, ignore_errors=True)
    Path(f"{folder.path}{LOCK}").unlink(missing_ok=True)
    os.close(folder.lock)


def _remove_leftovers(root: Path) -> None:
    """Removes the folders of processes that are gone; keeps those of other users, and on disks without locks."""
    for path in root.glob(f"{PREFIX}*"):
        if path.suffix == LOCK or not path.is_dir():
            continue
        with contextlib.suppress(OSError):
            lock = os.open(f"{path}{LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(_Folder(path, os.dup(lock)))
            finally:
                os.close(lock)


def _nbytes_in(folder: Path) -> int:
    """Returns the bytes of the files in a folder, some of which may vanish meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size
    return total


def _size(nbytes: int, rounded: Callable[[float], int]) -> str:
    """
    >>> _size(9 * MIB, math.floor), _size(3_000_000, math.ceil), _size(700_000, math.floor)
    ('9 MiB', '2.9 MiB', '683 KiB')
    """
    if nbytes < MIB:
        return f"{rounded(nbytes / 1024)} KiB"
    return f"{rounded(nbytes / MIB * 10) / 10:,.1f} MiB".replace(".0 ", " ")
