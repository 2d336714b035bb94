"""Messages that tasks log while a run goes on, for the run they belong to and nobody else.

Dask keeps one handler per topic and client, and the events of a topic as long as the scheduler lives.  So the topics
are few and fixed, every message names its run, and the runs of one client share its one subscription.
"""

import contextlib
import functools
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from distributed import Client

from pipeline.runtime.rpc import if_there

EVENTS = "pipeline-events"  # what a client says of its runs: {run: id, event: encoded event, client: its id}
ROUNDS = "pipeline"  # what workers say of their rounds: {run: id, event: encoded event} or {run: id, checkpoint: round}

Handler = Callable[[Mapping[str, Any]], None]
_Listening = dict[object, tuple[str, Handler]]  # by a token of each listener

_lock = threading.Lock()
_listening: "weakref.WeakKeyDictionary[Client, dict[str, _Listening]]" = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def hearing(client: Client, topic: str, run: str, handler: Handler) -> Iterator[None]:
    """Hands the messages of this run, and of no other, to `handler` while the context lasts.

    A message is a dict with the run's id as "run"; Dask adds the address of the "worker".
    """
    token = object()
    with _lock:
        listeners = _listening.setdefault(client, {}).setdefault(topic, {})
        if not listeners:
            client.subscribe_topic(topic, _dispatcher(listeners))
        listeners[token] = (run, handler)
    try:
        yield
    finally:
        with _lock:
            del listeners[token]
            if not listeners:
                if_there(client, functools.partial(client.unsubscribe_topic, topic))


def _dispatcher(listeners: _Listening) -> Callable[[tuple[float, Mapping[str, Any]]], None]:
    def dispatch(event: tuple[float, Mapping[str, Any]]) -> None:
        message: Any = event[1]
        if not isinstance(message, Mapping):  # of somebody else
            return
        for run, handler in list(listeners.values()):
            if message.get("run") == run:
                handler(message)

    return dispatch
