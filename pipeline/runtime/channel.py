"""Passes the messages that tasks log during a run to the handlers of that run only.

Dask keeps one handler per topic and client, and keeps the events of a topic until the scheduler ends.  So the topics
are few and fixed, every message names its run, and the runs of one client share its one subscription.
"""

import contextlib
import functools
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from distributed import Client

from pipeline.runtime.rpc import call_if_connected

Handler = Callable[[Mapping[str, Any]], None]
_Subscriptions = dict[object, tuple[str, Handler]]  # by subscription token

_lock = threading.Lock()
_listening: "weakref.WeakKeyDictionary[Client, dict[str, _Subscriptions]]" = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def subscribe(client: Client, topic: str, run: str, handler: Handler) -> Iterator[None]:
    """Passes the messages of this run only to `handler` while the context lasts.

    A message is a dict with the run's id as "run"; Dask adds the address of the "worker".
    """
    token = object()
    with _lock:
        listeners = _listening.setdefault(client, {}).setdefault(topic, {})
        if not listeners:
            client.subscribe_topic(topic, dispatcher(listeners))
        listeners[token] = (run, handler)
    try:
        yield
    finally:
        with _lock:
            del listeners[token]
            if not listeners:
                call_if_connected(client, functools.partial(client.unsubscribe_topic, topic))


def dispatcher(listeners: _Subscriptions) -> Callable[[tuple[float, Mapping[str, Any]]], None]:
    """Returns a handler of Dask's (time, message) that passes each message to the listeners of its run."""

    def dispatch(event: tuple[float, Mapping[str, Any]]) -> None:
        message: Any = event[1]
        if not isinstance(message, Mapping):  # from other software
            return
        for run, handler in list(listeners.values()):
            if message.get("run") == run:
                handler(message)

    return dispatch
