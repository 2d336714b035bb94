"""What a run says reaches its scheduler: throttled, without making anybody wait, whatever becomes of the scheduler."""

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from distributed import Client, LocalCluster

from pipeline.events.topics import RUN_EVENTS
from pipeline.events.types import (
    Event,
    Failed,
    FragmentDone,
    Note,
    Place,
    Placed,
    Restarted,
    Saved,
    Started,
    decode,
)
from pipeline.monitoring import publish
from pipeline.monitoring.publish import EventPublisher, publishing


def fragment(stage: str, done: int) -> FragmentDone:
    return FragmentDone(stage=stage, done=done, total=100, rows=1)


INTERVAL_SECONDS = 0.2  # of the publishers here


class Sent:
    """What a publisher sent, and when."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.times: list[float] = []

    def __call__(self, message: Mapping[str, Any]) -> None:
        self.events.append(decode(message["event"]))
        self.times.append(time.monotonic())

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def sent() -> Sent:
    return Sent()


def publish_all(sent: Callable[[Mapping[str, Any]], object], say: Callable[[EventPublisher], None]) -> None:
    publisher = EventPublisher("a", sent, interval_seconds=INTERVAL_SECONDS)
    thread = threading.Thread(target=publisher.work)
    thread.start()
    say(publisher)
    publisher.close()
    thread.join(10)
    assert not thread.is_alive()


def test_fragments_are_throttled_and_the_last_one_is_reported(sent: Sent) -> None:
    def say(publisher: EventPublisher) -> None:
        for number in range(1, 101):
            publisher(fragment("blocks", number))
            publisher(fragment("predict", number))
            time.sleep(0.01)

    begin = time.monotonic()
    publish_all(sent, say)
    most = 2 + (time.monotonic() - begin) / INTERVAL_SECONDS  # the first and the last one come besides
    for stage in ("blocks", "predict"):
        done = [event.done for event in sent.of(FragmentDone) if event.stage == stage]
        assert 2 < len(done) <= most
        assert done[-1] == 100
        assert done == sorted(done)


def test_between_two_fragments_lies_the_interval(sent: Sent) -> None:
    def say(publisher: EventPublisher) -> None:
        for number in range(60):
            publisher(fragment("blocks", number))
            publisher(Note(message=str(number)))  # does not make room for fragments
            time.sleep(0.01)

    publish_all(sent, say)
    times = [at for at, event in zip(sent.times, sent.events, strict=True) if isinstance(event, FragmentDone)]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert min(gaps[:-1]) > 0.9 * INTERVAL_SECONDS  # but for the last, which is sent at once
    assert [event.message for event in sent.of(Note)] == [str(number) for number in range(60)]


def test_a_fragment_is_emitted_before_the_restart_that_came_after_it(sent: Sent) -> None:
    def say(publisher: EventPublisher) -> None:
        for number in range(30, 38):
            publisher(fragment("blocks", number))
            time.sleep(0.01)
        publisher(Restarted(round=0, workers=2))
        time.sleep(0.2)
        publisher(fragment("blocks", 1))

    publish_all(sent, say)
    assert [getattr(event, "done", 0) for event in sent.events] == [30, 37, 0, 1]


def test_a_scheduler_that_hangs_delays_no_event_handler_and_the_newest_are_kept() -> None:
    free, begun = threading.Event(), threading.Event()
    sent = Sent()

    def hang(message: Mapping[str, Any]) -> None:
        begun.set()
        free.wait(60)
        sent(message)

    def say(publisher: EventPublisher) -> None:
        publisher(Started(verb="train", run="a"))
        assert begun.wait(60)
        start = time.monotonic()
        for number in range(3 * publish.WAITING):
            publisher(Note(message=str(number)))
        publisher(Saved(path="m", sha256=""))
        assert time.monotonic() - start < 30  # the scheduler hangs for 60
        free.set()

    publish_all(hang, say)
    assert len(sent.events) == publish.WAITING + 1
    assert isinstance(sent.events[-1], Saved)


def test_a_failing_scheduler_raises_no_error(sent: Sent) -> None:
    def fail(message: Mapping[str, Any]) -> None:
        if message["event"]["event"] != "Saved":
            raise OSError("gone")
        sent(message)

    def say(publisher: EventPublisher) -> None:
        publisher(Started(verb="train", run="a"))
        publisher(fragment("blocks", 1))
        time.sleep(0.1)
        publisher(Saved(path="m", sha256=""))
        time.sleep(0.1)

    publish_all(fail, say)
    assert len(sent.events) == 1  # it keeps trying


def test_on_a_cluster(client: Client) -> None:
    place = Place(worker="0", rows=1, share=1.0, capability=1.0, threads=1, memory_limit_nbytes=0, planned_nbytes=1)
    events: list[Event] = [Started(verb="train", run="x"), Placed(workers=(place,)), Failed(message="no")]
    with publishing(client, "x") as listen:
        for event in events:
            listen(event)
    said = [message for _, message in client.get_events(RUN_EVENTS) if message["run"] == "x"]
    assert [decode(message["event"]) for message in said] == events
    assert {message["client"] for message in said} == {client.id}


def test_it_may_be_called_in_dasks_own_thread(client: Client) -> None:
    async def say() -> None:
        listen(Note(message="from the loop"))

    with publishing(client, "loop") as listen:
        client.sync(say)
    assert any(message["run"] == "loop" for _, message in client.get_events(RUN_EVENTS))


def test_a_scheduler_that_has_gone() -> None:
    options: dict[str, Any] = {
        "n_workers": 0, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "silence_logs": 51,
        "scheduler_kwargs": {"dashboard": False},
    }  # fmt: skip
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        start = time.monotonic()
        with publishing(client, "x") as listen:
            cluster.close()
            for number in range(10):
                listen(Note(message=str(number)))
            time.sleep(0.2)
    assert time.monotonic() - start < 2 * publish.LEAVE_SECONDS + 2


def test_what_waits_goes_before_the_end_of_the_run(sent: Sent) -> None:
    """A throttled round must not be emitted after the run has ended."""

    def say(publisher: EventPublisher) -> None:
        publisher(fragment("blocks", 1))
        while not sent.events:
            time.sleep(0.01)
        publisher(fragment("blocks", 2))  # held back
        publisher(Failed(message="no"))
        while not sent.of(Failed):
            time.sleep(0.01)

    publish_all(sent, say)
    assert [type(event) for event in sent.events] == [FragmentDone, FragmentDone, Failed]
