"""The training's pages in the dashboard of a scheduler: the one module that uses what Dask does not promise.

Dask has no documented way to add a page.  So everything here is tried, and where it fails the training goes on without
pages and says so once.  On clusters of ours a preload installs them (`pipeline.cluster.dashboard`), on a running
scheduler the first client that trains there; `dask scheduler --preload pipeline.dashboard.install` has them from the
start.  A dashboard that is switched off stays off.
"""

import asyncio
import contextlib
import functools
import importlib
import importlib.metadata
import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from distributed import Client
from distributed.diagnostics.plugin import SchedulerPlugin

from pipeline.dashboard import prometheus
from pipeline.dashboard.board import Board
from pipeline.events import Event, Failed, Saved, WorkerRounds, decode, encode
from pipeline.topics import EVENTS, ROUNDS, hearing

NAME = "pipeline-dashboard"  # of the plugin, and of the topic of what it says of itself
PAGES = "pipeline.dashboard.pages"  # by name: it needs Bokeh, which may be missing
TEMPLATE = "simple.html"  # Dask's, with its navigation
HEARING_SECONDS = 1.0  # until a client that has just come hears what is logged
CLIENT_GONE = "its client has gone"
NO_BOKEH = "the scheduler has no Bokeh, which Dask's dashboard needs: install bokeh>=3.9 there"
NO_DASHBOARD = "the scheduler runs without its dashboard: start it with --dashboard to have them"

logger = logging.getLogger("distributed.pipeline")


async def dask_setup(scheduler: Any) -> None:
    """For `dask scheduler --preload pipeline.dashboard.install`."""
    await install(scheduler)


async def install(scheduler: Any, *, later: bool = False) -> None:
    """Installs plugin and pages, once; `later`: the dashboard is not loaded yet, `show` will be called when it is."""
    await scheduler.register_scheduler_plugin(Dashboard(later=later), name=NAME, idempotent=True)


def show(scheduler: Any) -> None:
    """Adds the pages to a dashboard that has just been loaded."""
    plugin = scheduler.plugins.get(NAME)
    if isinstance(plugin, Dashboard):
        plugin.show()


@contextlib.contextmanager
def attached(client: Client, note: Callable[[str], None]) -> Iterator[None]:
    """Sees to it that the scheduler has the pages; `note` is told once, in a line, why it has none.

    While the context lasts, because a dashboard may be loaded late.  May be called in Dask's own thread.
    """
    told: set[str] = set()

    def tell(message: Mapping[str, Any]) -> None:
        missing = message["missing"]
        if missing and not told:
            told.add(missing)
            note(f"no training pages in the dashboard: {missing}")

    with hearing(client, NAME, NAME, tell):
        tell({"missing": _register(client)})
        yield


def _register(client: Client) -> str | None:
    """Why the client's scheduler has no pages; None: it has them, or will when its dashboard is loaded."""
    try:
        client.register_plugin(Dashboard(), name=NAME)
        said = client.get_events(NAME)
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "pipeline":
            return f"the scheduler cannot load them ({_line(error)})"
        version = importlib.metadata.version("dask-train-pipeline")
        return f"the scheduler has no module {error.name}: install dask-train-pipeline {version} there, too"
    except Exception as error:  # whatever a scheduler of another version makes of this: the training does not need it
        return f"the scheduler refuses them ({_line(error)})"
    missing: str | None = said[-1][1]["missing"] if said else None
    return missing


def _line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


