"""Doing what acts say: signals, damage to files, a full disk, a clock that jumps."""

import errno
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

from distributed import Client

from benchmarks.faults.script import Act
from benchmarks.faults.traps import pid_of, set_clock
from pipeline.events import Event

SMALL_NBYTES = 64 * 2**20  # of a disk that may be filled
FILL_NBYTES = 64 * 2**10  # written at a time


def meant(act: Act, event: Event) -> bool:
    """Whether the act waits for this event."""
    return (
        type(event).__name__ == act.event
        and (not act.stage or getattr(event, "stage", "") == act.stage)
        and getattr(event, "round", 0) >= act.round
    )


def do(act: Act, traps: Path, scheduler: str = "") -> None:
    """`scheduler`: the address of the run's; not needed between two runs."""
    if act.do == "signal":
        _signal(act, traps)
    elif act.do == "clock":
        set_clock(act.seconds)
    elif act.do == "retire":
        retire(act.target, scheduler)
    elif act.do == "restart":
        restart(scheduler)
    elif act.do == "block":
        block(act.seconds, scheduler)
    elif act.do == "fill":
        fill(Path(act.target))
    else:
        damage(act)


def _signal(act: Act, traps: Path) -> None:
    """To the client itself, its process group as a terminal does, a worker by its name, or a process by its number."""
    if act.target == "terminal":
        os.killpg(os.getpgid(0), act.signal)
    else:
        kind, _, name = act.target.partition(" ")
        pid = {"client": os.getpid}.get(kind, lambda: pid_of(traps, name) if kind == "worker" else int(name))()
        os.kill(pid, act.signal)


def retire(worker: str, scheduler: str) -> None:
    """Has the scheduler send a worker away, as another client would: the run goes on meanwhile, and does not know."""

    def ask() -> None:
        with Client(scheduler, set_as_default=False, name="operator") as client:
            client.retire_workers(names=[worker])

    threading.Thread(target=ask, name="retire", daemon=True).start()


def restart(scheduler: str) -> None:
    """Has the scheduler restart all workers and forget all tasks, as another client's `client.restart()` does."""

    def ask() -> None:
        with Client(scheduler, set_as_default=False, name="operator") as client:
            client.restart(wait_for_workers=False)

    threading.Thread(target=ask, name="restart", daemon=True).start()


def block(seconds: float, scheduler: str) -> None:
    """Keeps the scheduler's event loop busy, as another client's function may."""

    def ask() -> None:
        with Client(scheduler, set_as_default=False, name="operator") as client:
            client.run_on_scheduler(time.sleep, seconds)

    threading.Thread(target=ask, name="block", daemon=True).start()


def damage(act: Act) -> None:
    """Deletes, halves, flips a byte in the middle of, or overwrites the last file that the pattern names."""
    pattern = Path(act.target)
    path = max(pattern.parent.glob(pattern.name), default=None)
    if path is None:
        raise FileNotFoundError(f"{act.do}: nothing is called {act.target}")
    if act.do == "delete":
        path.unlink()
    elif act.do == "copy":
        shutil.copyfile(act.source, path)
    elif act.do == "restore":
        shutil.copy2(act.source, path)
    elif act.do == "halve":
        os.truncate(path, path.stat().st_size // 2)
    elif act.do == "flip":
        flip(path, path.stat().st_size // 2)


def flip(path: Path, place: int, mask: int = 1) -> None:
    """Flips bits of one byte."""
    with open(path, "r+b") as file:
        file.seek(place)
        value = file.read(1)[0]
        file.seek(place)
        file.write(bytes([value ^ mask]))


def fill(ballast: Path) -> None:
    """Fills the disk; `ballast` deleted, it is free again.

    A disk that is larger than a test may fill is full for the patched client alone, as long as the file exists.
    """
    if not may_be_filled(ballast.parent):
        ballast.touch()
        return
    with open(ballast, "wb", buffering=0) as file:
        for size in (FILL_NBYTES, 1024, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def may_be_filled(folder: Path) -> bool:
    """Whether the folder is on a disk as small as one that is mounted for this."""
    disk = os.statvfs(folder)
    return disk.f_blocks * disk.f_frsize <= SMALL_NBYTES


def fill_by_patch(ballast: Path) -> None:
    """Where no small disk could be mounted: fsync below the ballast's folder fails with ENOSPC while the ballast exists."""
    real = os.fsync

    def fsync(descriptor: Any) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        path = os.readlink(f"/proc/self/fd/{number}")
        if ballast.exists() and path.startswith(str(ballast.parent)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        real(descriptor)

    os.fsync = fsync  # type: ignore[assignment]  # its argument has another name
