"""Keeps the audits of earlier runs: one line each, numbers only, in the user's state folder."""

import errno
import fcntl
import hashlib
import json
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipeline.cluster.affinity import cores
from pipeline.cluster.machine import processor
from pipeline.planning.audit import AuditLine

FILE = "audits.jsonl"
MOST_LINES = 2_000
MOST_NBYTES = 16 << 20  # of the file: a larger one is not ours


def history_file() -> Path:
    """The file of the history: in XDG_STATE_HOME, or ~/.local/state."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")  # "~" stays where there is no home
    return Path(state) / "dask-train-pipeline" / FILE


def fingerprint(device: str) -> str:
    """What an audit holds for: the processor, the cores, the device, and versions."""
    text = json.dumps([processor(), cores(), device, *map(_version, ("xgboost", "xgboost-cpu", "dask-train-pipeline"))])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:  # another wheel of XGBoost, a folder that is not installed
        return None


def machine_here() -> str:
    """The fingerprint of this machine with the device that a job gets which names none."""
    from pipeline.cluster.devices import resolve_device

    return fingerprint(resolve_device("auto"))


def read_history(file: Path | None = None) -> tuple[list[AuditLine], str | None]:
    """The audits, oldest first, and a note about lines that cannot be read, which are left aside."""
    file = file or history_file()
    try:
        if file.stat().st_size > MOST_NBYTES:
            return [], f"{file} is larger than {MOST_NBYTES >> 20} MiB: it is left aside; remove it"
        text = file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return [], None
    except OSError as error:
        return [], f"{file} cannot be read ({error.strerror or error}): the plan does not know earlier runs"
    found, bad = [], 0
    for line in text.splitlines():
        try:
            found.append(AuditLine.parse(line))
        except ValueError:
            bad += 1
    note = f"{file}: {bad} of {bad + len(found)} lines cannot be read and are left aside" if bad else None
    return found, note


def add_to_history(line: AuditLine, file: Path | None = None) -> str | None:
    """Appends an audit; why it could not be, for a note.  Of more than MOST_LINES lines the older half is dropped."""
    file = file or history_file()
    try:
        if "~" in file.parts:
            raise FileNotFoundError(errno.ENOENT, "there is no home folder", str(file))
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)  # until it is closed: another run may append or shorten it now
            stream.seek(0)
            lines = stream.read().splitlines(keepends=True)
            torn = bool(lines) and not lines[-1].endswith(b"\n")
            stream.write((b"\n" if torn else b"") + line.render().encode("utf-8") + b"\n")
            if len(lines) >= MOST_LINES:
                stream.truncate(0)
                stream.write(b"".join([*lines[-MOST_LINES // 2 + 1 :], line.render().encode("utf-8") + b"\n"]))
    except OSError as error:
        return f"the audit of this run cannot be added to {file}: {error.strerror or error}"
    return None
