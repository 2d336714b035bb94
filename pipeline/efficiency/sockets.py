"""Counts the bytes that XGBoost has sent, with the kernel's counters of its connections in this process (Linux)."""

import fcntl
import os
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from pipeline.efficiency.traffic import Call, ring_nbytes

ACKED = struct.Struct("120xQ")  # tcpi_bytes_acked in struct tcp_info (linux/tcp.h, since 4.1)
SIOCOUTQ = 0x5411  # bytes in the send queue: not sent, or not acknowledged yet (tcp(7))
PROBE = Call(8_192)  # 64 KiB that must appear on one connection, and on no other

Allreduce = Callable[[np.ndarray], object]


@dataclass(frozen=True)
class Traffic:
    """Counter of the connection to the next rank of the ring, which carries all that this rank sends in an allreduce."""

    connection: socket.socket | None = field(default=None, repr=False)
    missing: str = ""  # why there is no counter

    def written(self) -> int:
        """Bytes handed to the kernel so far, exact at any moment: acknowledged, and still in the send queue.

        `tcpi_bytes_sent` would include retransmissions, `tcpi_bytes_acked` alone lags behind.
        """
        if self.connection is None:
            return 0
        return _written(self.connection)

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()


def connections() -> frozenset[str]:
    """The sockets of this process, by the system's names."""
    return frozenset(descriptors())


def find(before: frozenset[str], allreduce: Allreduce, workers: int, rank: int) -> Traffic:
    """XGBoost's connection among the sockets opened since `before`; every rank has to call this.

    Other threads (Dask's) may have opened sockets meanwhile: a probe's bytes identify the connection.
    """
    linux = sys.platform.startswith("linux")
    candidates = {name: _stream(fd) for name, fd in descriptors().items() if name not in before} if linux else {}
    found = {name: stream for name, stream in candidates.items() if stream is not None}
    try:
        start = {name: _written(stream) for name, stream in found.items()}
    except (OSError, struct.error) as error:  # an old kernel, or a sandbox without access
        for stream in found.values():
            stream.close()
        allreduce(np.zeros(PROBE.elements))
        return Traffic(missing=f"bytes sent by XGBoost (TCP_INFO: {error})")
    allreduce(np.zeros(PROBE.elements))
    expected = ring_nbytes(PROBE, workers, rank)
    matching = [name for name, stream in found.items() if _written(stream) - start[name] == expected]
    chosen = matching[0] if len(matching) == 1 else None
    for name, stream in found.items():
        if name != chosen:
            stream.close()
    if chosen is None:
        where = f"{len(matching)} connections fit a probe" if linux else f"{sys.platform} has no TCP_INFO"
        return Traffic(missing=f"bytes sent by XGBoost ({where})")
    return Traffic(found[chosen])


def descriptors() -> dict[str, int]:
    """Name ("socket:[inode]") and descriptor of every socket."""
    names: dict[str, int] = {}
    if not os.path.isdir("/proc/self/fd"):
        return names
    for fd in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:  # closed meanwhile
            continue
        if name.startswith("socket:"):
            names[name] = int(fd)
    return names


def _stream(fd: int) -> socket.socket | None:
    """A second descriptor of a TCP connection; None for any other socket."""
    try:
        stream = socket.socket(fileno=os.dup(fd))
    except OSError:
        return None
    try:
        if stream.type == socket.SOCK_STREAM and stream.family in (socket.AF_INET, socket.AF_INET6):
            stream.getpeername()  # fails for listening sockets
            return stream
    except OSError:
        pass
    stream.close()
    return None


def _written(stream: socket.socket) -> int:
    while True:  # until no acknowledgement arrived between the two reads
        before = _acked(stream)
        queued: int = struct.unpack("i", fcntl.ioctl(stream, SIOCOUTQ, b"\0\0\0\0"))[0]
        if _acked(stream) == before:
            return before + queued


def _acked(stream: socket.socket) -> int:
    acked: int = ACKED.unpack(stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, ACKED.size))[0]
    return acked
