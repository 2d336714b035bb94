"""Bytes written to a connection, as the kernel counts them."""

import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pipeline.efficiency import sockets
from pipeline.efficiency.traffic import ring_nbytes

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="TCP_INFO is Linux's")

Pair = tuple[socket.socket, socket.socket]


def connected() -> Pair:
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    return one, other


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, other = connected()
    with one, other:
        yield one, other


def test_bytes_are_exact_at_any_moment(pair: Pair) -> None:
    """While they are in the send queue too: no reader takes them until the end."""
    traffic = sockets.Traffic(pair[0].dup())
    start = traffic.written()
    pair[0].setblocking(False)
    sent = 0
    for size in (1, 10, 100_000, 1_000_000, 5_000_000):
        try:
            sent += pair[0].send(b"x" * size)
        except BlockingIOError:  # both buffers are full
            break
        assert traffic.written() - start == sent
    assert sent > 100_000
    left = sent
    while left:
        left -= len(pair[1].recv(left))
        assert traffic.written() - start == sent
    traffic.close()


def test_the_probe_finds_the_connection_among_others(pair: Pair) -> None:
    before = sockets.connections()
    ring, other = connected(), connected()
    size = ring_nbytes(sockets.PROBE, 2, 0)
    reader = threading.Thread(target=lambda: [len(ring[1].recv(size)) for _ in range(1)])

    def allreduce(values: np.ndarray) -> Any:
        reader.start()
        other[0].sendall(b"chatter of another library")
        pair[0].sendall(bytes(size))  # as much, on a connection that was there before
        ring[0].sendall(bytes(size))

    traffic = sockets.find(before, allreduce, workers=2, rank=0)
    reader.join()
    start = traffic.written()
    ring[0].sendall(b"twelve bytes")
    assert (traffic.missing, traffic.written() - start) == ("", 12)
    for stream in (*ring, *other):
        stream.close()
    traffic.close()


def test_no_connection_fits() -> None:
    traffic = sockets.find(sockets.connections(), lambda values: None, workers=2, rank=0)
    assert traffic.connection is None
    assert "0 connections" in traffic.missing
    assert traffic.written() == 0
    traffic.close()


def test_another_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe takes place all the same: the peers take part in it."""
    probes: list[int] = []
    monkeypatch.setattr(sockets.sys, "platform", "darwin")
    traffic = sockets.find(frozenset(), lambda values: probes.append(values.size), workers=2, rank=0)
    assert probes == [sockets.PROBE.elements]
    assert traffic.missing == "bytes sent by XGBoost (darwin has no TCP_INFO)"
