"""The membership of the cluster, from the scheduler's answers and a clock of the test."""

import functools
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from distributed import Client, LocalCluster

from pipeline.errors import CollectiveError, DepartureError, SchedulerLostError, WorkerLostError
from pipeline.runtime import nannies
from pipeline.runtime.membership import WorkerMembership, process

A, B = "tcp://127.0.0.1:1001", "tcp://127.0.0.1:1002"


class FakeClient:
    """A client whose scheduler gives the answers that the test sets."""

    cluster: Any = None
    status = "running"

    def __init__(self) -> None:
        self.restarted: list[str] = []
        self.nanny_answers = True
        self.ended_for_memory: list[tuple[float, dict[str, Any]]] = []
        self.scheduler = SimpleNamespace(events=lambda topic: tuple(self.ended_for_memory))

    def sync(self, function: Any, callback_timeout: float, **arguments: Any) -> Any:
        return function(**arguments)

    def run_on_scheduler(self, *_: Any) -> bool:
        return self.nanny_answers

    def restart_workers(self, addresses: list[str], **_: Any) -> None:
        self.restarted += addresses


class Scene:
    """Members over a fake scheduler and a fake clock."""

    def __init__(self) -> None:
        self.now, self.said, self.told = 0.0, {A: 1.0, B: 1.0}, []
        self.status: dict[str, str] = {}  # of those that are not running
        self.folders = {A: "a", B: "b"}
        self.client: Any = FakeClient()
        self.members = WorkerMembership(self.client, hang_seconds=60.0, clock=lambda: self.now)
        self.members.lost = lambda address, reason: self.told.append((address, reason))
        self.members.scheduler_info = lambda client, timeout: self.info()

    def info(self) -> dict[str, Any]:
        return {"workers": {address: self.facts(address, word) for address, word in self.said.items()}}

    def facts(self, address: str, word: float) -> dict[str, Any]:
        return {
            "name": address[-1],
            "last_seen": word,
            "memory_limit": 200 * 2**20,
            "host": "127.0.0.1",
            "local_directory": self.folders[address],
            "status": self.status.get(address, "running"),
        }


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    assert set(scene.members.refresh()) == {A, B}
    return scene


def test_one_that_left_is_reported_once(scene: Scene) -> None:
    scene.members.raise_if_lost([A, B])
    del scene.said[B]
    assert set(scene.members.refresh()) == {A}
    assert set(scene.members.refresh()) == {A}
    assert scene.told == [(B, "its process ended or its connection broke")]
    scene.members.raise_if_lost([A])
    with pytest.raises(WorkerLostError, match=r"worker tcp://127.0.0.1:1002 was lost: its process ended") as caught:
        scene.members.raise_if_lost([A, B])
    assert caught.value.worker == B
    assert scene.members.names == {A: "1", B: "2"}  # of everyone ever seen


def test_silence_is_freezing_and_slowness_is_not(scene: Scene) -> None:
    scene.now = 59.0
    scene.said[A] = 60.0  # it has sent a heartbeat since, however slow its task
    scene.members.refresh()
    scene.now = 61.0
    scene.members.refresh()
    assert scene.members.frozen() == [B]
    scene.members.end_frozen()
    assert scene.told == [(B, "silent for 60 s (cluster.hang_seconds), ended")]
    assert set(scene.members.refresh()) == {A}  # no longer tracked, though it is still there
    assert scene.members.frozen() == []
    with pytest.raises(WorkerLostError, match="silent for 60 s"):
        scene.members.raise_if_lost([B])
    del scene.said[B]
    scene.members.refresh()
    assert len(scene.told) == 1


def test_words_need_not_rise(scene: Scene) -> None:
    """The scheduler's clock may be set back: what counts is that a word is another one."""
    scene.now, scene.said = 59.0, {A: -1e6, B: -1e6}
    scene.members.refresh()
    scene.now = 118.0
    scene.members.refresh()
    assert scene.members.frozen() == []


