"""Finds a free port for the dashboard."""

import contextlib
import socket
import sys
from collections.abc import Iterator

PORT = 8787


@contextlib.contextmanager
def free_address(host: str = "127.0.0.1", port: int = PORT) -> Iterator[str]:
    """Gives `host:port` of the first free port from `port` on; after ten that are taken, `host:0`: any.

    Until it is left, no other process of this package gets the same port: two that start at once both find it free, and
    Dask leaks a socket and warns when it finds a port taken.
    """
    with contextlib.ExitStack() as claims:
        for candidate in range(port, min(port + 10, 65_536)):
            if free_port(candidate, host) is not None and _claim(claims, candidate):
                yield f"{host}:{candidate}"
                return
        yield f"{host}:0"


def free_port(port: int, host: str = "127.0.0.1") -> int | None:
    """Returns the port if no process listens on it, else None; for 0 any free port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return None
        return int(probe.getsockname()[1])


def _claim(claims: contextlib.ExitStack, port: int) -> bool:
    """Takes a name of the kernel's, which vanishes with this process; other systems than Linux have none."""
    if not sys.platform.startswith("linux"):
        return True
    claim = claims.enter_context(socket.socket(socket.AF_UNIX))
    try:
        claim.bind(f"\0dask-train-pipeline dashboard {port}")
    except OSError:
        return False
    return True