class Dashboard(SchedulerPlugin):
    """Keeps what the runs of all clients say in a `Board`, for the pages and for Prometheus."""

    name = NAME
    idempotent = True  # of two clients the first one installs it

    def __init__(self, *, later: bool = False) -> None:
        self._later = later
        self._started = False

    async def start(self, scheduler: Any) -> None:
        """Takes up what was said before; without a pause, so that of two clients' plugins only one gets here.

        Dask calls it again where a preload has registered the plugin: it starts all that it finds.
        """
        if self._started:
            return
        self._started = True
        self._scheduler = scheduler
        self._shown = self._strange = False
        self.board = Board()
        self._owners: dict[str, str] = {}  # runs that go on -> their clients
        for topic in (EVENTS, ROUNDS):
            for _, message in scheduler.get_events(topic):
                self.log_event(topic, message)
        self._metrics = prometheus.expose(self.board)
        if not self._later:
            self.show()
        elif importlib.util.find_spec("bokeh") is None:
            self._say(NO_BOKEH)

    def log_event(self, topic: str, message: Any) -> None:
        """Called by the scheduler for whatever is logged under any topic."""
        if topic not in (EVENTS, ROUNDS) or "event" not in message:
            return
        if topic == ROUNDS and message["event"].get("event") != WorkerRounds.__name__:
            return  # the client tells of what is common to all workers
        try:
            event = decode(message["event"])
            self.board.take(message["run"], event)
            self._owned(message["run"], event, message.get("client"))
        except ValueError as error:
            if not self._strange:
                self._strange = True
                said = f"a client has another version of the pipeline than the scheduler ({_line(error)})"
                asyncio.get_running_loop().call_later(HEARING_SECONDS, self._say, said)

    def _owned(self, run: str, event: Event, client: str | None) -> None:
        """Keeps in mind whose run it is, as long as it lasts."""
        if isinstance(event, (Saved, Failed)):
            self._owners.pop(run, None)
        elif client is not None:
            self._owners[run] = client

    def remove_client(self, scheduler: Any, client: str) -> None:
        """Called by the scheduler when a client has gone; a killed one cannot say that its runs have failed."""
        for run in [run for run, owner in self._owners.items() if owner == client]:
            scheduler.log_event(EVENTS, {"run": run, "event": encode(Failed(message=CLIENT_GONE))})

    async def close(self) -> None:
        self._metrics()

    def show(self) -> None:
        """Adds the pages, or says why not."""
        if not self._shown:
            missing = missing_pages(self._scheduler, self.board)
            self._shown = missing is None
            self._say(missing)

    def _say(self, missing: str | None) -> None:
        self._scheduler.log_event(NAME, {"run": NAME, "missing": missing})


def missing_pages(scheduler: Any, board: Board) -> str | None:
    """Adds the pages to the scheduler's dashboard; why that cannot be, or None."""
    if importlib.util.find_spec("bokeh") is None:
        return NO_BOKEH
    if _bokeh(scheduler) is None:
        return NO_DASHBOARD
    try:
        _add(scheduler, board)
    except Exception as error:  # whatever another version's internals come to
        logger.info("no training pages", exc_info=True)
        version = importlib.metadata.version("distributed")
        return f"they do not fit the dashboard of distributed {version} ({_line(error)})"
    return None


def _bokeh(scheduler: Any) -> Any:
    """Dask's own Bokeh application of the scheduler; None where there is none."""
    return next((app for app in scheduler.http_application.applications if hasattr(app, "app_paths")), None)


def _add(scheduler: Any, board: Board) -> None:
    from distributed.dashboard.core import BokehApplication
    from distributed.dashboard.scheduler import template_variables
    from distributed.http.scheduler.info import IndividualPlots
    from tornado.ioloop import IOLoop

    pages = importlib.import_module(PAGES)
    variables = template_variables(scheduler)  # one dict for all pages of this scheduler, ours and Dask's
    navigation, plots = variables["pages"], variables["plots"]
    theirs = _bokeh(scheduler)
    documents = {page.route: functools.partial(_page, page, board) for page in pages.PAGES}
    individual = {page.route: functools.partial(_plot, page, board) for page in pages.INDIVIDUAL}
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
    """As Dask names its plots in that list: "individual-task-stream" is "Individual Task Stream"."""
    return route.strip("/").replace("-", " ").title()


def _page(page: Any, board: Board, scheduler: Any, extra: Mapping[str, Any], doc: Any) -> None:
    from distributed.dashboard.components.scheduler import env

    page.make(doc, lambda: board)
    doc.template = env.get_template(TEMPLATE)
    doc.template_variables.update(extra)


def _plot(page: Any, board: Board, scheduler: Any, extra: Mapping[str, Any], doc: Any) -> None:
    page.make(doc, lambda: board)
