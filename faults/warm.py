"""A process that has imported what the command needs: every run is a fork of it, and saves a second of imports.

    python -m faults.warm DESCRIPTOR

The harness holds a `Warm`; it asks for one run at a time over a socket, and passes the files of the run along.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MODULES = (
    "faults.runner", "pipeline.run.train", "pipeline.run.connect", "pipeline.run.finish", "pipeline.run.metadata",
    "pipeline.run.modules", "pipeline.training.xgboost.trainer", "pipeline.cluster.launchers.local", "pyarrow.parquet",
)  # fmt: skip
MESSAGE_NBYTES = 1 << 20
PR_SET_PDEATHSIG = 1  # of prctl


class Fork:
    """A run; has of `subprocess.Popen` what its caller needs."""

    def __init__(self, connection: socket.socket, arguments: Sequence[str]) -> None:
        self._connection, self._arguments = connection, arguments
        self.pid = int(connection.recv(64))
        self.returncode: int | None = None  # negative: the number of the signal that killed it

    def wait(self, seconds: float | None = None) -> int:
        """Returns its exit code; TimeoutExpired after `seconds`."""
        if self.returncode is None:
            self._connection.settimeout(seconds)
            try:
                self.returncode = int(self._connection.recv(64) or b"-9")  # nothing: the warm process was killed
            except TimeoutError:
                raise subprocess.TimeoutExpired(list(self._arguments), seconds or 0.0) from None
        return self.returncode

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(1e-3)
        return None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Warm:
    """The warm process; it starts at once, and ends with the harness at the latest."""

    def __init__(self) -> None:
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        environment = {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}  # its threads do not fork
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "faults.warm", str(theirs.fileno())],
            cwd=ROOT, env=environment, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
        )  # fmt: skip
        theirs.close()

    def start(
        self, plan: Mapping[str, Any], arguments: Sequence[str], folder: Path, environment: Mapping[str, str],
        files: Sequence[int],
    ) -> Fork:  # fmt: skip
        """Starts `python -m faults.runner PLAN ARGUMENTS` in `folder`; `files`: its stdout, stderr and events."""
        request = {"plan": plan, "arguments": arguments, "folder": str(folder), "environment": dict(environment)}
        self._connection.settimeout(None)
        socket.send_fds(self._connection, [json.dumps(request).encode()], list(files))
        return Fork(self._connection, arguments)

    def close(self) -> None:
        """Ends the process; its last run has ended."""
        self._connection.close()
        self._process.wait()


def serve(connection: socket.socket) -> None:
    """Forks for every request; returns in the forks, as the process that is asked for."""
    while True:
        message, files, _, _ = socket.recv_fds(connection, MESSAGE_NBYTES, 3)
        if not message:
            sys.exit()
        pid = os.fork()
        if not pid:
            connection.close()
            _become(json.loads(message), *files)
            return
        for file in files:
            os.close(file)
        connection.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        connection.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(request: Mapping[str, Any], out: int, err: int, events: int) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    for descriptor, file in ((1, out), (2, err)):
        os.dup2(file, descriptor)
        os.close(file)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None  # as TMPDIR says now
    sys.argv = ["faults.runner", json.dumps({**request["plan"], "events": events}), *request["arguments"]]


def main() -> None:
    from pipeline.cluster import lean

    connection = socket.socket(fileno=int(sys.argv[1]))
    # Of the threads there is only Arrow's allocator's, which is made for forks.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    lean.install()  # as the command does
    for name in MODULES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    serve(connection)
    from faults import runner

    runner.main()


if __name__ == "__main__":
    main()
