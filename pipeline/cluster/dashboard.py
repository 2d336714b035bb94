"""Dask's dashboard on demand: its link works from the start, its code is loaded at the first visit.

Loading Bokeh costs 0.3 s of processor time and 20 MB in the client's process, which most runs never need.
"""

import asyncio
import socket
from typing import Any

from tornado import web

PORT = 8787


def free_address(host: str = "127.0.0.1", port: int = PORT) -> str:
    """`host:port` if nobody listens there, else `host:0`: any free port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return f"{host}:0"
    return f"{host}:{port}"


def offer(scheduler: Any) -> None:
    """Makes the scheduler's web server load the dashboard when a page that it does not know is asked for."""
    doorbell = web.Application([(r".*", _Doorbell, {"scheduler": scheduler})])
    scheduler.http_application.add_application(doorbell)


class _Doorbell(web.RequestHandler):
    """Loads the dashboard, takes itself out, and sends the visitor to the page asked for."""

    _loading: asyncio.Lock

    def initialize(self, scheduler: Any) -> None:
        self.scheduler = scheduler

    async def get(self) -> None:
        applications = self.scheduler.http_application.applications
        load = asyncio.get_running_loop().run_in_executor(None, _load)
        connect = await load
        if self.application in applications:  # nobody else's first visit was faster
            applications.remove(self.application)
            connect(self.scheduler.http_application, self.scheduler.http_server, self.scheduler, prefix="")
        self.redirect(self.request.uri or "/status")


def _load() -> Any:
    from distributed.dashboard.scheduler import connect

    return connect


async def withdraw(scheduler: Any) -> None:
    """Stops the dashboard, if it was loaded, before the scheduler closes.

    Bokeh 3.10 refuses to be stopped the way the scheduler does it, inside a running event loop.
    """
    applications = scheduler.http_application.applications
    while applications:
        application = applications.pop()
        if hasattr(application, "stop_async"):
            await application.stop_async()
        elif hasattr(application, "stop"):
            application.stop()
