"""The port that XGBoost opens in each worker is closed, however a training ends."""

import contextlib
import dataclasses
import os
import socket
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
import pytest
from distributed import Client

from pipeline.cluster.scheduler_info import scheduler_info
from pipeline.errors import TrainingError
from pipeline.training.xgboost import ports
from pipeline.training.xgboost.dispatch import run_training
from tests.training.xgboost.test_dispatch import build_in_order, seconds_until_idle


def open_to_all(pids: Any) -> list[tuple[int, str]]:
    """(process, address) of the sockets that listen on more than loopback."""
    return [
        (pid, connection.laddr.ip)
        for pid in pids
        for connection in psutil.Process(pid).net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.ip != "127.0.0.1"
    ]


def spoil() -> None:
    """Has the rounds of this process fail."""
    from pipeline.training.xgboost import rounds

    def fail(*_: Any) -> bool:
        raise ValueError("spoilt")

    rounds.kept, rounds._Rounds._measure = rounds._Rounds._measure, fail  # type: ignore[attr-defined]


def mend() -> None:
    from pipeline.training.xgboost import rounds

    rounds._Rounds._measure = rounds.kept  # type: ignore[attr-defined]
    del rounds.kept  # type: ignore[attr-defined]


spoil.__module__ = mend.__module__ = "__main__"  # workers do not have the tests: these travel by value


@pytest.mark.parametrize("fails", ["nowhere", "bootstrap", "rounds"])
def test_no_port_is_left_open(make_cluster: Callable[[int, int], Client], make_case: Any, fails: str) -> None:
    client = make_cluster(3, 1)
    workers = sorted(scheduler_info(client)["workers"])
    case = make_case()
    if fails == "bootstrap":  # one rank has no partition to come with, and the others wait for it
        labels = case.label.copy()
        labels[-3] = np.nan
        case = dataclasses.replace(case, label=labels)
    partitions = build_in_order(client, case, workers)
    with contextlib.ExitStack() as stack:
        if fails == "rounds":
            client.run(spoil, workers=workers[2:])
            stack.callback(client.run, mend, workers=workers[2:])
        if fails != "nowhere":
            stack.enter_context(pytest.raises(TrainingError, match=r"Label|spoilt"))
        run_training(client, partitions, workers, case.spec())
    assert seconds_until_idle(client, workers) < 5
    pids = client.run(os.getpid).values()
    assert open_to_all(pids) == []


def test_only_what_was_opened_inside_and_to_all_is_closed() -> None:
    def listening(host: str) -> socket.socket:
        opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        opened.bind((host, 0))
        opened.listen()
        return opened

    def listens(opened: socket.socket) -> bool:
        return bool(opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))

    with listening("0.0.0.0") as before, contextlib.ExitStack() as stack:
        with ports.close_listening_sockets():
            inside, loopback, six = (stack.enter_context(listening(host)) for host in ("0.0.0.0", "127.0.0.1", "::"))
            assert all(map(listens, (before, inside, loopback, six)))
        after = stack.enter_context(listening("0.0.0.0"))
        assert [listens(one) for one in (before, inside, loopback, six, after)] == [True, False, True, False, True]


def test_after_a_failure_too() -> None:
    opened: list[socket.socket] = []

    def fail() -> None:
        with ports.close_listening_sockets():
            opened.append(socket.create_server(("0.0.0.0", 0)))
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    with opened[0]:
        assert not opened[0].getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
