"""Serves the same pages without a scheduler: for a recorded file, even one that is still being written."""

import asyncio
import contextlib
import inspect
import logging
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.document import Document
from bokeh.server.server import Server
from jinja2 import Environment
from tornado.web import RedirectHandler

from pipeline.cluster.ports import free_port
from pipeline.dashboard.pages.registry import PAGES, Page
from pipeline.errors import ClusterError, UserError
from pipeline.events.recording import EventsError, Reader
from pipeline.formatting import escaped
from pipeline.monitoring.state.run_state import RunState
from pipeline.monitoring.state.run_store import RunStore

HOST = "127.0.0.1"
PORTS = 20  # tried, starting with the requested one
POLL_SECONDS = 0.5
TEMPLATE = Environment(autoescape=True).from_string("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { margin: 0; padding: 52px 12px 16px; font-family: Helvetica, Arial, sans-serif; }
nav { position: fixed; z-index: 1; top: 0; left: 0; right: 0; height: 42px; background: #eeeeee; display: flex; overflow: hidden; }
nav a { padding: 11px 16px; color: #000000; text-decoration: none; font-size: 17px; }
nav a.active { background: #f0c9a0; } nav a:hover { background: #eaaa6d; }
nav span { margin-left: auto; padding: 13px 16px; color: #444444; font-size: 14px; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
@media (prefers-color-scheme: dark) { nav { background: #262c35; } nav a { color: #e6e9ee; } nav span { color: #a3acb9; }
  nav a.active, nav a:hover { background: #7a5427; } }
@media (max-width: 700px) { nav span { display: none; } nav a { padding: 12px 10px; font-size: 15px; } }
</style>
{{ bokeh_css | safe }}
{{ bokeh_js | safe }}
</head>
<body>
<nav>{% for page in pages %}<a href="{{ page.route[1:] }}"{% if page.route == route %} class="active"{% endif %}>{{ page.name }}</a>{% endfor %}
<span>{{ source }}</span></nav>
{{ plot_div | safe }}
{{ plot_script | safe }}
</body>
</html>
""")


def serve(
    path: Path, port: int, ready: Callable[[dict[str, Any]], None], *, run: str | None = None, debug: bool = False
) -> None:
    """Serves a recorded file's pages on this machine alone until Ctrl-C; `run`: the id of the only run to show.

    `ready` gets, as soon as the pages are served, their link and the outcomes of the runs so far.  EventsError where
    the file cannot be read, UserError where there is no such run in it, ClusterError where no port is free.
    """
    if not debug:  # requests for missing pages are not logged
        logging.getLogger("tornado.access").setLevel(logging.ERROR)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(path, port, ready, run))


async def _serve(path: Path, port: int, ready: Callable[[dict[str, Any]], None], run: str | None) -> None:
    with contextlib.closing(Reader(path)) as reader:
        store = _opened(path, reader, run)
        async with _followed(path, reader, store, port, run) as link:
            if port and f":{port}/" not in link:
                _on_stderr(f"note: port {port} is in use, the next free one is taken")
            ready({"pages": link, "runs": [_outcome(one) for one in store.runs.values()]})
            await asyncio.Event().wait()


def _outcome(run: RunState) -> dict[str, Any]:
    """A run's outcome, for programs."""
    return {"run": run.name, "state": run.state, "model": run.path or None, "message": run.message or None}


@contextlib.asynccontextmanager
async def serving(source: RunStore | Path, port: int, run: str | None = None) -> AsyncIterator[str]:
    """Serves the pages while the context lasts; yields their link."""
    if isinstance(source, RunStore):
        async with _server(source, "", port) as link:
            yield link
        return
    with contextlib.closing(Reader(source)) as reader:
        async with _followed(source, reader, _opened(source, reader, run), port, run) as link:
            yield link


def _opened(path: Path, reader: Reader, run: str | None) -> RunStore:
    """The recorded events so far, of this run alone or of all."""
    store = RunStore(recorded=True)
    known = _read(reader, store, run)
    if not known:
        raise EventsError(f"{path}: holds no events; give a file that `pipeline train --events FILE` wrote")
    if run is not None and run not in known:
        raise UserError(f"--run {run}: there is no such run in {path}; it holds: {', '.join(known)}")
    return store


@contextlib.asynccontextmanager
async def _followed(path: Path, reader: Reader, store: RunStore, port: int, run: str | None) -> AsyncIterator[str]:
    """Serves the pages, and keeps reading, while the context lasts."""
    async with _server(store, str(path), port) as link:
        following = asyncio.create_task(_follow(reader, store, run))
        try:
            yield link
        finally:
            following.cancel()


async def _follow(reader: Reader, store: RunStore, run: str | None) -> None:
    """Keeps reading while the file grows; stops at a line that cannot be read, which the pages show."""
    while True:
        await asyncio.sleep(POLL_SECONDS)
        try:
            _read(reader, store, run)
        except EventsError as error:
            _on_stderr(str(error))
            store.read_no_further(str(error))
            return


def _read(reader: Reader, store: RunStore, wanted: str | None) -> list[str]:
    """Applies the new events, of `wanted` if given; the ids of all known runs."""
    heard: dict[str, None] = {}
    for run, event in reader.new():
        heard[run] = None
        if wanted in (None, run):
            store.apply(run, event)
    return [*heard]


def _latest(store: RunStore) -> float:
    """The clock of a recorded file: the time of its last event."""
    return max((run.heard for run in store.runs.values()), default=0.0)


@contextlib.asynccontextmanager
async def _server(store: RunStore, source: str, port: int) -> AsyncIterator[str]:
    pages = {page.route: Application(FunctionHandler(_shown(page, store, source))) for page in PAGES}
    server = bound(pages, port)
    server.start()
    try:
        yield f"http://{HOST}:{server.port}{PAGES[0].route}"
    finally:
        stop = getattr(server, "stop_async", server.stop)  # Bokeh 3.10 has it, and refuses `stop` here
        if inspect.isawaitable(stopping := stop()):
            await stopping


def bound(
    pages: dict[str, Application], port: int, tried: int = PORTS, free: Callable[[int], int | None] = free_port
) -> Any:
    """Binds the requested port, or the next free one of so many; 0: any.  ClusterError if all of them are in use.

    `free`: Bokeh must know the port before it binds, to refuse the pages of other sites.
    """
    last = min(port + tried, 65_536) - 1
    for attempt in map(free, range(port, last + 1) if port else [0] * tried):
        if attempt is None:
            continue
        with contextlib.suppress(OSError):  # another process was faster
            return Server(
                pages, address=HOST, port=attempt, use_index=False,
                allow_websocket_origin=[f"{HOST}:{attempt}", f"localhost:{attempt}"],
                extra_patterns=[("/", RedirectHandler, {"url": PAGES[0].route, "permanent": False})],
            )  # fmt: skip
    raise ClusterError(f"ports {port} to {last} are all in use; give another one with --port")


def _shown(page: Page, store: RunStore, source: str) -> Callable[[Document], None]:
    def make(doc: Document) -> None:
        page.make(doc, lambda: store, lambda: _latest(store))
        doc.template = TEMPLATE
        doc.template_variables.update({"pages": PAGES, "route": page.route, "source": source})

    return make


def _on_stderr(line: str) -> None:
    sys.stderr.write(f"{escaped(line)}\n")
    sys.stderr.flush()
