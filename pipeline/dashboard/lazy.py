"""Loads Dask's dashboard on demand: its link works from the start, its code is loaded at the first visit.

Loading Bokeh costs 0.3 s of processor time and 20 MB in the client's process, which most runs never need.  The
schedulers
of our own clusters load this module as a Dask preload.
"""

import importlib.util
from typing import Any

from distributed import Client

from pipeline.cluster import ports
from pipeline.cluster.launchers.launched import launched
from pipeline.dashboard import install, internals
from pipeline.events.types import Event, EventHandler, Note, Started


def link(client: Client, page: str = "status", *, prefix: str = "", run: str = "") -> str:
    """The address of a page of the dashboard of the client's cluster, and, after it, the reason if it is not the usual
    one.

    `prefix`: of all its pages, which Dask's own link omits; `run`: the run's id, to be added.
    """
    address: str = client.dashboard_link
    if address.endswith("/status"):  # else the user's configuration sets the link
        base = address.removesuffix("/status")
        address = f"{base if base.endswith(prefix) else base + prefix}/{page}"
    remarks = [f"run {run}"] if run else []
    if launched(client).local and f":{ports.PORT}/" not in address:
        remarks.append(f"port {ports.PORT} is in use")
    return f"{address} ({'; '.join(remarks)})" if remarks else address


def tell(client: Client, on_event: EventHandler) -> None:
    """Emits a note with the dashboard's link, if there is a dashboard."""
    prefix = _prefix(client)
    if prefix is not None:
        on_event(Note(message=f"dashboard at {link(client, prefix=prefix)}"))


def telling(client: Client, on_event: EventHandler) -> EventHandler:
    """An event handler that passes events on and, when a run begins, emits its id and the link of its pages, or why
    it has none.
    """
    repeated = ""

    def hear(event: Event) -> None:
        nonlocal repeated
        if isinstance(event, Note) and event.message == repeated:  # the run emits the same note
            repeated = ""
            return
        on_event(event)
        if isinstance(event, Started):
            missing = install.register(client)
            repeated = install.no_pages(missing) if missing else ""
            on_event(Note(message=_of_run(client, event.run, missing)))

    return hear


def _of_run(client: Client, run: str, missing: str | None) -> str:
    """The note on the dashboard when the run begins; `missing`: why it has none of our pages."""
    prefix = _prefix(client)
    if prefix is None:
        return f"no dashboard (run {run}): {missing or install.NO_DASHBOARD}"
    if missing:
        return f"dashboard at {link(client, prefix=prefix, run=run)}, without training pages: {missing}"
    return f"dashboard at {link(client, 'training', prefix=prefix, run=run)}"


def _prefix(client: Client) -> str | None:
    """The prefix of the paths of the dashboard's pages; None without a dashboard."""
    if launched(client).local:  # of our own clusters, which load it at the first visit
        return "" if importlib.util.find_spec("bokeh") else None
    try:
        return internals.prefix(client)
    except Exception:  # of another version: fall back to Dask's link
        return ""


async def dask_setup(scheduler: Any) -> None:
    """Called by Dask in a scheduler that is started with this module as a preload."""
    await install.install(scheduler, later=True)
