"""Adds the training's pages to a scheduler's dashboard: a plugin that stores the events of runs, and shows them.

Dask has no documented way to add a page.  So all of that (`internals`) may fail; then the training continues
without pages and emits one note.  On clusters of ours a preload installs them (`pipeline.dashboard.lazy`), on a running
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

from pipeline.cluster.deadline import call_with_deadline
from pipeline.cluster.same_code import package
from pipeline.dashboard import internals
from pipeline.events.topics import RUN_EVENTS, WORKER_EVENTS
from pipeline.events.types import KINDS, Event, Failed, Saved, Started, WorkerRounds, decode, encode, run_id
from pipeline.monitoring import prometheus
from pipeline.monitoring.state.run_store import RunStore
from pipeline.runtime.channel import subscribe
from pipeline.runtime.scheduler_session import RETURN_SECONDS

NAME = "pipeline-dashboard"  # of the plugin, and of the topic of its own messages
HEARING_SECONDS = 1.0  # until a client that has just connected is subscribed to the log
REGISTER_SECONDS = 60.0  # for the scheduler to install the pages; importing them takes seconds on a busy machine
LAST_SECONDS = 1.5  # for open pages to show the end of the run
CLIENT_GONE = "its client has gone"
NO_BOKEH = "the scheduler has no Bokeh, which Dask's dashboard needs: install bokeh>=3.9 there"
NO_DASHBOARD = "the scheduler runs without its dashboard: start it with --dashboard"

_SHARED = frozenset(KINDS) - {WorkerRounds.__name__}  # kinds that come on RUN_EVENTS

logger = logging.getLogger("distributed.pipeline")


async def dask_setup(scheduler: Any) -> None:
    """For `dask scheduler --preload pipeline.dashboard.install`."""
    await install(scheduler)


async def install(scheduler: Any, *, later: bool = False) -> None:
    """Installs plugin and pages, once; `later`: Dask's dashboard itself is also loaded at the first visit."""
    await scheduler.register_scheduler_plugin(Dashboard(later=later), name=NAME, idempotent=True)


async def shutdown(scheduler: Any, last_seconds: float = LAST_SECONDS) -> None:
    """Stops the dashboard before its scheduler closes; open pages get so long to show the latest state before."""
    try:
        await asyncio.wait_for(internals.draw_last(scheduler), last_seconds)
    except Exception:  # do not wait for a browser that does not read
        logger.info("the pages may not show the end of the run", exc_info=True)
    try:
        await internals.shutdown(scheduler)
    except Exception:  # then the scheduler closes it its own way
        logger.info("the dashboard was not stopped", exc_info=True)


