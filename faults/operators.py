"""Does what other users do to a cluster during a run: each act in a thread with its own client, unknown to the run."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from distributed import Client

from faults.script import Act
from faults.traps import pid_of

BACK_SECONDS = 20.0  # for a killed worker's nanny to start another
POLL_SECONDS = 0.1
Step = Callable[[int], None]  # called as a step of an act begins, counted from 1


def start(act: Act, traps: Path, scheduler: str, step: Step) -> None:
    """Starts the act; it ends with this process at the latest.  `scheduler`: the address of the run's."""
    does = {"retire": _retire, "restart": _restart, "block": _block, "flap": _flap}[act.do]

    def work() -> None:
        with contextlib.suppress(OSError, TimeoutError):  # the run and its scheduler have ended
            does(act, traps, scheduler, step)

    threading.Thread(target=work, name=act.do, daemon=True).start()


def _client(scheduler: str) -> Client:
    return Client(scheduler, set_as_default=False, name="operator")


def _retire(act: Act, traps: Path, scheduler: str, step: Step) -> None:
    with _client(scheduler) as client:
        step(1)
        client.retire_workers(names=[act.target])


def _restart(act: Act, traps: Path, scheduler: str, step: Step) -> None:
    with _client(scheduler) as client:
        step(1)
        client.restart(wait_for_workers=False)


def _block(act: Act, traps: Path, scheduler: str, step: Step) -> None:
    """Blocks the scheduler's event loop for a while, as a user's function on it may."""
    with _client(scheduler) as client:
        step(1)
        client.run_on_scheduler(time.sleep, act.seconds)


def _flap(act: Act, traps: Path, scheduler: str, step: Step) -> None:
    """Kills the worker, and again each time its nanny has restarted it."""
    before = 0
    for number in range(1, act.times + 1):
        deadline = time.monotonic() + BACK_SECONDS
        while (pid := pid_of(traps, act.target)) == before:
            if time.monotonic() > deadline:
                return
            time.sleep(POLL_SECONDS)
        step(number)
        os.kill(pid, signal.SIGKILL)
        before = pid
