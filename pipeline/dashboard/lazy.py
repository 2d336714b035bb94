"""Dask's dashboard on demand: its link works from the start, its code is loaded at the first visit.

Loading Bokeh costs 0.3 s of processor time and 20 MB in the client's process, which most runs never need.  The schedulers
of our own clusters load this module as a Dask preload.
"""

import importlib.util
from typing import Any

from distributed import Client

from pipeline.cluster import ports
from pipeline.dashboard import install, internals
from pipeline.events.types import Event, Listener, Note, Started


def link(client: Client, page: str = "status", *, prefix: str = "", run: str = "") -> str:
    """The address of a page of the dashboard of the client's cluster, in words: why it is not the usual one.

    `prefix`: of all its pages, which Dask's own link leaves out; `run`: an id to tell as well.
    """
    address: str = client.dashboard_link
    if address.endswith("/status"):  # else it is what the user's configuration makes of it
        base = address.removesuffix("/status")
        address = f"{base if base.endswith(prefix) else base + prefix}/{page}"
    remarks = [f"run {run}"] if run else []
    if client.cluster is not None and f":{ports.PORT}/" not in address:
        remarks.append(f"port {ports.PORT} is in use")
    return f"{address} ({'; '.join(remarks)})" if remarks else address


def tell(client: Client, listen: Listener) -> None:
    """Tells of the dashboard, if there is one."""
    prefix = _prefix(client)
    if prefix is not None:
        listen(Note(message=f"dashboard at {link(client, prefix=prefix)}"))


def telling(client: Client, listen: Listener) -> Listener:
    """A listener that hands events on and, as a run begins, tells its id and where its pages are, or why it has none."""
    repeated = ""

    def hear(event: Event) -> None:
        nonlocal repeated
        if isinstance(event, Note) and event.message == repeated:  # the run itself says it, too
            repeated = ""
            return
        listen(event)
        if isinstance(event, Started):
            missing = install.register(client)
            repeated = install.no_pages(missing) if missing else ""
            listen(Note(message=_of_run(client, event.run, missing)))

    return hear


def _of_run(client: Client, run: str, missing: str | None) -> str:
    """What to say of the dashboard as the run begins; `missing`: why it has none of our pages."""
    prefix = _prefix(client)
    if prefix is None:
        return f"no dashboard (run {run}): {missing or install.NO_DASHBOARD}"
    if missing:
        return f"dashboard at {link(client, prefix=prefix, run=run)}, without training pages: {missing}"
    return f"dashboard at {link(client, 'training', prefix=prefix, run=run)}"


def _prefix(client: Client) -> str | None:
    """What the paths of the dashboard's pages begin with; None where there is no dashboard."""
    if client.cluster is not None:  # of ours, which is loaded at the first visit
        return "" if importlib.util.find_spec("bokeh") else None
    try:
        return internals.prefix(client)
    except Exception:  # of another version: Dask's link is what is left
        return ""


async def dask_setup(scheduler: Any) -> None:
    """Called by Dask in a scheduler that is started with this module as a preload."""
    await install.install(scheduler, later=True)
