"""Runs the installed command once: starts it with its acts, watches it, ends it."""

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from faults import leftovers
from faults.leftovers import MARK, end
from faults.script import LONGEST_SECONDS, Act
from faults.warm import ROOT, Fork, Warm

ERROR = "pipeline: error: "


class Wrong(AssertionError):
    """A run did not end as its row requires."""


class Missed(AssertionError):
    """A fault did not happen, so its run proves nothing: e.g. a worker without fragments cannot die at its matrix."""


@dataclass(frozen=True)
class Ended:
    """The result of a run of the command."""

    exit_code: int  # negative: the number of the signal that killed it
    stderr: str
    events: list[dict[str, Any]] = field(repr=False)  # with "at": monotonic seconds; includes acts
    result: dict[str, Any]  # the JSON that it printed; empty if it failed
    seconds: float
    ended_at: float  # monotonic

    @property
    def errors(self) -> list[str]:
        return [line.removeprefix(ERROR) for line in self.stderr.splitlines() if line.startswith(ERROR)]

    def named(self, event: str) -> list[dict[str, Any]]:
        """Returns the events of this name."""
        return [said for said in self.events if said.get("event") == event]

    @property
    def steps(self) -> int:
        """Returns the steps of acts that are done during the run."""
        return sum("step" in said for said in self.events)

    @property
    def acts(self) -> list[dict[str, Any]]:
        return [said for said in self.events if "act" in said]

    def __str__(self) -> str:
        said = [{key: value for key, value in event.items() if key not in ("time", "version")} for event in self.events]
        return f"exit code {self.exit_code} after {self.seconds:.1f} s\n{self.stderr}\n" + "\n".join(
            map(str, said[-12:])
        )


def run(
    warm: Warm,
    arguments: Sequence[str],
    *,
    acts: Sequence[Act],
    traps: Path,
    folder: Path,
    mark: str,
    full: str = "",
    limit_seconds: float = LONGEST_SECONDS,
) -> Ended:
    """Runs the command in its own session, with `folder` for its temporary files.  Wrong if it hangs."""
    plan = {"traps": str(traps), "acts": [dataclasses.asdict(act) for act in acts], "full": full}
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, MARK: mark, "TMPDIR": str(temporary), "PYTHONPATH": path}
    start = time.monotonic()
    pipes = [os.pipe() for _ in range(3)]  # its stdout, stderr and events
    process = warm.start(plan, arguments, folder, environment, [writer for _, writer in pipes])
    for _, writer in pipes:
        os.close(writer)
    out_pipe, err_pipe, event_pipe = (os.fdopen(reader, encoding="utf-8") for reader, _ in pipes)
    with event_pipe:
        lines: list[str] = []
        listening = threading.Thread(target=lambda: lines.extend(event_pipe), daemon=True)
        listening.start()
        out, err, hung = _end_of(process, {"out": out_pipe, "err": err_pipe}, mark, limit_seconds)
        ended_at = time.monotonic()
        listening.join(5)
    events = [json.loads(line) for line in lines if line.endswith("\n")]
    ended = Ended(process.wait(), err, events, _result(out), ended_at - start, ended_at)
    if hung:
        raise Wrong(f"hangs: {ended}")
    return ended


def _end_of(process: Fork, pipes: Mapping[str, TextIO], mark: str, limit_seconds: float) -> tuple[str, str, bool]:
    """Returns what the process printed, and whether it had to be killed.

    Waits for the process, not for other processes that hold its pipes.  Wrong if one of its children holds them for
    long.
    """
    printed: dict[str, str] = {"out": "", "err": ""}

    def read(name: str, pipe: Any) -> None:
        with pipe:
            for line in pipe:
                printed[name] += line

    readers = [threading.Thread(target=read, args=(name, pipe), daemon=True) for name, pipe in pipes.items()]
    for reader in readers:
        reader.start()
    hung = False
    try:
        process.wait(limit_seconds)
    except subprocess.TimeoutExpired:
        hung = True
        process.send_signal(signal.SIGUSR1)  # prints where it hangs
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
            end(mark)
    for reader in readers:
        reader.join(leftovers.WAIT_SECONDS)
    if any(reader.is_alive() for reader in readers):
        left = leftovers.processes(mark, 0)
        end(mark)
        raise Wrong(f"processes outlive the run: {left}\n{printed['err']}")
    return printed["out"], printed["err"], hung


def _result(out: str) -> dict[str, Any]:
    """Returns the JSON object on stdout, unless it is that of an error."""
    found = re.findall(r"^\{.*\}$", out, re.MULTILINE)
    result: dict[str, Any] = json.loads(found[-1]) if found else {}
    return {} if "error" in result else result
