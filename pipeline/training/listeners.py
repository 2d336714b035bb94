"""Closes the socket on which XGBoost listens in every worker of a communicator, where XGBoost itself leaves it open.

Each rank listens on all addresses of its machine for the news that another one has failed, and anybody who can reach
that port can end the process.  XGBoost closes it when the rank leaves in order; after a failure it stays open for as
long as the worker lives (3.4, read and seen).
"""

import contextlib
import os
import socket
from collections.abc import Iterator

from pipeline.efficiency import sockets


@contextlib.contextmanager
def none_left() -> Iterator["Watched"]:
    """Nothing that `Watched.opened` has listened to is open after this context."""
    watched = Watched()
    try:
        yield watched
    finally:
        watched.close()


class Watched:
    """The listening sockets that came about since this was made."""

    def __init__(self) -> None:
        self._before = sockets.connections()
        self._opened: frozenset[str] = frozenset()

    def opened(self) -> None:
        """Takes down what has been opened until now: whatever is opened later is somebody else's."""
        self._opened = sockets.connections() - self._before

    def close(self) -> None:
        """Stops those that still listen on all addresses; the thread that waits for a connection then ends."""
        for name, fd in sockets.descriptors().items() if self._opened else ():
            if name in self._opened:
                _stop_listening(fd)


def _stop_listening(fd: int) -> None:
    """Does nothing to a socket that is none of that kind, or that was closed meanwhile."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as second:
        listens = second.family in (socket.AF_INET, socket.AF_INET6) and second.getsockopt(
            socket.SOL_SOCKET, socket.SO_ACCEPTCONN
        )
        if listens and second.getsockname()[0] in ("0.0.0.0", "::"):
            second.shutdown(socket.SHUT_RDWR)