@contextlib.contextmanager
def attached(client: Client, note: Callable[[str], None]) -> Iterator[None]:
    """Makes sure that the scheduler has the pages; `note` gets one line, once, if it has none.

    Watches as long as the context lasts, because a dashboard may be loaded late.  May be called in Dask's own thread.
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

    with subscribe(client, NAME, NAME, tell_all):
        tell(register(client))
        yield


def no_pages(missing: str) -> str:
    """The line for a run whose scheduler has no pages."""
    return f"no training pages in the dashboard: {missing}"


def register(client: Client) -> str | None:
    """Installs the pages on the client's scheduler, once; the reason if it has none, or None: it has them, or will
    when its dashboard is loaded.
    """
    found: list[str | None] = []
    call_with_deadline(REGISTER_SECONDS, "register pages", lambda: found.append(_register(client)))
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
    except Exception as error:  # any error of a scheduler of another version: the training does not need pages
        if client.status != "running":
            return None  # the scheduler is lost, which is reported elsewhere
        return f"the scheduler refuses them ({_line(error)})"
    return said[-1] if said else None


async def _import_pages(plugin: str, dask_scheduler: Any = None) -> None:
    """Runs on the scheduler, in a thread: importing plugin and pages would block its event loop for seconds."""
    import asyncio
    import importlib
    import logging

    def load() -> None:
        try:
            importlib.import_module("pipeline.dashboard.install")
            if any(hasattr(application, "app_paths") for application in dask_scheduler.http_application.applications):
                importlib.import_module("pipeline.dashboard.pages.registry")
        except Exception:  # the plugin needs the same modules: it fails too and reports that to the client
            logging.getLogger("distributed.pipeline").info("the pages were not imported ahead", exc_info=True)

    if plugin not in dask_scheduler.plugins:
        await asyncio.get_running_loop().run_in_executor(None, load)


_import_pages.__module__ = "__main__"  # a scheduler elsewhere may lack this package: the function is pickled by value


def _line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


class Dashboard(SchedulerPlugin):
    """Scheduler plugin that stores the events of all clients' runs in a `RunStore`, for the pages and for Prometheus."""

    name = NAME
    idempotent = True  # of two clients the first installs it

    def __init__(self, *, later: bool = False) -> None:
        self._later = later
        self._started = False

    async def start(self, scheduler: Any) -> None:
        """Replays past events.  No await before this point: two clients may install the plugin concurrently.

        Dask calls it again where a preload has registered the plugin: it starts every plugin that it finds.
        """
        if self._started:
            return
        self._started = True
        self._scheduler = scheduler
        self._shown = False
        self._strangers: set[str] = set()  # clients of another version
        self.store = RunStore()
        self._owners: dict[str, str] = {}  # running runs -> their clients
        self._begin = time.time() - time.monotonic()
        for topic in (RUN_EVENTS, WORKER_EVENTS):
            for at, message in scheduler.get_events(topic):
                self.log_event(topic, message, at)
        for client in set(self._owners.values()):  # delayed: the scheduler does not know this plugin yet
            asyncio.get_running_loop().call_soon(self._ended, client)
        self._metrics = prometheus.expose(self.store)
        if self._later:
            self._offer()
        else:
            self._show()

    def now(self) -> float:
        """Seconds since the epoch, from this scheduler's clock at the start plus elapsed time: unaffected if the
        clock is set back.
        """
        return self._begin + time.monotonic()

    def log_event(self, topic: str, message: Any, at: float | None = None) -> None:
        """Called by the scheduler for each message of any topic: adds an event to the state of its run.

        `at`: when it arrived, if not now; clients and workers may have other clocks.
        """
        if topic not in (RUN_EVENTS, WORKER_EVENTS) or not isinstance(message, Mapping) or "event" not in message:
            return
        said, client = message["event"], message.get("client")
        if topic == WORKER_EVENTS and isinstance(said, Mapping) and str(said.get("event"))[:100] in _SHARED:
            return  # it has come on the other topic, too
        try:
            run = run_id(message.get("run"))
            event = dataclasses.replace(decode(said), time=self.now() if at is None else at)
            self.store.apply(run, event)
            if isinstance(event, (Started, Saved, Failed)):
                self._owned(run, event, client if isinstance(client, str) else None)
        except ValueError as error:
            self.store.dropped += 1
            if isinstance(client, str) and client in self._scheduler.clients and client not in self._strangers:
                self._strangers.add(client)
                said = {
                    "stranger": client,
                    "why": f"the scheduler cannot read its events: it has another version of the pipeline, perhaps ({_line(error)})",
                }
                asyncio.get_running_loop().call_later(HEARING_SECONDS, self._say, said)

    def _owned(self, run: str, event: Event, client: str | None) -> None:
        """Remembers the client of a run until the run ends."""
        if not isinstance(event, Started):
            self._owners.pop(run, None)
        elif client is not None:
            self._owners[run] = client

    def remove_client(self, scheduler: Any, client: str) -> None:
        """Called by the scheduler when it has lost a client; a killed client cannot emit that its runs have failed."""
        asyncio.get_running_loop().call_later(RETURN_SECONDS, self._ended, client)

    def _ended(self, client: str) -> None:
        """Ends the runs of a client that has not reconnected."""
        if client not in self._scheduler.clients:
            for run in [run for run, owner in self._owners.items() if owner == client]:
                self._scheduler.log_event(RUN_EVENTS, {"run": run, "event": encode(Failed(message=CLIENT_GONE))})

    async def close(self) -> None:
        self._metrics()

    def _offer(self) -> None:
        """Makes Dask's dashboard and the pages load at the first request; or reports why not."""
        if importlib.util.find_spec("bokeh") is None:
            self._say({"missing": NO_BOKEH})
        try:
            internals.lazy_mount(self._scheduler, self._show, self._incompatible)
        except Exception as error:
            self._incompatible(error)

    def _show(self) -> None:
        """Adds the pages, or reports why not."""
        if not self._shown:
            missing = _missing_pages(self._scheduler, self.store, self.now)
            self._shown = missing is None
            self._say({"missing": missing})

    def _incompatible(self, error: Exception) -> None:
        logger.info("no training pages", exc_info=error)
        self._say({"missing": incompatible(error)})

    def _say(self, message: Mapping[str, Any]) -> None:
        self._scheduler.log_event(NAME, {"run": NAME, **message})


def _missing_pages(scheduler: Any, store: RunStore, now: Callable[[], float]) -> str | None:
    """Adds the pages to the scheduler's dashboard; the reason if that fails, or None."""
    if importlib.util.find_spec("bokeh") is None:
        return NO_BOKEH
    try:
        if internals.bokeh(scheduler) is None:
            return NO_DASHBOARD
        internals.add(scheduler, store, now)
    except Exception as error:  # any error from another version's internals
        logger.info("no training pages", exc_info=True)
        return incompatible(error)
    return None


def incompatible(error: Exception) -> str:
    """The message where Dask's internals have changed."""
    version = importlib.metadata.version("distributed")
    return f"they do not fit the dashboard of distributed {version} ({_line(error)})"
