"""Makes hosts on one machine: network namespaces on a bridge by veth pairs, links shaped by tbf (Linux, root)."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from distributed import Client

from pipeline.errors import UserError

PREFIX = "pln"  # of every namespace and link made here: pln<pid>h1, pln<pid>v1, pln<pid>b
OURS = re.compile(rf"\b{PREFIX}(\d+)[hvb]\d*\b")
NETWORK = "10.77"  # every run takes a free third number: its bridge is .1, its hosts follow
STARTED_SECONDS = 60.0
BUCKET_SECONDS = 5e-4  # of the link that its token bucket holds: bytes up to a full bucket are not delayed
SMALLEST_BUCKET_NBYTES = 4_000  # more than one packet

LISTEN = """
import socket, sys
with socket.create_server((sys.argv[1], 0)) as server:
    print(server.getsockname()[1], flush=True)
    peer = server.accept()[0]
    while peer.recv(1 << 16):
        pass
    peer.sendall(b"1")
"""
SEND = """
import socket, sys, time
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as peer:
    start = time.perf_counter()
    peer.sendall(bytes(int(sys.argv[3])))
    peer.shutdown(socket.SHUT_WR)
    peer.recv(1)
    print(time.perf_counter() - start)
"""


class NotHere(UserError):
    """This machine cannot make network namespaces."""


@dataclass(frozen=True)
class Host:
    """One network namespace."""

    name: str
    address: str
    link: str  # its end of the veth pair on the bridge
    bridge: str  # the bridge's address, where the root namespace is reached

    def command(self, *words: str) -> list[str]:
        """Returns a command that runs these words inside the namespace."""
        return ["ip", "netns", "exec", self.name, *words]

    def passed_nbytes(self) -> int:
        """Returns the bytes that have left the host over its link so far, headers included."""
        return int(Path(f"/sys/class/net/{self.link}/statistics/rx_bytes").read_text(encoding="ascii"))


def check() -> None:
    """Raises NotHere, with the reason, if hosts cannot be made."""
    if not sys.platform.startswith("linux"):
        raise NotHere(f"network namespaces need Linux; this is {sys.platform}")
    if os.geteuid() != 0:
        raise NotHere("network namespaces need root; run it as root, e.g. with sudo")
    for tool, package in (("ip", "iproute2"), ("tc", "iproute2"), ("taskset", "util-linux"), ("setpriv", "util-linux")):
        if shutil.which(tool) is None:
            raise NotHere(f"the command {tool} is missing; install {package}")


@contextlib.contextmanager
def hosts(count: int, megabits: float) -> Iterator[tuple[Host, ...]]:
    """Makes `count` hosts on a bridge, each link shaped to `megabits` Mbit/s in both directions.

    Everything is removed at the end, also after SIGTERM; what a killed run left is removed at the next start.
    """
    check()
    sweep()
    made = f"{PREFIX}{os.getpid()}"
    with _terminated_politely():
        try:
            yield _make(made, count, megabits)
        finally:
            with _undisturbed():
                _remove(made)


def sweep() -> None:
    """Removes what runs that have ended left behind."""
    names = _run("ip", "netns", "list") + _run("ip", "-o", "link", "show")
    for pid in {int(found) for found in OURS.findall(names)}:
        if pid != os.getpid() and not Path(f"/proc/{pid}").exists():
            _remove(f"{PREFIX}{pid}")


def _make(made: str, count: int, megabits: float) -> tuple[Host, ...]:
    bridge = f"{made}b"
    try:
        _run("ip", "link", "add", bridge, "type", "bridge")
        network = _free_network()
        _run("ip", "addr", "add", f"{network}.1/24", "dev", bridge)
        _run("ip", "link", "set", bridge, "up")
        return tuple(_host(made, network, number, megabits) for number in range(1, count + 1))
    except subprocess.CalledProcessError as error:
        raise NotHere(f"{' '.join(error.cmd)}: {error.stderr.strip()}") from None


def _free_network() -> str:
    """Returns three numbers of a free address: two parallel runs must not share theirs."""
    taken = _run("ip", "-o", "-4", "addr", "show") + _run("ip", "-4", "route", "show")
    for step in range(256):
        network = f"{NETWORK}.{(os.getpid() + step) % 256}"
        if f" {network}." not in taken:
            return network
    raise NotHere(f"all networks {NETWORK}.0 to {NETWORK}.255 are taken")


def _host(made: str, network: str, number: int, megabits: float) -> Host:
    host = Host(f"{made}h{number}", f"{network}.{number + 1}", f"{made}v{number}", f"{network}.1")
    inside = ("ip", "-n", host.name)
    _run("ip", "netns", "add", host.name)
    _run("ip", "link", "add", host.link, "type", "veth", "peer", "name", "eth0", "netns", host.name)
    _run("ip", "link", "set", host.link, "master", f"{made}b", "up")
    _run(*inside, "addr", "add", f"{host.address}/24", "dev", "eth0")
    _run(*inside, "link", "set", "eth0", "up")
    _run(*inside, "link", "set", "lo", "up")
    burst = max(SMALLEST_BUCKET_NBYTES, round(megabits * 1e6 / 8 * BUCKET_SECONDS))
    shape = ("root", "tbf", "rate", f"{megabits}mbit", "burst", str(burst), "latency", "400ms")
    _run("tc", "qdisc", "add", "dev", host.link, *shape)
    _run("tc", "-n", host.name, "qdisc", "add", "dev", "eth0", *shape)
    return host


def _remove(made: str) -> None:
    """Removes processes, namespaces (and with them their links), and the bridge."""
    for name in re.findall(rf"\b{made}h\d+\b", _run("ip", "netns", "list")):
        for pid in _run("ip", "netns", "pids", name).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        _run("ip", "netns", "del", name)
    for link in re.findall(rf"\b{made}[bv]\d*\b(?=[:@])", _run("ip", "-o", "link", "show")):
        with contextlib.suppress(subprocess.CalledProcessError):  # a link is removed with its namespace, a little later
            _run("ip", "link", "del", link)


def _run(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


@contextlib.contextmanager
def _terminated_politely() -> Iterator[None]:
    """Makes SIGTERM end the program as Ctrl-C does, so that everything is removed."""

    def leave(_number: int, _frame: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Delays signals that ask to stop until everything is removed."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def raw_megabits(sender: Host, receiver: Host, nbytes: int) -> float:
    """Measures the Mbit/s of payload that one plain connection gets from one host to another."""
    listen = receiver.command(sys.executable, "-c", LISTEN, receiver.address)
    with subprocess.Popen(listen, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline().strip()
            sent = _run(*sender.command(sys.executable, "-c", SEND, receiver.address, port, str(nbytes)))
        finally:
            server.kill()
    return nbytes * 8e-6 / float(sent)


@contextlib.contextmanager
def cluster(where: tuple[Host, ...], folder: Path) -> Iterator[str]:
    """Starts a Dask scheduler on the bridge and a worker with one pinned thread on each host; gives the address.

    All of them end with this process, even if it is killed.
    """
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    found = folder / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    cores = sorted(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack:

        def start(command: list[str]) -> None:
            command = ["setpriv", "--pdeathsig", "KILL", *command]
            process = subprocess.Popen(command, **quiet)  # type: ignore[call-overload]  # options given by name
            stack.callback(_end, process)

        bridge = where[0].bridge
        start([*dask, "--host", bridge, "--port", "0", "--no-dashboard", "--scheduler-file", str(found)])
        address = f"tcp://{bridge}:{_port(found)}"
        for number, host in enumerate(where):
            worker = [
                "taskset", "-c", str(cores[number % len(cores)]),
                sys.executable, "-m", "distributed.cli.dask_worker", address,
                "--host", host.address, "--nthreads", "1", "--name", str(number), "--no-dashboard",
                "--local-directory", str(folder / host.name), "--memory-limit", "0",
            ]  # fmt: skip
            start(host.command(*worker))
        with Client(address) as client:
            client.wait_for_workers(len(where), timeout=STARTED_SECONDS)
        yield address


def _port(found: Path) -> int:
    """Returns the scheduler's port, once it has written its file."""
    deadline = time.monotonic() + STARTED_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, AttributeError):
            if match := re.search(r'"address": "tcp://[^"]*:(\d+)"', found.read_text(encoding="utf-8")):
                return int(match[1])
        time.sleep(0.1)
    raise NotHere(f"the Dask scheduler did not start within {STARTED_SECONDS:.0f} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and all that it has started."""
    for kind, seconds in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, kind)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            return
