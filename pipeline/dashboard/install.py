"""The training's pages in the dashboard of a scheduler: a plugin that keeps what runs say, and shows it.

Dask has no documented way to add a page.  So all of that (`internals`) is tried, and where it fails the training goes on
without pages and says so once.  On clusters of ours a preload installs them (`pipeline.dashboard.lazy`), on a running
scheduler the first client that trains there; `dask scheduler --preload pipeline.dashboard.install` has them from the
start.  A dashboard that is switched off stays off.
"""

import asyncio
import contextlib
import dataclasses
import importlib
import importlib.metadata
import importlib.util
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from distributed import Client
from distributed.diagnostics.plugin import SchedulerPlugin

from pipeline.cluster.deadline import in_time
from pipeline.cluster.same_code import package
from pipeline.dashboard import internals
from pipeline.events.types import KINDS, Event, Failed, Saved, Started, WorkerRounds, decode, encode, run_of
from pipeline.monitoring import prometheus
from pipeline.monitoring.state.board import Board
from pipeline.runtime.channel import EVENTS, ROUNDS, hearing
from pipeline.runtime.dead_clients import RETURN_SECONDS

NAME = "pipeline-dashboard"  # of the plugin, and of the topic of what it says of itself
HEARING_SECONDS = 1.0  # until a client that has just come hears what is logged
REGISTER_SECONDS = 60.0  # for the scheduler to take the pages; importing them takes seconds on a busy machine
LAST_SECONDS = 1.5  # for open pages to hear the end of the run
CLIENT_GONE = "its client has gone"
NO_BOKEH = "the scheduler has no Bokeh, which Dask's dashboard needs: install bokeh>=3.9 there"
NO_DASHBOARD = "the scheduler runs without its dashboard: start it with --dashboard"

_OF_CLIENTS = frozenset(KINDS) - {WorkerRounds.__name__}

logger = logging.getLogger("distributed.pipeline")


async def dask_setup(scheduler: Any) -> None:
    """For `dask scheduler --preload pipeline.dashboard.install`."""
    await install(scheduler)


async def install(scheduler: Any, *, later: bool = False) -> None:
    """Installs plugin and pages, once; `later`: Dask's dashboard, too, is loaded at the first visit."""
    await scheduler.register_scheduler_plugin(Dashboard(later=later), name=NAME, idempotent=True)


async def withdraw(scheduler: Any) -> None:
    """Stops the dashboard before its scheduler closes; pages that somebody has open show the latest before."""
    try:
        await asyncio.wait_for(internals.draw_last(scheduler), LAST_SECONDS)
    except Exception:  # a reader that takes nothing is not waited for
        logger.info("the pages may not show the end of the run", exc_info=True)
    try:
        await internals.withdraw(scheduler)
    except Exception:  # then the scheduler closes it as it can
        logger.info("the dashboard was not stopped", exc_info=True)


@contextlib.contextmanager
def attached(client: Client, note: Callable[[str], None]) -> Iterator[None]:
    """Sees to it that the scheduler has the pages; `note` is told once, in a line, why it has none.

    While the context lasts, because a dashboard may be loaded late.  May be called in Dask's own thread.
    """
    told: set[str] = set()

    def tell(missing: str | None) -> None:
        if missing and not told:
            told.add(missing)
            note(no_pages(missing))

    def tell_all(message: Mapping[str, Any]) -> None:
        if message.get("stranger") == client.id:
            note(f"the dashboard's training pages do not follow this run: {message['why']}")
        elif "missing" in message:
            tell(message["missing"])

    with hearing(client, NAME, NAME, tell_all):
        tell(register(client))
        yield


def no_pages(missing: str) -> str:
    """The line for a run whose scheduler has no pages."""
    return f"no training pages in the dashboard: {missing}"


def register(client: Client) -> str | None:
    """Gives the client's scheduler the pages, once; why it has none, or None: it has, or will when its dashboard is loaded."""
    found: list[str | None] = []
    in_time(REGISTER_SECONDS, "register pages", lambda: found.append(_register(client)))
    return found[0] if found else f"the scheduler has not answered for {REGISTER_SECONDS:g} s"


def _register(client: Client) -> str | None:
    try:
        client.run_on_scheduler(_import_pages, NAME)
        client.register_plugin(Dashboard(), name=NAME)
        said = [message["missing"] for _, message in client.get_events(NAME) if "missing" in message]
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "pipeline":
            return f"the scheduler cannot load them ({_line(error)})"
        return f"the scheduler has no module {error.name}: install {package()} there, too"
    except Exception as error:  # whatever a scheduler of another version makes of this: the training does not need it
        if client.status != "running":
            return None  # the scheduler is lost, which is told elsewhere
        return f"the scheduler refuses them ({_line(error)})"
    return said[-1] if said else None


