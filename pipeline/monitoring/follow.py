"""Shows the progress of a training that another client runs, in this terminal: `pipeline watch`."""

import contextlib
import functools
import itertools
import math
import queue
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from distributed import Client

from pipeline.cluster import interrupts, logs
from pipeline.cluster.launchers import existing
from pipeline.cluster.scheduler_info import events
from pipeline.config.job import Cluster
from pipeline.errors import SchedulerLostError, TrainingError, UserError
from pipeline.events.topics import RUN_EVENTS
from pipeline.events.types import (
    Event,
    EventHandler,
    Failed,
    FragmentDone,
    Note,
    RoundDone,
    Saved,
    Started,
    decode,
    run_id,
)
from pipeline.runtime.rpc import call_if_connected
from pipeline.runtime.sessions import is_open

POLL_SECONDS = 1.0  # of silence, after which the scheduler is polled
KNOWN = 2_000  # messages remembered; a scheduler keeps the last thousand of a topic
LOST_SECONDS = 5.0  # to reconnect after a lost connection
SILENT_SECONDS = 60.0  # after which an unfinished run gives way to one that begins

TopicMessage = Mapping[str, Any]  # a message of the topic RUN_EVENTS
ENDS = (Saved.__name__, Failed.__name__)
STOPPED = "stopped watching"
LEFT_ALONE = f"{STOPPED}; the training continues"


@dataclass
class RunFollower:
    """Selects the run of a scheduler that is shown: the newest that has not ended, until it ends."""

    wanted: str | None = None  # only this run
    clock: Callable[[], float] = time.monotonic
    run: str | None = None
    _heard: float = field(default=0.0)  # time of the last event of the run

    def follow(self, run: str, silent_seconds: float = 0.0) -> None:
        """Shows this run from now on; its last event was `silent_seconds` ago."""
        self.run, self._heard = run, self.clock() - silent_seconds

    @property
    def goes_on(self) -> bool:
        """Whether a run is shown and its last event is recent."""
        return self.run is not None and self.clock() - self._heard <= SILENT_SECONDS

    def takes(self, run: str, event: Event) -> bool:
        """Whether the event belongs to the run that is shown."""
        if self.wanted is None:
            takes = self.run in (None, run) or (not self.goes_on and isinstance(event, Started))
        else:
            takes = run == self.wanted
        if takes:
            self.follow(run)
        return takes


def watch(address: str, section: Cluster, on_event: EventHandler, *, run: str | None = None) -> dict[str, Any]:
    """Passes the events of a run of the scheduler at `address` to `on_event` until it ends, from its current state;
    returns its outcome.  A run whose model is saved ends once its report is drawn.

    `run`: its id; default: the newest that has not ended, or the next to begin.  `section` has the TLS files. Neither
    the training nor its scheduler notices.  ClusterError where the scheduler cannot be reached, SchedulerLostError
    where it is lost, TrainingError where the run fails, UserError where the scheduler does not know `run`.
    """
    logs.silence()
    there = section.model_copy(update={"scheduler": address})
    with contextlib.closing(interrupts.finish(lambda: existing.reach(there), Client.close)) as client:
        following = RunFollower(run)
        try:
            return _watch(_EventStream(client, address), following, on_event)
        except KeyboardInterrupt as error:
            error.add_note(LEFT_ALONE if following.goes_on else STOPPED)
            raise


def _watch(said: "_EventStream", following: RunFollower, on_event: EventHandler) -> dict[str, Any]:
    begun = latest(said.before, following.wanted)
    if following.wanted is not None and not begun:
        known = ", ".join(dict.fromkeys(message["run"] for message in said.before)) or "none"
        raise UserError(f"{said.address}: there is no run {following.wanted}; known there: {known}")
    if begun:
        silent = max(0.0, time.time() - begun[-1]["event"]["time"])
        following.follow(begun[0]["run"], silent)
        if silent > SILENT_SECONDS:
            on_event(Note(message=f"run {following.run} sent its last event {silent / 60:.0f} minutes ago"))
    else:
        on_event(Note(message=f"no training is running on {said.address}; waiting for the next one"))
    before = iter(begun)
    saved = _until_saved(itertools.chain(before, said), following, on_event)
    for message in itertools.chain(before, said.rest(following)):
        for event in _decoded(message):
            if message["run"] == following.run:
                on_event(event)
    return {"run": following.run, "model": saved.path, "sha256": saved.sha256}


def _until_saved(messages: Iterable[TopicMessage], following: RunFollower, on_event: EventHandler) -> Saved:
    """Passes the events on until the model is saved.  TrainingError if the run fails."""
    for message in messages:
        for event in _decoded(message):
            if following.takes(message["run"], event):
                on_event(event)
                if isinstance(event, Saved):
                    return event
                if isinstance(event, Failed):
                    raise TrainingError(f"the training failed: {event.message}")
    raise AssertionError("unreachable")


