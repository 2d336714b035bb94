"""Injects faults inside a worker: at a stage or a round it kills, freezes or fills itself, or sets its clock.

Traps are files in a folder that all workers see; a worker takes a trap by renaming it, so that each goes off once, also
in a worker that was restarted meanwhile.  A worker that sends itself SIGKILL dies like one that is killed from outside,
but at the same place in every run.
"""

import contextlib
import dataclasses
import functools
import json
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distributed import Worker, WorkerPlugin

from faults.script import ANY, Trap

ARMED, SPRUNG = ".trap", ".sprung"
STALLED = "network.stalled"  # until when proxies pass no data on
HOG_NBYTES = 32 * 2**20  # allocated at a time
HOG_SECONDS = 30.0  # for the nanny to notice
AWAITED_SECONDS = 10.0  # for a file that a trap is to come after
TASKS = {  # prefixes of the names of a stage's tasks
    "survey_unit": "survey",
    "collect_unit": "statistics",
    "make_block": "blocks",
    "_build": "matrix",
    "_evaluate": "evaluate",
}
ROUNDS = "rounds-"  # prefix of the tasks of the rounds


def arm(folder: Path, *traps: Trap) -> None:
    for number, trap in enumerate(traps):
        partial = folder / uuid.uuid4().hex
        partial.write_text(json.dumps(dataclasses.asdict(trap)), encoding="utf-8")
        partial.rename(folder / f"{number:03d}-{uuid.uuid4().hex[:8]}{ARMED}")


def disarm(folder: Path) -> tuple[int, int]:
    """Removes all traps; returns how many had gone off, and how many had not."""
    counts = []
    for ending in (SPRUNG, ARMED):
        found = list(folder.glob(f"*{ending}"))
        for path in found:
            path.unlink(missing_ok=True)
        counts.append(len(found))
    return counts[0], counts[1]


def pid_of(folder: Path, worker: str) -> int:
    """Returns the process id of the worker with this name, written when it last started."""
    return int((folder / f"{worker}.pid").read_text(encoding="utf-8"))


class Traps(WorkerPlugin):
    """Springs the traps on a worker, and writes its process id."""

    name = "traps"
    idempotent = True

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def setup(self, worker: Worker) -> None:
        self.worker = str(worker.name)
        self.limit_nbytes = worker.memory_manager.memory_limit or 0
        path = self.folder / f"{self.worker}.pid"
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(str(os.getpid()), encoding="utf-8")
        partial.replace(path)

    def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:
        if finish != "executing":
            return
        if str(key).startswith(ROUNDS):
            self._patch()
        for name, stage in TASKS.items():
            if str(key).startswith(f"{name}-"):
                self.spring(stage)

    def _patch(self) -> None:
        """Patches XGBoost to call a trap before each round and before each communicator.

        Its module is imported already: the worker has built a matrix.  Patching it at the worker's start would cost the
        time of the import.
        """
        if getattr(sys, "_traps_patched", False):
            return
        sys._traps_patched = True  # type: ignore[attr-defined]  # one mark per process, for all plugin objects
        import xgboost
        from xgboost import collective

        def spring_round(_booster: Any, _matrix: Any, iteration: int, *_: Any, **__: Any) -> None:
            self.spring("rounds", iteration + 1)

        def spring_bootstrap(*_: Any) -> None:
            self.spring("bootstrap")

        for owner, name, first in (
            (xgboost.Booster, "update", spring_round),
            (collective.CommunicatorContext, "__enter__", spring_bootstrap),
        ):
            setattr(owner, name, _before(getattr(owner, name), first))

    def spring(self, stage: str, number: int = 0) -> None:
        for path in sorted(self.folder.glob(f"*{ARMED}")):
            with contextlib.suppress(FileNotFoundError):  # another worker took it
                trap = Trap(**json.loads(path.read_text(encoding="utf-8")))
                if trap.at == stage and trap.round == number and trap.worker in (ANY, self.worker):
                    path.rename(path.with_suffix(SPRUNG))
                    self.do(trap)

    def do(self, trap: Trap) -> None:
        """Has the fault happen in this process; kills and freezes do not return."""
        give_up = time.monotonic() + AWAITED_SECONDS
        while trap.after and not Path(trap.after).exists() and time.monotonic() < give_up:
            time.sleep(0.01)
        if trap.do == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif trap.do == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif trap.do == "stick":
            threading.Event().wait()
        elif trap.do == "cut":
            cut()
        elif trap.do == "clock":
            set_clock(trap.seconds)
        else:
            hog(self.limit_nbytes)


def cut() -> None:
    """Makes all other workers unreachable from this one, and blocks the round."""
    from pipeline.runtime import reachability

    async def unreachable(host: str, port: int) -> bool:
        return False

    reachability.reaches = unreachable
    threading.Event().wait()


def _before(method: Callable[..., Any], first: Callable[..., None]) -> Callable[..., Any]:
    @functools.wraps(method)
    def both(*args: Any, **options: Any) -> Any:
        first(*args, **options)
        return method(*args, **options)

    return both


class ShiftedTime:
    """The module `time`, with another wall clock."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def time(self) -> float:
        return time.time() + self._seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def set_clock(seconds: float) -> None:
    """Sets the wall clock of our own modules in this process forward (back: negative).

    Only of our own: Dask has bound `time.time` at import, while Tornado looks it up on each call, and no machine's
    clock shows the two an hour apart.  Set back, that alone would make them wait for an hour.
    """
    shifted = ShiftedTime(seconds)
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "pipeline" and getattr(module, "time", None) is time:
            vars(module)["time"] = shifted


def hog(limit_nbytes: int) -> None:
    """Allocates memory beyond the limit, and waits for the nanny to kill this process."""
    if not limit_nbytes:
        raise ValueError("the worker has no memory limit")
    held = [b"\x01" * HOG_NBYTES for _ in range(limit_nbytes // HOG_NBYTES + 1)]
    threading.Event().wait(HOG_SECONDS)
    held.clear()
