"""Frees a rank from a collective whose result is no longer wanted, e.g. because its client was killed.

Ranks agree to stop after a round (`rounds._check`).  A rank that waits in a collective for a peer that never comes, as
after an error that XGBoost has lost or while the ranks join, reaches no such round, and XGBoost's timeout is half an
hour.  So a separate thread checks whether the rank's task is still wanted.  If it is not and the rank does nothing, the
thread shuts XGBoost's sockets down, which fails the collective on both sides; if that does not help, it ends the
process, and the nanny starts another one.
"""

import contextlib
import functools
import gc
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

from pipeline.efficiency import sockets
from pipeline.runtime.worker_session import WorkerSession
from pipeline.storage.scratch import Scratch
from pipeline.training.xgboost.rank_exit import BUSY_SECONDS

LOOK_SECONDS = 0.5
IDLE_SECONDS = 1.5  # of an unwanted rank, until its sockets are shut down; plus one round, if it had rounds
LONGEST_SECONDS = 30.0  # at most that a round adds to it
STUCK_SECONDS = 4.0  # after that, until its process is ended
REMOVE_SECONDS = 2.0  # for its files to be removed before that


class Pulse:
    """Measures the longest time between two checks of a rank whether it is wanted: its peers may compute that long."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: float | None = None
        self.longest_seconds = 0.0

    def beat(self) -> None:
        """Records a check."""
        now = self._clock()
        if self._last is not None:
            self.longest_seconds = max(self.longest_seconds, now - self._last)
        self._last = now


class Watchdog:
    """Decides what to do with one rank; all actions are arguments."""

    def __init__(
        self,
        cancelled: Callable[[], bool],
        pulse: Pulse,
        used: Callable[[], float],
        shut: Callable[[], object],
        end: Callable[[], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`used`: CPU seconds of the rank's thread; `shut`: shuts down its connections; `end`: ends its process."""
        self._cancelled, self._pulse, self._used = cancelled, pulse, used
        self._shut, self._end, self._clock = shut, end, clock
        self._idle_since: float | None = None
        self._before = 0.0  # CPU seconds when it was last seen working

    def look(self) -> None:
        """Checks once; called every half second or so."""
        if not self._cancelled():
            self._idle_since = None
            return
        now, used = self._clock(), self._used()
        if self._idle_since is None or used > self._before + BUSY_SECONDS:
            self._idle_since, self._before = now, used
            return
        idle, allowed = now - self._idle_since, IDLE_SECONDS + min(LONGEST_SECONDS, self._pulse.longest_seconds)
        if idle > allowed + STUCK_SECONDS:
            self._end()
        elif idle > allowed:
            self._shut()


@contextlib.contextmanager
def freed_when(
    cancelled: Callable[[], bool], pulse: Pulse, used: Callable[[], float], session: WorkerSession
) -> Iterator[None]:
    """On the worker: frees the rank in this block soon after its task is no longer wanted, whatever it waits in."""
    before = sockets.connections()
    end = functools.partial(end_process, session)
    watchdog = Watchdog(cancelled, pulse, used, lambda: shut_native(before), end)
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_SECONDS):
            watchdog.look()

    thread = threading.Thread(target=watch, name="abandoned", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def end_process(session: WorkerSession) -> None:
    """Ends this process at once; first removes its files on disk, which would otherwise stay until the next run."""

    def remove() -> None:
        for scratch in session.each(Scratch).values():
            scratch.remove()

    removing = threading.Thread(target=remove, name="remove scratch", daemon=True)
    removing.start()
    removing.join(REMOVE_SECONDS)  # a stuck thread may hold a lock that the removal needs
    os._exit(1)


def shut_native(before: frozenset[str]) -> None:
    """Shuts down the TCP connections that libraries outside Python have opened since `before`: XGBoost's.

    Dask's connections, and all others that Python code has opened, belong to socket objects.
    """
    owned = {
        one.fileno() for one in gc.get_objects() if issubclass(type(one), socket.socket)
    }  # by type: proxies may claim any class
    for name, fd in sockets.descriptors().items():
        if name not in before and fd not in owned:
            _shut(fd)


def _shut(fd: int) -> None:
    """Shuts a TCP connection down; ignores a descriptor that is none, or was closed meanwhile."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as second:
        if second.type == socket.SOCK_STREAM and second.family in (socket.AF_INET, socket.AF_INET6):
            second.shutdown(socket.SHUT_RDWR)
