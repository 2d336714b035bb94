"""Who is in the cluster: told apart by what the scheduler says, on a clock of our own."""

from typing import Any

import pytest

from pipeline.cluster import members as room
from pipeline.cluster.members import Members
from pipeline.errors import SchedulerLostError, WorkerLostError

A, B = "tcp://127.0.0.1:1001", "tcp://127.0.0.1:1002"


class FakeClient:
    """A client whose scheduler says what it is told to."""

    cluster, status = None, "running"

    def __init__(self) -> None:
        self.restarted: list[str] = []

    def get_events(self, topic: str) -> tuple[Any, ...]:
        return ()

    def restart_workers(self, addresses: list[str], **_: Any) -> None:
        self.restarted += addresses


class Scene:
    """Members over a fake scheduler and a fake clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.said, self.told = 0.0, {A: 1.0, B: 1.0}, []
        self.client: Any = FakeClient()
        self.members = Members(self.client, hang_seconds=60.0, clock=lambda: self.now)
        self.members.lost = lambda address, reason: self.told.append((address, reason))
        monkeypatch.setattr(room, "scheduler_info", lambda client, timeout: self.info())

    def info(self) -> dict[str, Any]:
        workers = {
            address: {"name": address[-1], "last_seen": word, "memory_limit": 1} for address, word in self.said.items()
        }
        return {"workers": workers}


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    scene = Scene(monkeypatch)
    assert set(scene.members.look()) == {A, B}
    return scene


def test_one_that_left_is_told_once(scene: Scene) -> None:
    scene.members.check([A, B])
    del scene.said[B]
    assert set(scene.members.look()) == {A}
    assert set(scene.members.look()) == {A}
    assert scene.told == [(B, "its process ended or its connection broke")]
    scene.members.check([A])
    with pytest.raises(WorkerLostError, match=r"worker tcp://127.0.0.1:1002 was lost: its process ended") as caught:
        scene.members.check([A, B])
    assert caught.value.worker == B
    assert scene.members.names == {A: "1", B: "2"}  # of everyone ever seen


def test_silence_is_freezing_and_slowness_is_not(scene: Scene) -> None:
    scene.now = 59.0
    scene.said[A] = 60.0  # it has spoken since, however slow its task
    scene.members.look()
    scene.now = 61.0
    scene.members.look()
    assert scene.members.frozen() == [B]
    scene.members._end(B)
    assert scene.told == [(B, "silent for 60 s (cluster.hang_seconds), ended")]
    assert set(scene.members.look()) == {A}  # nobody counts on it any more, though it is still there
    assert scene.members.frozen() == []
    with pytest.raises(WorkerLostError, match="silent for 60 s"):
        scene.members.check([B])
    del scene.said[B]
    scene.members.look()
    assert len(scene.told) == 1


def test_words_need_not_rise(scene: Scene) -> None:
    """The scheduler's clock may be set back: what counts is that a word is another one."""
    scene.now, scene.said = 59.0, {A: -1e6, B: -1e6}
    scene.members.look()
    scene.now = 118.0
    scene.members.look()
    assert scene.members.frozen() == []


def test_a_scheduler_that_is_gone(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(client: Any, timeout: float) -> Any:
        raise OSError("connection refused")

    monkeypatch.setattr(room, "scheduler_info", refuse)
    with pytest.raises(SchedulerLostError, match="the scheduler was lost: connection refused"):
        scene.members.look()
    with pytest.raises(SchedulerLostError):
        scene.members.check([])


def test_a_closed_client(scene: Scene) -> None:
    scene.client.status = "closed"
    with pytest.raises(SchedulerLostError, match="the connection is closed"):
        scene.members.look()


def test_results_of_a_real_cluster(client: Any) -> None:
    with Members(client) as members:
        addresses = list(members.look())
        futures = [client.submit(pow, 2, n, workers=[address], pure=False) for n, address in enumerate(addresses)]
        assert members.results(futures, addresses) == [1, 2]
        failing = client.submit(int, "x", pure=False)
        with pytest.raises(ValueError, match="invalid literal"):
            members.results([failing], addresses)
