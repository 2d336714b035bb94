"""Does acts: signals, damage to files, a disk that is full or read-only, a clock that jumps, a stalled network."""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faults import operators
from faults.proxy import stall
from faults.script import BESIDE, Act
from faults.traps import STALLED, pid_of, set_clock
from pipeline.events.types import Event

SMALL_NBYTES = 64 * 2**20  # of a disk that may be filled
FILL_NBYTES = 64 * 2**10  # written at a time


def meant(act: Act, event: Event) -> bool:
    """Whether the act waits for this event."""
    return (
        type(event).__name__ == act.event
        and (not act.stage or getattr(event, "stage", "") == act.stage)
        and getattr(event, "round", 0) >= act.round
    )


def do(act: Act, traps: Path, scheduler: str = "", step: operators.Step = lambda number: None) -> None:
    """Does an act.  `scheduler`: the address of the run's; unused between runs.  `step`: called by acts in threads."""
    if act.do in BESIDE:
        operators.start(act, traps, scheduler, step)
    elif act.do == "signal":
        _signal(act, traps)
    elif act.do == "clock":
        set_clock(act.seconds)
    elif act.do == "fill":
        fill(Path(act.target))
    elif act.do == "read-only":
        make_read_only(Path(act.target))
    elif act.do == "stall":
        stall(traps / STALLED, act.seconds)
    else:
        damage(act)


def _signal(act: Act, traps: Path) -> None:
    """Signals the client itself, its process group as a terminal does, a worker by name, or a process by id."""
    if act.target == "terminal":
        os.killpg(os.getpgid(0), act.signal)
    else:
        kind, _, name = act.target.partition(" ")
        pid = {"client": os.getpid}.get(kind, lambda: pid_of(traps, name) if kind == "worker" else int(name))()
        os.kill(pid, act.signal)


def damage(act: Act) -> None:
    """Deletes, halves, flips a byte in the middle of, or overwrites the last file that matches the pattern."""
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
    """Fills the disk; deleting `ballast` frees it.

    A disk that is larger than a test may fill is full for the patched client only, as long as the file exists.
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
    """Whether the folder is on a disk as small as those mounted for this purpose."""
    disk = os.statvfs(folder)
    return disk.f_blocks * disk.f_frsize <= SMALL_NBYTES


def make_read_only(folder: Path) -> None:
    """Makes the folder read-only; it is unmounted together with the disk around it."""
    if os.geteuid():
        folder.chmod(0o555)
        return
    mounts = (["mount", "--bind", str(folder), str(folder)], ["mount", "-o", "remount,bind,ro", str(folder)])
    if not all(subprocess.run(command, capture_output=True, check=False).returncode == 0 for command in mounts):
        _fail_fsync(folder, errno.EROFS, lambda: True)


def fill_by_patch(ballast: Path) -> None:
    """Makes fsync below the ballast's folder fail with ENOSPC while the ballast exists: for machines without mounts."""
    _fail_fsync(ballast.parent, errno.ENOSPC, ballast.exists)


def _fail_fsync(folder: Path, code: int, now: Callable[[], bool]) -> None:
    """Makes fsync fail in this process, for files below the folder, while `now` returns True."""
    real = os.fsync

    def fsync(descriptor: Any) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        path = os.readlink(f"/proc/self/fd/{number}")
        if now() and path.startswith(str(folder)):
            raise OSError(code, os.strerror(code), path)
        real(descriptor)

    os.fsync = fsync  # type: ignore[assignment]  # its argument has another name
