"""A TCP proxy between two processes of a cluster, which can stall for a while."""

import contextlib
import socket
import threading
import time
from pathlib import Path

POLL_SECONDS = 0.05
PIECE_NBYTES = 1 << 16


def stall(file: Path, seconds: float) -> None:
    """Stalls all proxies that read this file for `seconds`: connections stay open, but no byte is passed on."""
    partial = file.with_suffix(".partial")
    partial.write_text(str(time.monotonic() + seconds), encoding="utf-8")
    partial.replace(file)


class Proxy:
    """Passes the data that arrives at its port on to another port, on loopback; ends with its context."""

    def __init__(self, target: int, stalled: Path, port: int = 0) -> None:
        """`target`: a port.  `stalled`: the file that `stall` writes.  `port`: its own; 0: any free one."""
        self._target, self._stalled = target, stalled
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port: int = self._socket.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def close(self) -> None:
        for one in (self._socket, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near, _ = self._socket.accept()
                self._open.append(near)
                threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        self._wait()
        try:
            far = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            near.close()
            return
        self._open.append(far)
        threading.Thread(target=self._pass, args=(near, far), daemon=True).start()
        self._pass(far, near)

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(PIECE_NBYTES):
                self._wait()
                sink.sendall(piece)
        self._wait()
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _wait(self) -> None:
        while self._until() > time.monotonic():
            time.sleep(POLL_SECONDS)

    def _until(self) -> float:
        try:
            return float(self._stalled.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return 0.0


def free_port() -> int:
    """Returns a port that no process listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port
