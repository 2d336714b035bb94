"""Closes the ports that XGBoost opens in every worker of a communicator, as soon as that stands.

Each rank listens on all addresses of its machine for the news that another one has failed: four bytes from anybody who
reaches that port end the process.  Nobody sends such news here (`collective.signal_error` is what would): what a rank
needs to know, it sees from its connections to the others.  XGBoost closes the port when the rank leaves in order, and
never after a failure (3.4, read and seen); told by `shutdown(2)`, its thread ends without a word.
"""

import contextlib
import os
import socket
from collections.abc import Iterator

from pipeline.efficiency import sockets


@contextlib.contextmanager
def closed() -> Iterator[None]:
    """What began to listen on all addresses inside stops doing so in the end; other sockets are left alone."""
    before = sockets.connections()
    try:
        yield
    finally:
        for name, fd in sockets.descriptors().items():
            if name not in before:
                _stop_listening(fd)


def _stop_listening(fd: int) -> None:
    """Does nothing to a socket that is none of that kind, or that was closed meanwhile."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as second:
        listens = second.family in (socket.AF_INET, socket.AF_INET6) and second.getsockopt(
            socket.SOL_SOCKET, socket.SO_ACCEPTCONN
        )
        if listens and second.getsockname()[0] in ("0.0.0.0", "::"):
            second.shutdown(socket.SHUT_RDWR)