class _EventStream:
    """Messages in the order of arrival, each once.

    A subscription takes effect a moment after the request, and messages are not repeated that are emitted while a
    connection is broken: so after some silence the scheduler is polled for the messages it keeps of the topic.
    """

    def __init__(self, client: Client, address: str) -> None:
        self._client, self.address = client, address
        self._heard: queue.SimpleQueue[TopicMessage] = queue.SimpleQueue()
        self._known: deque[Hashable] = deque(maxlen=KNOWN)
        client.subscribe_topic(RUN_EVENTS, lambda event: self._heard.put(_stamped(*event)))
        self.before = list(self._new(self._kept()))  # messages from before the subscription

    def __iter__(self) -> Iterator[TopicMessage]:
        """Yields the messages; SchedulerLostError where the scheduler does not come back."""
        while True:
            try:
                message = self._heard.get(timeout=POLL_SECONDS)
                yield from self._new([*self._missed(message), message])
            except queue.Empty:
                yield from self._new(self._kept())

    def rest(self, following: RunFollower) -> Iterator[TopicMessage]:
        """Yields the messages until the run is over: closed, silent for too long, or with its scheduler gone."""
        assert following.run is not None
        running = functools.partial(is_open, self._client, following.run)
        while following.goes_on and call_if_connected(self._client, running):
            with contextlib.suppress(queue.Empty):
                yield from self._new([self._heard.get(timeout=POLL_SECONDS)])
        yield from self._new(call_if_connected(self._client, self._ask) or [])

    def _missed(self, message: TopicMessage) -> list[TopicMessage]:
        """Messages from before the end of a run that may have been missed; none before any other message."""
        ends = well_formed(message) and message["event"]["event"] in ENDS
        with contextlib.suppress(SchedulerLostError):  # the scheduler closed with the run
            return self._kept() if ends else []
        return []

    def _kept(self) -> list[TopicMessage]:
        deadline = time.monotonic() + LOST_SECONDS
        while time.monotonic() < deadline:
            if (kept := call_if_connected(self._client, self._ask)) is not None:
                return kept
            time.sleep(POLL_SECONDS / 5)
        raise SchedulerLostError(f"the scheduler at {self.address} was lost")

    def _ask(self) -> list[TopicMessage]:
        return [_stamped(at, message) for at, message in events(self._client, RUN_EVENTS, LOST_SECONDS)]

    def _new(self, messages: Iterable[TopicMessage]) -> Iterator[TopicMessage]:
        """Yields the messages that have not been yielded before."""
        for message in messages:
            if well_formed(message) and (key := _key(message)) not in self._known:
                self._known.append(key)
                yield message


def _stamped(at: float, message: TopicMessage) -> TopicMessage:
    """Replaces the time of the sender, a worker on a machine with another clock, by the scheduler's."""
    if not well_formed(message):
        return message
    return {**message, "event": {**message["event"], "time": at}}


def well_formed(message: Any) -> bool:
    """Whether it may be an event of a run: any client may log anything.  `decode` checks the rest."""
    event = message.get("event") if isinstance(message, Mapping) else None
    if not isinstance(event, Mapping):
        return False
    with contextlib.suppress(ValueError):
        names = (run_id(message.get("run")), event.get("event"), event.get("stage", ""))
        when = event.get("time")
        return all(isinstance(name, str) for name in names) and isinstance(when, (int, float)) and math.isfinite(when)
    return False


def _key(message: TopicMessage) -> Hashable:
    event = message["event"]
    return message["run"], event["event"], event["time"], event.get("stage")


def latest(messages: list[TopicMessage], wanted: str | None = None) -> list[TopicMessage]:
    """The messages of the newest run that has not ended that still matter: of rounds and fragments only the last.

    `wanted`: of this run, whether or not it has ended.
    """
    by_run: dict[str, list[TopicMessage]] = {}
    for message in messages:
        by_run.setdefault(message["run"], []).append(message)
    if wanted is None:
        going = {run: said for run, said in by_run.items() if not any(one["event"]["event"] in ENDS for one in said)}
        said = max(going.values(), key=lambda said: said[-1]["event"]["time"], default=[])
    else:
        said = by_run.get(wanted, [])
    shown: dict[Any, TopicMessage] = {}
    for number, message in enumerate(said):
        event = message["event"]
        kind = (event["event"], event.get("stage"))
        key = kind if event["event"] in (RoundDone.__name__, FragmentDone.__name__) else number
        shown.pop(key, None)
        shown[key] = message
    return list(shown.values())


def _decoded(message: TopicMessage) -> Iterator[Event]:
    """The message's event; nothing where a client of another version emits an event that this version does not know."""
    with contextlib.suppress(ValueError):
        yield decode(message["event"])
