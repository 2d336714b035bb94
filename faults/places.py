"""Sets up the kinds of cluster: one that the command starts itself, and a running scheduler with its own workers."""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from distributed import Client

from faults import leftovers
from faults.proxy import Proxy, free_port
from faults.runs import ROOT, Wrong
from faults.script import ClusterSetup
from faults.traps import STALLED

Kind = Literal["local", "processes"]
KINDS: tuple[Kind, ...] = ("local", "processes")
ENDS_WITH_US = ("setpriv", "--pdeathsig", "KILL")
WORKERS = 2  # as in the undisturbed runs
MEMORY = "800MiB"  # memory limit of each
STARTED_SECONDS = 60.0
WORKERLESS_SECONDS = 20.0  # after which a nanny that is alive is restarted
LOG_LINES = 20  # of the log of a worker that did not start
# There is a web server even with --no-dashboard.
NO_DASHBOARD = ("--dashboard-address", "127.0.0.1:0", "--no-dashboard")
LOOPBACK = ("--host", "127.0.0.1")
IDLE_SECONDS = 10.0  # for workers to become idle after their client has gone
DEATH_SECONDS = 3.0  # for which a worker looks for its lost scheduler


class Place(Protocol):
    """Where runs take place."""

    kind: Kind
    traps: Path  # the folder of the traps
    names: tuple[str, ...]  # of the workers, "0" and so on

    def settings(self) -> list[str]:
        """Returns settings of the job."""

    def pid(self, target: str) -> int:
        """Returns the process id of "scheduler" or "nanny 0"."""

    def heal(self, workers: int = WORKERS) -> None:
        """Repairs the cluster and gives it `workers` workers, so that a run may begin."""

    def arranged(self, setup: ClusterSetup) -> contextlib.AbstractContextManager[None]:
        """Changes the cluster for the run inside."""

    def at_rest(self, *, files: bool = True) -> list[str]:
        """Returns what the workers still run or hold although no run is active; with `files`, also their files."""

    def kept(self) -> list[str]:
        """Returns what ended runs have left on the workers outside of Dask's tasks, for the next run to drop."""

    def missing(self) -> str:
        """Returns the logs of workers that should be there and are not."""


class Local:
    """A LocalCluster in every run's own process: its scheduler and nannies start and end with the client."""

    kind: Kind = "local"

    def __init__(self, folder: Path) -> None:
        self.traps = folder / "traps"
        self.traps.mkdir()
        self.names: tuple[str, ...] = ()

    def settings(self) -> list[str]:
        return [f"cluster.workers={len(self.names)}", "cluster.threads=1", f"cluster.memory={MEMORY}"]

    def pid(self, target: str) -> int:
        raise KeyError(f"{target}: in a LocalCluster that is the client")

    def heal(self, workers: int = WORKERS) -> None:
        self.names = worker_names(workers)

    @contextlib.contextmanager
    def arranged(self, setup: ClusterSetup) -> Iterator[None]:
        with hogs(setup.hogs):
            yield

    def at_rest(self, *, files: bool = True) -> list[str]:
        return []

    def kept(self) -> list[str]:
        return []

    def missing(self) -> str:
        return ""