def silent_for(scene: Scene, seconds: float) -> list[str]:
    """The scheduler answers nothing for so long, each question taking 5 s, then what it says; the notes of that."""
    notes: list[str] = []
    scene.members.note = notes.append
    until = scene.now + seconds

    def answer(client: Any, timeout: float) -> dict[str, Any]:
        if scene.now < until:
            scene.now = min(scene.now + timeout, until)
            raise TimeoutError(f"timed out after {timeout} s")
        return scene.info()

    scene.members.scheduler_info, scene.members.ask_again_seconds = answer, 0.0
    return notes


def test_a_scheduler_that_is_silent_is_waited_for(scene: Scene) -> None:
    notes = silent_for(scene, 12.0)
    assert set(scene.members.refresh()) == {A, B}
    assert notes == [
        "the scheduler has not answered for 5 s: waiting for it, 60 s at most (cluster.hang_seconds)",
        "the scheduler answers again, after 12 s",
    ]
    scene.members.raise_if_lost([A, B])
    again = silent_for(scene, 12.0)
    assert set(scene.members.refresh()) == {A, B}
    assert again == notes[:1]  # a silence as long as the last one ends without a note


def test_who_hears_a_note_may_ask_for_the_members(scene: Scene) -> None:
    """Notes come outside the lock: a listener that waits for another thread's question waits for ever otherwise."""
    notes = silent_for(scene, 12.0)
    seen: list[set[str]] = []

    def hear(note: str) -> None:
        notes.append(note)
        scene.members.frozen()
        if "again" in note:
            seen.append(set(scene.members.refresh()))

    scene.members.note = hear
    looking = threading.Thread(target=scene.members.refresh, daemon=True)
    looking.start()
    looking.join(5)
    assert not looking.is_alive()
    assert len(notes) == 2
    assert seen == [{A, B}]


def test_one_that_leaves_while_it_is_being_ended_is_lost_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    give_up = scene.members._mark_dead

    def leave(address: str, reason: str) -> str:
        ended = give_up(address, reason)
        scene.members._present = {A: scene.members._present[A]}  # as another thread's look does as soon as it can
        return ended

    monkeypatch.setattr(scene.members, "_mark_dead", leave)
    scene.members.terminate(B, "stuck")
    assert scene.told == [(B, "stuck")]


def test_a_silent_scheduler_makes_no_worker_look_frozen(scene: Scene) -> None:
    scene.now = 20.0  # no word since 0
    silent_for(scene, 50.0)
    scene.members.refresh()
    assert scene.now == 70.0
    assert scene.members.frozen() == []  # 20 s of silence are the workers' own
    scene.now = 111.0
    assert scene.members.frozen() == [A, B]


def test_a_scheduler_that_is_silent_for_too_long_is_lost(scene: Scene) -> None:
    silent_for(scene, 1e9)
    lost = r"the scheduler was lost: it has not answered for 60 s \(cluster.hang_seconds = 60\)"
    with pytest.raises(SchedulerLostError, match=lost):
        scene.members.refresh()
    assert scene.now == 60.0
    with pytest.raises(SchedulerLostError, match=lost):
        scene.members.raise_if_lost([])
    with pytest.raises(SchedulerLostError, match=lost):  # what never answers is not waited for
        scene.members.call(threading.Event().wait)


def test_a_worker_that_is_silent_is_noted_before_it_is_ended(scene: Scene) -> None:
    notes: list[str] = []
    scene.members.note = notes.append
    scene.now = 16.0
    scene.said[A] = 2.0
    scene.members.refresh()
    for _ in range(2):
        scene.members.note_silent()
    (note,) = notes
    assert note.startswith("worker 2 has sent no heartbeat for 15 s")
    scene.members.raise_if_lost([A, B])


def test_what_is_asked_in_another_thread_gives_its_answer_or_error(scene: Scene) -> None:
    assert scene.members.call(lambda: 3) == 3
    with pytest.raises(TimeoutError, match="its own"):
        scene.members.call(lambda: (_ for _ in ()).throw(TimeoutError("its own")))


