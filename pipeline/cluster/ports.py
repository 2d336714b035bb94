"""Finds a free port for the dashboard."""

import socket

PORT = 8787


def free_address(host: str = "127.0.0.1", port: int = PORT) -> str:
    """Returns `host:port` of the first free port from `port` on; after ten that are taken, `host:0`: any."""
    for candidate in range(port, min(port + 10, 65_536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
            except OSError:
                continue
        return f"{host}:{candidate}"
    return f"{host}:0"
