"""Recorded files served: as a browser's session sees them, without a browser."""

import asyncio
import contextlib
import queue
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bokeh.client import pull_session
from bokeh.document import Document

from pipeline.dashboard.pages.registry import PAGES
from pipeline.dashboard.replay import bound, serve, serving
from pipeline.errors import ClusterError, UserError
from pipeline.events.recording import EventsError, line_of
from pipeline.monitoring.state.run_store import RunStore
from tests.dashboard import recorded
from tests.dashboard.test_pages import words
from tests.monitoring.state.test_run_store import filled

pytestmark = pytest.mark.usefixtures("loop")


@contextlib.contextmanager
def served(source: RunStore | Path, port: int = 0, run: str | None = None) -> Iterator[str]:
    """The link of a server in another thread."""
    links: queue.Queue[str] = queue.Queue()

    async def serve_it() -> None:
        async with serving(source, port, run) as link:
            links.put(link)
            while not ended.is_set():
                await asyncio.sleep(0.02)

    ended = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(serve_it()))
    thread.start()
    try:
        yield links.get(timeout=30)
    finally:
        ended.set()
        thread.join(30)


def pulled(link: str, route: str, **arguments: str) -> Document:
    session = pull_session(url=re.sub(r"/training$", route, link), arguments=arguments)
    try:
        return session.document
    finally:
        session.close()


def told_by_serve(path: Path, port: int, run: str | None = None) -> dict[str, Any]:
    """What `serve` reports before Ctrl-C ends it."""
    told: list[dict[str, Any]] = []

    def ready(said: dict[str, Any]) -> None:
        told.append(said)
        raise KeyboardInterrupt

    serve(path, port, ready, run=run)
    return told[0]


def write(path: Path, count: int | None = None) -> list[bytes]:
    lines = [line_of(run, event) for run, event in recorded.everything()]
    path.write_bytes(b"".join(lines[:count]))
    return lines


def test_a_recorded_file_shows_in_the_same_pages(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(path)
    with served(path) as link:
        assert link.startswith("http://127.0.0.1:")
        for page in PAGES:
            document = pulled(link, page.route)
            assert document.title == page.title
            assert "mslr-&lt;b&gt;1&lt;/b&gt;" in words(document)
        html = urllib.request.urlopen(link, timeout=20).read().decode()
        assert all(f'href="{page.route[1:]}"' in html for page in PAGES)
        assert "events.jsonl" in html
        hosts = set(re.findall(r'(?:src|href)="(https?://[^/"]+)', html))
        assert hosts <= {link.removesuffix("/training")}
        root = urllib.request.urlopen(link.removesuffix("training"), timeout=20)
        assert root.url == link


def test_a_board_is_served_too() -> None:
    with served(filled(recorded.binary())) as link:
        assert "worker 1 lost at round 137" in words(pulled(link, "/training"))


def test_a_file_is_followed_while_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    lines = write(path, 400)
    with served(path) as link:
        assert "flights-3f2a: running" in words(pulled(link, "/training"))
        with path.open("ab") as file:
            file.write(b"".join(lines[400:]))
        for _ in range(100):
            if "mslr" in words(pulled(link, "/training")):
                break
        else:
            pytest.fail("what was written later is not shown")


def test_a_file_that_is_damaged_meanwhile_is_not_reported_to_be_followed(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(path, 400)
    with served(path) as link:
        assert "the page follows the file if it still grows" in words(pulled(link, "/training"))
        with path.open("ab") as file:
            file.write(b"<damaged>\n")
        for _ in range(100):
            if "is damaged" in (shown := words(pulled(link, "/training"))):
                break
        else:
            pytest.fail("the damage is not shown")
        assert "events.jsonl:401: " in shown
        assert "still grows" not in shown
        assert "<damaged>" not in shown


def test_a_run_is_asked_for_by_the_address(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(path)
    with served(path) as link:
        assert "train flights-3f2a" in words(pulled(link, "/training", run="flights-3f2a"))
        for page in PAGES:
            assert "Run deadbeef is not known here (yet)" in words(pulled(link, page.route, run="deadbeef"))


def test_one_run_of_several(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(path)
    with served(path, run="flights-3f2a") as link:
        shown = words(pulled(link, "/training"))
        assert "flights-3f2a: " in shown
        assert "mslr" not in shown
    assert [run["run"] for run in told_by_serve(path, 0, "flights-3f2a")["runs"]] == ["flights-3f2a"]
    with pytest.raises(UserError, match=r"--run nosuch: .*events\.jsonl; it holds: flights-3f2a, .*mslr"):
        told_by_serve(path, 0, "nosuch")


def test_what_the_runs_came_to(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(line_of(run, event) for run, event in recorded.failed()))
    told = told_by_serve(path, 0)
    assert told.keys() == {"pages", "runs"}
    (run,) = told["runs"]
    assert (run["run"], run["state"], run["model"]) == ("broken-01", "failed", None)
    assert run["message"]


def test_pages_that_are_not_there_leave_no_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(path, 3)
    code = (
        "import sys, urllib.error, urllib.request, threading\n"
        "from pathlib import Path\n"
        "from pipeline.dashboard.replay import serve\n"
        "def ask(said):\n"
        "    threading.Thread(target=asked, args=(said['pages'] + '/nosuch',)).start()\n"
        "def asked(link):\n"
        "    try:\n"
        "        urllib.request.urlopen(link)\n"
        "    except urllib.error.HTTPError as error:\n"
        "        print(error.code)\n"
        "    import os, signal\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "serve(Path(sys.argv[1]), 0, ask)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "404\n", "")


def test_the_next_port_is_taken_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "events.jsonl"
    write(path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = told_by_serve(path, port)
    assert capsys.readouterr().err == f"note: port {port} is in use, the next free one is taken\n"
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/training", told["pages"])
    assert f":{port}/" not in told["pages"]


def test_no_port_is_free() -> None:
    with pytest.raises(ClusterError, match="ports 65530 to 65535 are all in use"):
        bound({}, 65_530, free=lambda port: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ClusterError, match=f"ports {port} to {port} are all in use"):
            bound({}, port, tried=1)


def test_a_file_without_events(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.touch()
    with pytest.raises(EventsError, match=r"events\.jsonl: holds no events"):
        told_by_serve(path, 0)


def test_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(path, 3)
    with path.open("ab") as file:
        file.write(b"{}\n")
    with pytest.raises(EventsError, match=r"events\.jsonl:4: not an event"):
        told_by_serve(path, 0)