def test_a_closed_client(scene: Scene) -> None:
    scene.client.status = "closed"
    with pytest.raises(SchedulerLostError, match="the connection is closed"):
        scene.members.refresh()


def test_another_process_at_the_old_address(scene: Scene) -> None:
    """As of `dask worker --worker-port`: the lost one stays lost until the new one is tracked."""
    scene.folders[B] = "b, started again"
    present = scene.members.refresh()
    assert set(present) == {A, B}
    assert scene.told == [(B, "its process ended or its connection broke")]
    with pytest.raises(WorkerLostError):
        scene.members.raise_if_lost([B])
    scene.members.track({address: process(facts) for address, facts in present.items()})
    scene.members.raise_if_lost([A, B])
    scene.now = 61.0
    scene.said[A] = 2.0
    scene.members.refresh()
    scene.members.end_frozen()
    scene.folders[B] = "b, started once more"
    present = scene.members.refresh()
    assert set(present) == {A, B}  # what is ended is a process, not an address
    assert [reason[:6] for _, reason in scene.told] == ["its pr", "silent"]


def test_an_older_answer_does_not_undo_a_newer_one(scene: Scene) -> None:
    """The scheduler answers, a worker joins, another thread sees it, and only then the first thread continues."""
    del scene.said[B]
    scene.members.refresh()
    answered, joined = threading.Event(), threading.Event()
    first = threading.Thread(target=scene.members.refresh)

    def ask(client: Any, timeout: float) -> dict[str, Any]:
        info = scene.info()
        if threading.current_thread() is first:
            answered.set()
            joined.wait(0.2)
        return info

    scene.members.scheduler_info = ask
    first.start()
    answered.wait(5)
    scene.said[B] = 1.0
    scene.folders[B] = "another"
    present = scene.members.refresh()
    joined.set()
    first.join(5)
    scene.members.track({address: process(facts) for address, facts in present.items()})
    scene.members.raise_if_lost([A, B])
    assert set(scene.members.refresh()) == {A, B}


@pytest.mark.parametrize("status", ["closing_gracefully", "closing"])
def test_one_that_is_retired_is_lost(scene: Scene, status: str) -> None:
    scene.status[B] = status
    assert set(scene.members.refresh()) == {A}
    with pytest.raises(DepartureError, match="it was retired"):
        scene.members.raise_if_lost([B])
    assert scene.members.announced([A, B]) == {B: True}
    scene.status[B] = "running"  # no other worker can take over its data
    assert set(scene.members.refresh()) == {A, B}
    scene.members.raise_if_lost([B])
    scene.status[B] = "paused"
    assert set(scene.members.refresh()) == {A, B}
    assert scene.told == [(B, "it was retired")]
    assert scene.members.announced([A, B]) == {}


def test_a_host_that_was_cut_off_is_used_again(scene: Scene) -> None:
    """Its nanny could not end the worker; Dask would close both for good once the host is back."""
    notes: list[str] = []
    scene.members.note = notes.append
    scene.client.nanny_answers = False
    scene.members.refresh()
    assert scene.members.all_heard([A, B])
    scene.now, scene.said[A] = 61.0, 2.0
    scene.members.refresh()
    assert not scene.members.all_heard([A, B])
    assert scene.members.all_heard([A])
    scene.members.end_frozen()
    for thread in [one for one in threading.enumerate() if one.name == "end worker"]:
        thread.join(5)
    assert scene.told == [(B, "silent for 60 s (cluster.hang_seconds), ended")]
    assert notes == [f"worker {B[-1]} was not ended: its host does not answer; it can be used again once it does"]
    assert set(scene.members.refresh()) == {A}
    assert scene.members.frozen() == []  # once is enough
    scene.said[B] = 3.0
    assert set(scene.members.refresh()) == {A, B}
    scene.members.raise_if_lost([B])
    assert scene.client.restarted == []


