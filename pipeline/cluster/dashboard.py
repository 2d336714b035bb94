"""Dask's dashboard on demand: its link works from the start, its code is loaded at the first visit.

Loading Bokeh costs 0.3 s of processor time and 20 MB in the client's process, which most runs never need.  The schedulers
of our own clusters load this module as a Dask preload.
"""

import socket
from typing import Any

import dask.config
from distributed import Client

from pipeline.dashboard import install

PORT = 8787
PRELOADS = "distributed.scheduler.preload"  # in Dask's configuration


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


def link(client: Client, page: str = "status") -> str:
    """The address of a page of the dashboard of the client's cluster, in words: why it is not the usual one."""
    address: str = client.dashboard_link
    if client.cluster is None:  # somebody else's, whose pages may be any
        return address
    address = address.removesuffix("status") + page
    return address if f":{PORT}/" in address else f"{address} (port {PORT} is in use)"


def preloads() -> list[str]:
    """What a scheduler of ours loads as it starts: this module, after those that Dask's configuration names."""
    given = dask.config.get(PRELOADS)
    return [*([given] if isinstance(given, str) else given), __name__]


async def dask_setup(scheduler: Any) -> None:
    """Called by Dask in a scheduler that is started with this module as a preload."""
    await install.install(scheduler, later=True)
