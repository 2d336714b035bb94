"""Uses Dask's undocumented internals: adds a page to a scheduler's dashboard, and loads the dashboard late.

The only module that uses distributed's internals.  Where another version lacks one of them, an exception is raised,
which
`pipeline.dashboard.install` turns into a line.
"""

import asyncio
import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

from distributed import Client
from tornado import web

from pipeline.monitoring.state.run_store import RunStore

TEMPLATE = "simple.html"  # Dask's, with its navigation


def bokeh(scheduler: Any) -> Any:
    """Dask's own Bokeh application of the scheduler; None without one."""
    return next((app for app in scheduler.http_application.applications if hasattr(app, "app_paths")), None)


def prefix(client: Client) -> str | None:
    """The prefix of the paths of Dask's pages on the client's scheduler; None where it runs without its dashboard."""
    found: str | None = client.run_on_scheduler(_prefix)
    return found


def _prefix(dask_scheduler: Any = None) -> str | None:
    applications = dask_scheduler.http_application.applications
    return next((app.prefix for app in applications if hasattr(app, "app_paths")), None)


# A scheduler elsewhere may lack this package: functions of `__main__` are pickled by value.
_prefix.__module__ = "__main__"


def add(scheduler: Any, store: RunStore, now: Callable[[], float]) -> None:
    """Adds the pages to a loaded dashboard; `now`: the clock of the board's times."""
    from distributed.dashboard.core import BokehApplication
    from distributed.dashboard.scheduler import template_variables
    from distributed.http.scheduler.info import IndividualPlots
    from tornado.ioloop import IOLoop

    pages = importlib.import_module("pipeline.dashboard.pages.registry")  # here, because it needs Bokeh
    variables = template_variables(scheduler)  # one dict for all pages of this scheduler, ours and Dask's
    navigation, plots = variables["pages"], variables["plots"]
    theirs = bokeh(scheduler)
    documents = {page.route: functools.partial(_page, page, store, now) for page in pages.PAGES}
    individual = {page.route: functools.partial(_plot, page, store, now) for page in pages.INDIVIDUAL}
    if taken := theirs.app_paths & (documents.keys() | individual.keys()):
        raise ValueError(f"has {', '.join(sorted(taken))} already")
    ours = BokehApplication({**documents, **individual}, scheduler, prefix=theirs.prefix, template_variables=variables)

    class Plots(IndividualPlots):
        """The list that JupyterLab's Dask extension reads; Dask's own knows only the first Bokeh application."""

        def write(self, chunk: Any) -> None:
            super().write({**chunk, **{_title(page.route): page.route for page in pages.INDIVIDUAL}})

    application = scheduler.http_application
    application.add_handlers(".*$", [(rf"{theirs.prefix}/individual-plots.json", Plots, {"dask_server": scheduler})])
    application.add_application(ours)
    ours.initialize(IOLoop.current())
    ours.start()
    navigation[-1:-1] = [page.route.strip("/") for page in pages.PAGES]
    plots += [{"url": page.route.strip("/"), "name": page.title} for page in pages.INDIVIDUAL]


def _title(route: str) -> str:
    """The title in the style of Dask's plots in that list: "individual-task-stream" is "Individual Task Stream"."""
    return route.strip("/").replace("-", " ").title()


def _page(
    page: Any, store: RunStore, now: Callable[[], float], scheduler: Any, extra: Mapping[str, Any], doc: Any
) -> None:
    from distributed.dashboard.components.scheduler import env

    page.make(doc, lambda: store, now)
    doc.template = env.get_template(TEMPLATE)
    doc.template_variables.update(extra)


def _plot(
    page: Any, store: RunStore, now: Callable[[], float], scheduler: Any, extra: Mapping[str, Any], doc: Any
) -> None:
    page.make(doc, lambda: store, now)


def lazy_mount(scheduler: Any, connected: Callable[[], None], failed: Callable[[Exception], None]) -> None:
    """Makes the scheduler's web server load the dashboard when an unknown page is requested.

    Then either `connected` or `failed` is called; after a failure the next visitor tries again.
    """
    given = {"scheduler": scheduler, "connected": connected, "failed": failed}
    scheduler.http_application.add_application(web.Application([(r".*", _Doorbell, given)]))


class _Doorbell(web.RequestHandler):
    """Loads the dashboard, removes itself, and redirects the visitor to the requested page."""

    def initialize(self, scheduler: Any, connected: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        self.scheduler, self.connected, self.failed = scheduler, connected, failed

    async def get(self) -> None:
        try:
            connect = await asyncio.get_running_loop().run_in_executor(None, _load)
        except ImportError as error:
            raise web.HTTPError(503, reason="No dashboard: Dask needs Bokeh for it") from error
        applications = self.scheduler.http_application.applications
        if self.application in applications:  # no concurrent first visit was faster
            applications.remove(self.application)
            try:
                connect(self.scheduler.http_application, self.scheduler.http_server, self.scheduler, prefix="")
            except Exception as error:
                applications.append(self.application)
                self.failed(error)
                raise web.HTTPError(503, reason="No dashboard: it does not fit this version of Dask") from error
            self.connected()
        self.redirect(self.request.uri or "/status")


def _load() -> Any:
    from distributed.dashboard.scheduler import connect

    # In this thread: it would block the scheduler's event loop.
    importlib.import_module("pipeline.dashboard.pages.registry")
    return connect


async def draw_last(scheduler: Any) -> None:
    """Draws the latest state in the open pages of ours, and returns when it is sent."""
    applications = [app for app in scheduler.http_application.applications if hasattr(app, "app_paths")]
    if not applications:
        return  # no page was ever opened
    pages = importlib.import_module("pipeline.dashboard.pages.registry")
    routes = {page.route for page in (*pages.PAGES, *pages.INDIVIDUAL)}
    sessions = [
        session for app in applications for route in routes & app.app_paths for session in app.get_sessions(route)
    ]
    await asyncio.gather(*(
        session.with_document_locked(update.callback)
        for session in sessions if session.connection_count
        for update in session.document.session_callbacks
    ))  # fmt: skip


async def shutdown(scheduler: Any) -> None:
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