class Processes:
    """`dask scheduler` and `dask worker`, each a process in its own session, on loopback."""

    kind: Kind = "processes"

    def __init__(self, folder: Path) -> None:
        self.traps = folder / "traps"
        self.traps.mkdir()
        self.mark = f"place-{uuid.uuid4().hex}"
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}  # "scheduler", "nanny 0"
        self.address = ""
        self.names: tuple[str, ...] = ()

    def settings(self) -> list[str]:
        return [f"cluster.workers={len(self.names)}", f"cluster.scheduler={self.address}"]

    def pid(self, target: str) -> int:
        return self._running[target].pid

    def heal(self, workers: int = WORKERS) -> None:
        if not self._alive("scheduler"):
            self.close()  # workers of another scheduler cannot be used
            self._start_scheduler()
        self.names = worker_names(workers)
        for process in [name for name in self._running if name.startswith("nanny") and name[6:] not in self.names]:
            self._end(process)
        with self._client() as client:
            self._complete(client)
            client.run(warm)

    def _complete(self, client: Client) -> None:
        """Starts missing workers and waits for all: a nanny whose worker was retired takes a while to leave.

        A nanny whose worker was killed as it started never starts another (Dask 2026.7.1): it has to be restarted.
        """
        since: dict[str, float] = {}  # nannies that have been alive without a worker, since when

        def start() -> None:
            there = present(client)
            for name in self.names:
                process = f"nanny {name}"
                if name in there:
                    since.pop(process, None)
                    continue
                if time.monotonic() - since.setdefault(process, time.monotonic()) > WORKERLESS_SECONDS:
                    self._end(process)
                if not self._alive(process):
                    since.pop(process, None)
                    self._start_worker(name)

        self._await_workers(client, start)

    def _await_workers(self, client: Client, meanwhile: Callable[[], object] = lambda: None) -> None:
        deadline = time.monotonic() + STARTED_SECONDS
        while time.monotonic() < deadline:
            meanwhile()
            if present(client) == sorted(self.names):
                return
            time.sleep(0.1)
        found = present(client)
        logs = self._logs_of_missing(found)
        raise Wrong(f"workers {found} and not {self.names} are there after {STARTED_SECONDS:.0f} s\n{logs}")

    def missing(self) -> str:
        if not self._alive("scheduler"):
            return ""
        with self._client() as client:
            return self._logs_of_missing(present(client))

    def _logs_of_missing(self, found: Sequence[str]) -> str:
        return "\n".join(self._last_lines(f"nanny {name}") for name in self.names if name not in found)

    def _last_lines(self, process: str) -> str:
        """Returns the end of the process's log."""
        lines = (self._folder / f"{process}.log").read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join((f"{process}, {'alive' if self._alive(process) else 'ended'}:", *lines[-LOG_LINES:]))

    @contextlib.contextmanager
    def arranged(self, setup: ClusterSetup) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            stack.enter_context(hogs(setup.hogs))
            if setup.special:
                self._dismiss(setup.special)
                to, *options = self._proxied(stack) if setup.proxied else (self.address,)
                self._start_worker(setup.special, to, *options, *setup.options)
                stack.callback(self._dismiss, setup.special)  # `heal` starts a usual one
                with self._client() as client:
                    self._await_workers(client)
                    if not self._alive(f"nanny {setup.special}"):
                        raise Wrong(f"worker {setup.special} did not start: {setup}")
                    client.run(warm)
            if setup.absent_seconds:
                for name in self.names:
                    self._dismiss(name)
                for name in self.names:
                    self._start_worker(name, delay=setup.absent_seconds)
            yield

    def _proxied(self, stack: contextlib.ExitStack) -> tuple[str, ...]:
        """Gives the scheduler's address and the options for a worker all of whose connections pass through proxies."""
        port, stalled = free_port(), self.traps / STALLED
        stalled.unlink(missing_ok=True)
        there, back = Proxy(int(self.address.rpartition(":")[2]), stalled), Proxy(port, stalled)
        for proxy in (there, back):
            stack.enter_context(contextlib.closing(proxy))
        contact = ("--listen-address", f"tcp://127.0.0.1:{port}", "--contact-address", f"tcp://127.0.0.1:{back.port}")
        return (f"tcp://127.0.0.1:{there.port}", *contact)

    def at_rest(self, *, files: bool = True) -> list[str]:
        """Waits, for some seconds at most, until the workers are idle and the scheduler has no task."""
        if not self._alive("scheduler"):
            return []
        deadline = time.monotonic() + IDLE_SECONDS
        with self._client() as client:
            while (found := _doings(client) + self._files() * files) and time.monotonic() < deadline:
                time.sleep(0.1)  # also for a worker that the scheduler no longer knows, and which removes its files
        return found

    def _files(self) -> list[str]:
        folders = self._folder.glob("worker *")
        return [f"file {name}" for folder in folders for name in leftovers.files(folder)]

    def kept(self) -> list[str]:
        with self._client() as client:
            return [f"{worker} keeps {what}" for worker, found in client.run(kept_on).items() for what in found]

    def _local(self, worker: str) -> Path:
        """Returns the folder of a worker's files."""
        return self._folder / f"worker {worker}"

    def end_scheduler(self) -> None:
        """Kills the scheduler, as its operator would if it hangs; does nothing if it is dead already."""
        self._running["scheduler"].kill()

    def gone(self, seconds: float) -> list[str]:
        """Returns the worker processes that still exist after `seconds`; for use after the scheduler was killed."""
        return leftovers.processes(self.mark, seconds)

    def close(self) -> None:
        for name in list(self._running):
            self._end(name)
        leftovers.end(self.mark)
        if left := leftovers.processes(self.mark):
            raise Wrong(f"processes of the cluster cannot be ended: {left}")

    def _dismiss(self, worker: str) -> None:
        """Kills a worker with its nanny, and waits until the scheduler has noticed."""
        self._end(f"nanny {worker}")
        deadline = time.monotonic() + STARTED_SECONDS
        with self._client() as client:
            while worker in present(client) and time.monotonic() < deadline:
                time.sleep(0.05)

    def _end(self, name: str) -> None:
        """Kills a process of the cluster with its children."""
        if (process := self._running.pop(name, None)) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _alive(self, name: str) -> bool:
        return name in self._running and self._running[name].poll() is None

    def _client(self) -> Client:
        return Client(self.address, timeout=STARTED_SECONDS, set_as_default=False, name="harness")

    def _start_scheduler(self) -> None:
        found = self._folder / "scheduler.json"
        found.unlink(missing_ok=True)
        self._start("scheduler", "scheduler", "--port", "0", "--scheduler-file", str(found))
        deadline = time.monotonic() + STARTED_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
                self.address = json.loads(found.read_text(encoding="utf-8"))["address"]
                return
            time.sleep(0.05)
        raise Wrong(f"the Dask scheduler did not start within {STARTED_SECONDS:.0f} s")

    def _start_worker(self, name: str, scheduler: str = "", *options: str, delay: float = 0.0) -> None:
        """Starts a worker; `scheduler`: its address, if it is not the direct one."""
        self._start(
            f"nanny {name}", "worker", scheduler or self.address, "--nthreads", "1", "--name", name,
            "--memory-limit", MEMORY, "--local-directory", str(self._local(name)),
            "--death-timeout", f"{DEATH_SECONDS:g}s", *options, delay=delay,
        )  # fmt: skip

    def _start(self, name: str, verb: str, *options: str, delay: float = 0.0) -> None:
        command = [sys.executable, "-m", f"distributed.cli.dask_{verb}", *options, *NO_DASHBOARD]
        command += LOOPBACK if "--listen-address" not in options else ()
        environment = {**os.environ, leftovers.MARK: self.mark, "PYTHONPATH": str(ROOT)}
        with open(self._folder / f"{name}.log", "ab") as log:
            # Ends with the thread that starts it, even if that is killed: so no other thread may do the delay.
            self._running[name] = subprocess.Popen(
                [*ENDS_WITH_US, "sh", "-c", 'sleep "$0"; exec "$@"', f"{delay:g}", *command],
                cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip


def worker_names(workers: int) -> tuple[str, ...]:
    return tuple(map(str, range(workers)))


def present(client: Client) -> list[str]:
    """Returns the names of the workers that the scheduler knows."""
    return sorted(str(worker["name"]) for worker in client.scheduler_info(n_workers=-1)["workers"].values())


@contextlib.contextmanager
def hogs(wanted: bool) -> Iterator[None]:
    """Runs as many processes as there are cores, each keeping one core busy."""
    count = (os.cpu_count() or 1) if wanted else 0
    busy = [subprocess.Popen([*ENDS_WITH_US, sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def warm() -> None:
    """Imports what a training needs, so that workers do not import it during a run that is measured."""
    for name in ("pipeline.training.xgboost.trainer", "pipeline.preprocess.fit", "pipeline.data.reading", "xgboost"):
        importlib.import_module(name)


def _doings(client: Client) -> list[str]:
    """Returns what workers run and hold, and what the scheduler knows.

    Tasks in state "error" hold nothing: such a task stays on a worker that was to receive a matrix, which cannot be
    sent, from a retired worker, and Dask's scheduler forgets that it requested that.
    """

    def of_worker(dask_worker: Any) -> list[str]:
        held = [f"{task.key} ({task.state})" for task in dask_worker.state.tasks.values() if task.state != "error"]
        return [*map(str, dask_worker.active_threads.values()), *held]

    def of_scheduler(dask_scheduler: Any) -> list[str]:
        return list(map(str, dask_scheduler.tasks))

    known = [f"the scheduler knows {key}" for key in client.run_on_scheduler(of_scheduler)]
    on_workers = client.run(of_worker, on_error="return")  # an error of a worker that ends meanwhile
    return known + [
        f"{worker} has {key}"
        for worker, keys in on_workers.items()
        for key in (keys if isinstance(keys, list) else [f"an error: {keys}"])
    ]


def kept_on(dask_worker: Any) -> list[str]:
    """Returns what runs keep in the worker's session, and other plugins of ours."""
    from pipeline.runtime.worker_session import NAME, contents_on

    plugins = [f"the plugin {name}" for name in dask_worker.plugins if name.startswith("pipeline") and name != NAME]
    return plugins + [f"{what} of run {run}" for run, what, _ in contents_on(dask_worker)]


@contextlib.contextmanager
def place(kind: Kind, folder: Path) -> Iterator[Local | Processes]:
    """Sets up a cluster of this kind, with its files below `folder`; leaves no process behind."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "local":
        yield Local(folder)
        return
    made = Processes(folder)
    try:
        made.heal()
        yield made
    finally:
        made.close()
