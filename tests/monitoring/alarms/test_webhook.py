"""The messages that alarms post, where to, and that a server that does not answer harms nothing."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipeline.config.job import Alarm
from pipeline.events.types import Restarted, RoundDone, Started
from pipeline.monitoring.alarms.listener import Alarms
from pipeline.monitoring.alarms.webhook import MOST_WAITING, Webhook
from tests.monitoring.alarms.test_listener import PLANNED


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


class Server(ThreadingHTTPServer):
    """Keeps what it is sent; answers with `status`."""

    daemon_threads = True

    def __init__(self, status: int = 204, location: str | None = None) -> None:
        self.status, self.location = status, location
        self.heard: list[tuple[str, str | None, bytes]] = []  # method and path, content type, body
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append((f"POST {self.path}", self.headers["Content-Type"], body))
        self.send_response(self.server.status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.end_headers()

    def do_GET(self) -> None:
        self.server.heard.append((f"GET {self.path}", None, b""))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(status: int = 204, location: str | None = None) -> Iterator[Server]:
    with Server(status, location) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def closed_url() -> str:
    """The URL of a port without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_what_an_alarm_sends() -> None:
    said: list[str] = []
    with serving() as server:
        alarm = Alarm(when="train.logloss > 1.5", do="post", url=f"{server.url}/hook?key=1")
        with Alarms([alarm], said.append) as alarms:
            alarms(Started(verb="train", run="1f0c"))
            alarms(RoundDone(round=3, rounds=9, metrics={"train.logloss": 2.25}, best_round=3, rows_per_second=1.0))
        ((request, kind, body),) = server.heard
    assert (request, kind) == ("POST /hook?key=1", "application/json")
    assert json.loads(body) == {
        "text": "run 1f0c: alarm: train.logloss > 1.5 (now 2.25, round 3)",
        "run": "1f0c",
        "alarm": "train.logloss > 1.5",
        "value": 2.25,
        "round": 3,
    }
    assert said == ["alarm: train.logloss > 1.5 (now 2.25, round 3)"]


def sent(url: str, messages: int = 1, *, answer_seconds: float = 5.0) -> list[str]:
    """The notes when messages are sent there."""
    told: list[str] = []
    poster = Webhook(told.append, answer_seconds)
    for number in range(messages):
        poster.send(url, {"number": number})
    poster.stop()
    return told


def test_a_server_that_is_not_there_is_reported_once() -> None:
    url = closed_url()
    assert sent(f"{url}/secret", 3) == [
        f"an alarm could not be posted to {url}: Connection refused; training continues; this note appears once"
    ]


def test_a_server_that_never_answers() -> None:
    with silent() as url:
        (line,) = sent(url, answer_seconds=0.2)
    assert line.startswith(f"an alarm could not be posted to {url}: timed out; ")


def test_the_end_of_a_run_does_not_wait_for_long() -> None:
    with silent() as url:
        poster = Webhook(lambda line: None, answer_seconds=60.0)
        for _ in range(MOST_WAITING + 5):
            poster.send(url, {})
        start = time.monotonic()
        poster.stop(0.3)
        assert time.monotonic() - start < 30  # one answer alone would take 60


def test_too_many_messages_are_dropped_and_that_is_reported() -> None:
    told: list[str] = []
    with silent() as url:
        poster = Webhook(told.append, answer_seconds=3.0)
        for _ in range(MOST_WAITING + 5):
            poster.send(url, {})
        poster.stop(0.1)
    (line,) = told
    assert line.startswith(f"an alarm could not be posted to {url}: {MOST_WAITING} messages are waiting already; ")


@pytest.mark.parametrize("status", [404, 500])
def test_a_server_that_refuses(status: int) -> None:
    with serving(status) as server:
        (line,) = sent(server.url, 2)
        assert len(server.heard) == 2
    assert f"it answered {status};" in line


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirection_is_followed(status: int) -> None:
    with serving() as other, serving(status, f"{other.url}/elsewhere") as server:
        (line,) = sent(server.url)
        assert other.heard == []
    assert f"it answered {status};" in line


def test_what_is_no_http_at_all() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        (line,) = sent(f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
    assert line.startswith("an alarm could not be posted to http://127.0.0.1:")


def test_training_continues_where_no_server_answers() -> None:
    said: list[str] = []
    alarm = Alarm(when="restarts > 0", do="post", url=closed_url())
    with Alarms([alarm], said.append) as alarms:
        alarms(Restarted(round=0, workers=1))  # as asked
        alarms(PLANNED)
        alarms(Restarted(round=0, workers=1))
        alarms.check()
    alarms.check()
    assert [line.split(" to ")[0] for line in said] == ["alarm: restarts > 0 (now 1)", "an alarm could not be posted"]
