"""Posts alarm messages to a web server, outside the training thread and without affecting the training."""

import http.client
import json
import queue
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

ANSWER_SECONDS = 5.0  # for each step of a request
END_SECONDS = 5.0  # limit for pending messages when the run is over
MOST_WAITING = 20  # messages; more are dropped


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the job decides where a message goes, not the server."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Webhook:
    """Sends messages in order from a thread of its own; each once, whether it arrives or not."""

    def __init__(self, tell: Callable[[str], None], answer_seconds: float = ANSWER_SECONDS) -> None:
        """`tell` gets a message about a server that does not accept a message, once for each server, in any thread."""
        self._tell, self._answer_seconds = tell, answer_seconds
        self._opener = urllib.request.build_opener(_Stay)
        self._waiting: queue.Queue[tuple[str, bytes] | None] = queue.Queue(MOST_WAITING)
        self._told: set[str] = set()  # servers
        self._thread: threading.Thread | None = None

    def send(self, url: str, message: Mapping[str, Any]) -> None:
        """Queues the message; returns at once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="alarms-post", daemon=True)
            self._thread.start()
        try:
            self._waiting.put_nowait((url, json.dumps(message).encode()))
        except queue.Full:
            self._failed(url, f"{MOST_WAITING} messages are waiting already")

    def stop(self, seconds: float = END_SECONDS) -> None:
        """Waits `seconds` for pending messages, and drops the rest."""
        if self._thread is None:
            return
        deadline = time.monotonic() + seconds
        try:
            self._waiting.put(None, timeout=seconds)
        except queue.Full:
            return
        self._thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            url, body = item
            try:
                self._post(url, body)
            except urllib.error.HTTPError as error:
                error.close()
                self._failed(url, f"it answered {error.code}")
            except urllib.error.URLError as error:
                self._failed(url, getattr(error.reason, "strerror", None) or str(error.reason))
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._failed(url, str(error) or type(error).__name__)

    def _post(self, url: str, body: bytes) -> None:
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
        with self._opener.open(request, timeout=self._answer_seconds):
            pass

    def _failed(self, url: str, reason: str) -> None:
        """Reports the failure once for each server, without the path, which may hold a secret."""
        server = "{0.scheme}://{0.netloc}".format(urllib.parse.urlsplit(url))
        if server not in self._told:
            self._told.add(server)
            self._tell(
                f"an alarm could not be posted to {server}: {reason}; training continues; this note appears once"
            )
