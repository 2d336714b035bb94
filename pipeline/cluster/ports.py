"""The port of the dashboard, and which one is free."""

import socket

PORT = 8787


def free_address(host: str = "127.0.0.1", port: int = PORT) -> str:
    """`host:port` of the first port from `port` on where nobody listens; after ten of them, `host:0`: any."""
    for candidate in range(port, min(port + 10, 65_536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
            except OSError:
                continue
        return f"{host}:{candidate}"
    return f"{host}:0"