def test_one_that_is_left_out_is_not_ended(scene: Scene) -> None:
    scene.members.refresh()
    scene.members.leave_out(B, "it cannot be reached")
    assert scene.told == [(B, "it cannot be reached")]
    assert set(scene.members.refresh()) == {A}
    with pytest.raises(DepartureError, match="it cannot be reached"):
        scene.members.raise_if_lost([B])
    assert scene.client.restarted == []
    scene.folders[B] = "c"  # a new process
    assert set(scene.members.refresh()) == {A, B}


def test_one_that_has_left_as_it_announced_has_departed(scene: Scene) -> None:
    scene.status[B] = "closing_gracefully"
    scene.members.refresh()
    del scene.said[B]
    del scene.said[A]
    scene.members.refresh()
    assert scene.members.announced([A, B]) == {B: False}
    with pytest.raises(DepartureError):
        scene.members.raise_if_lost([B])
    with pytest.raises(WorkerLostError) as lost:
        scene.members.raise_if_lost([A])
    assert not isinstance(lost.value, DepartureError)


def test_an_error_of_the_handler_is_raised_in_the_waiting_thread(scene: Scene) -> None:
    scene.members.poll_seconds = 0.01

    def refuse(address: str, reason: str) -> None:
        raise RuntimeError("the listener's own error")

    scene.members.lost = refuse
    with scene.members as members:
        del scene.said[B]
        with pytest.raises(RuntimeError, match="the listener's own error"):
            members.call(functools.partial(time.sleep, 5), [A])


def test_workers_ended_for_memory_are_reported_with_both_numbers(scene: Scene) -> None:
    scene.client.ended_for_memory = [(0.0, {"worker": B, "pid": 1, "rss": 1})]  # of a run before
    with scene.members as members:
        assert members.out_of_memory(2**30) is None
        scene.client.ended_for_memory += [(1.0, {"worker": B, "pid": pid, "rss": 1}) for pid in (2, 3)]
        del scene.said[B]
        members.refresh()
        assert members.out_of_memory(300 * 2**20) == (
            "workers were ended 2 times because their memory came near the limit of 200 MiB, and one is expected to take "
            "300 MiB: give the workers more (dask worker --memory-limit)"
        )
    assert scene.told == [(B, "its memory came near the limit of 200 MiB (cluster.memory); ended by its nanny")]


def test_who_is_missing_and_why(scene: Scene) -> None:
    assert scene.members.lost_worker() is None
    scene.client.cluster = LocalCluster.__new__(LocalCluster)  # not started
    scene.client.cluster.workers = {2: SimpleNamespace(exits={"tcp://127.0.0.1:1": 1, B: -9})}
    assert scene.members.expected_count() == 2
    del scene.said[B]
    assert scene.members.lost_worker() == ("2", "killed by signal 9")


def test_results_of_a_real_cluster(client: Any) -> None:
    with WorkerMembership(client) as members:
        addresses = list(members.refresh())
        futures = [client.submit(pow, 2, n, workers=[address], pure=False) for n, address in enumerate(addresses)]
        assert members.results(futures, addresses) == [1, 2]
        failing = client.submit(int, "x", pure=False)
        with pytest.raises(ValueError, match="invalid literal"):
            members.results([failing], addresses)
        cancelled = client.submit(int, "1", pure=False)
        client.cancel([cancelled], force=True)
        with pytest.raises(CollectiveError, match="another client cancelled this run's tasks"):
            members.results([cancelled], addresses)


def test_a_worker_without_a_nanny_is_sent_away() -> None:
    with (
        LocalCluster(n_workers=2, processes=False, protocol="tcp", dashboard_address=":0", host="127.0.0.1") as cluster,
        Client(cluster) as client,
        WorkerMembership(client) as members,
    ):
        gone, other = sorted(members.refresh())
        members.terminate(gone, "stuck")
        deadline = time.monotonic() + 20
        while gone in client.scheduler_info(n_workers=-1)["workers"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert list(members.refresh()) == [other]
        members.terminate(gone, "stuck")  # it is not there any more
        nannies.end(client, gone)
