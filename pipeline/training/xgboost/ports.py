"""Closes the ports that XGBoost opens in every worker of a communicator, as soon as the ranks are connected.

Each rank listens on all addresses of its machine for the message that another rank has failed: four bytes from any
sender that reaches that port end the process.  This package never sends that message (`collective.signal_error` would):
a rank learns of failures from its connections to the others.  XGBoost closes the port when the rank leaves in order,
and never after a failure (3.4, read and seen); after `shutdown(2)` its thread ends silently.
"""

import contextlib
import os
import socket
from collections.abc import Iterator

from pipeline.efficiency import sockets


@contextlib.contextmanager
def close_listening_sockets() -> Iterator[None]:
    """Closes, at the end of the block, sockets that began to listen on all addresses inside it; leaves others alone."""
    before = sockets.connections()
    try:
        yield
    finally:
        for name, fd in sockets.descriptors().items():
            if name not in before:
                _stop_listening(fd)


def _stop_listening(fd: int) -> None:
    """Stops a listening socket; ignores descriptors of any other kind, or closed meanwhile."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as second:
        listens = second.family in (socket.AF_INET, socket.AF_INET6) and second.getsockopt(
            socket.SOL_SOCKET, socket.SO_ACCEPTCONN
        )
        if listens and second.getsockname()[0] in ("0.0.0.0", "::"):
            second.shutdown(socket.SHUT_RDWR)
