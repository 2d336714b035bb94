"""Ranks that wait in a collective for a result that is no longer needed."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.efficiency import sockets
from pipeline.training.xgboost import abandoned
from pipeline.training.xgboost.abandoned import IDLE_SECONDS, STUCK_SECONDS, Pulse, Watchdog, shut_native


class Rank:
    """A rank with a clock and CPU time of its own, and what was done to it."""

    def __init__(self) -> None:
        self.now = self.used = 0.0
        self.unwanted = False
        self.done: list[str] = []
        self.pulse = Pulse(clock=lambda: self.now)
        self.watchdog = Watchdog(
            lambda: self.unwanted, self.pulse, lambda: self.used, lambda: self.done.append("shut"),
            lambda: self.done.append("end"), clock=lambda: self.now,
        )  # fmt: skip

    def after(self, seconds: float, *, work: float = 0.0) -> list[str]:
        self.now += seconds
        self.used += work
        self.done.clear()
        self.watchdog.look()
        return list(self.done)


def test_a_rank_that_is_not_needed_and_waits_is_freed() -> None:
    rank = Rank()
    assert rank.after(1_000.0) == []  # a long round of a training that is wanted
    rank.unwanted = True
    assert rank.after(0.5) == []
    assert rank.after(IDLE_SECONDS) == []
    assert rank.after(0.1) == ["shut"]
    assert rank.after(STUCK_SECONDS - 0.5) == ["shut"]
    assert rank.after(1.0) == ["end"]
    assert IDLE_SECONDS + STUCK_SECONDS + 2 * abandoned.LOOK_SECONDS < 10.0


def test_a_rank_that_works_is_left_alone() -> None:
    """It gets to the end of its round, where all agree to stop."""
    rank = Rank()
    rank.unwanted = True
    assert [rank.after(1.0, work=0.9) for _ in range(20)] == [[]] * 20
    rank.unwanted = False
    assert rank.after(60.0) == []


def test_ranks_whose_peers_take_long_wait_for_them_in_order() -> None:
    rank = Rank()
    for _ in range(3):
        rank.now += 8.0
        rank.pulse.beat()
    rank.unwanted = True
    rank.after(0.5)
    assert rank.after(8.0) == []
    assert rank.after(IDLE_SECONDS + 0.1) == ["shut"]
    rank.pulse.longest_seconds = 3_600.0
    assert rank.after(abandoned.LONGEST_SECONDS - 10.0) == []
    assert rank.after(3.0) == ["shut"]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="sockets are listed on Linux alone")
def test_only_connections_from_outside_python_are_shut_down() -> None:
    def pair() -> tuple[socket.socket, socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            near = socket.create_connection(server.getsockname())
            return near, server.accept()[0]

    early_near, early_far = pair()
    before = sockets.connections()
    (native, far), (near, others) = pair(), pair()
    descriptor = native.detach()  # as a library has it
    everything: list[Any] = [early_near, early_far, far, near, others]
    try:
        for one in everything:
            one.settimeout(5.0)
        shut_native(before)
        assert far.recv(1) == b""
        for here, there in ((near, others), (early_near, early_far)):
            here.sendall(b"x")
            assert there.recv(1) == b"x"
    finally:
        os.close(descriptor)
        for one in everything:
            one.close()


def test_a_process_that_is_ended_leaves_no_files(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from pipeline.runtime.worker_session import WorkerSession\n"
        "from pipeline.storage.scratch import Scratch\n"
        "from pipeline.training.xgboost.abandoned import end_process\n"
        "session = WorkerSession()\n"
        f"folder = session.of('run', Scratch).open(Path({str(tmp_path)!r}))\n"
        "(folder / 'matrix').write_bytes(b'x')\n"
        "end_process(session)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    assert list(tmp_path.iterdir()) == []