async def _import_pages(plugin: str, dask_scheduler: Any = None) -> None:
    """On the scheduler, in a thread: importing plugin and pages would hold up its event loop for seconds."""
    import asyncio
    import importlib
    import logging

    def load() -> None:
        try:
            importlib.import_module("pipeline.dashboard.install")
            if any(hasattr(application, "app_paths") for application in dask_scheduler.http_application.applications):
                importlib.import_module("pipeline.dashboard.pages.registry")
        except Exception:  # the plugin, which needs the same modules, fails likewise and says so to the client
            logging.getLogger("distributed.pipeline").info("the pages were not imported ahead", exc_info=True)

    if plugin not in dask_scheduler.plugins:
        await asyncio.get_running_loop().run_in_executor(None, load)


_import_pages.__module__ = "__main__"  # a scheduler elsewhere need not have this package: travels by value


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
        self._shown = False
        self._strangers: set[str] = set()  # clients of another version
        self.board = Board()
        self._owners: dict[str, str] = {}  # runs that go on -> their clients
        self._begin = time.time() - time.monotonic()
        for topic in (EVENTS, ROUNDS):
            for at, message in scheduler.get_events(topic):
                self._take(topic, message, at)
        for client in set(self._owners.values()):  # soon: the scheduler does not know this plugin yet
            asyncio.get_running_loop().call_soon(self._ended, client)
        self._metrics = prometheus.expose(self.board)
        if self._later:
            self._offer()
        else:
            self._show()

    def now(self) -> float:
        """Seconds since the epoch, by this scheduler's clock as it was at the start: nobody can set it back."""
        return self._begin + time.monotonic()

    def log_event(self, topic: str, message: Any) -> None:
        """Called by the scheduler for whatever is logged under any topic."""
        self._take(topic, message, self.now())

    def _take(self, topic: str, message: Any, at: float) -> None:
        """Takes what arrived at that time; clients and workers may have other clocks."""
        if topic not in (EVENTS, ROUNDS) or not isinstance(message, Mapping) or "event" not in message:
            return
        said, client = message["event"], message.get("client")
        if topic == ROUNDS and isinstance(said, Mapping) and str(said.get("event"))[:100] in _OF_CLIENTS:
            return  # the client tells of what is common to all workers
        try:
            run = run_of(message)
            event = dataclasses.replace(decode(said), time=at)
            self.board.take(run, event)
            self._owned(run, event, client if isinstance(client, str) else None)
        except ValueError as error:
            self.board.dropped += 1
            if isinstance(client, str) and client in self._scheduler.clients and client not in self._strangers:
                self._strangers.add(client)
                said = {
                    "stranger": client,
                    "why": f"the scheduler cannot read its events: it has another version of the pipeline, perhaps ({_line(error)})",
                }
                asyncio.get_running_loop().call_later(HEARING_SECONDS, self._say, said)

    def _owned(self, run: str, event: Event, client: str | None) -> None:
        """Keeps in mind whose run it is, as long as it lasts."""
        if isinstance(event, (Saved, Failed)):
            self._owners.pop(run, None)
        elif isinstance(event, Started) and client is not None:
            self._owners[run] = client

    def remove_client(self, scheduler: Any, client: str) -> None:
        """Called by the scheduler when it has lost a client; a killed one cannot say that its runs have failed."""
        asyncio.get_running_loop().call_later(RETURN_SECONDS, self._ended, client)

    def _ended(self, client: str) -> None:
        """Ends the runs of a client that has not come back."""
        if client not in self._scheduler.clients:
            for run in [run for run, owner in self._owners.items() if owner == client]:
                self._scheduler.log_event(EVENTS, {"run": run, "event": encode(Failed(message=CLIENT_GONE))})

    async def close(self) -> None:
        self._metrics()

    def _offer(self) -> None:
        """Has Dask's dashboard and the pages loaded when somebody asks for them; or says why not."""
        if importlib.util.find_spec("bokeh") is None:
            self._say({"missing": NO_BOKEH})
        try:
            internals.offer(self._scheduler, self._show, self._unfit)
        except Exception as error:
            self._unfit(error)

    def _show(self) -> None:
        """Adds the pages, or says why not."""
        if not self._shown:
            missing = missing_pages(self._scheduler, self.board, self.now)
            self._shown = missing is None
            self._say({"missing": missing})

    def _unfit(self, error: Exception) -> None:
        logger.info("no training pages", exc_info=error)
        self._say({"missing": unfit(error)})

    def _say(self, message: Mapping[str, Any]) -> None:
        self._scheduler.log_event(NAME, {"run": NAME, **message})


def missing_pages(scheduler: Any, board: Board, now: Callable[[], float]) -> str | None:
    """Adds the pages to the scheduler's dashboard; why that cannot be, or None."""
    if importlib.util.find_spec("bokeh") is None:
        return NO_BOKEH
    try:
        if internals.bokeh(scheduler) is None:
            return NO_DASHBOARD
        internals.add(scheduler, board, now)
    except Exception as error:  # whatever another version's internals come to
        logger.info("no training pages", exc_info=True)
        return unfit(error)
    return None


def unfit(error: Exception) -> str:
    """What to say where Dask's internals are not as they were."""
    version = importlib.metadata.version("distributed")
    return f"they do not fit the dashboard of distributed {version} ({_line(error)})"
