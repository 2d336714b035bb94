"""Keeps the audits of earlier runs: one line each, numbers only, in the user's state folder."""

import contextlib
import hashlib
import json
import os
from importlib.metadata import version
from pathlib import Path

from pipeline.cluster.affinity import cores
from pipeline.cluster.machine import processor
from pipeline.planning.audit import AuditLine

FILE = "audits.jsonl"
MOST_LINES = 2_000
MOST_NBYTES = 16 << 20  # of the file: a larger one is not ours


def history_file() -> Path:
    """The file of the history: in XDG_STATE_HOME, or ~/.local/state."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "dask-train-pipeline" / FILE


def fingerprint(device: str) -> str:
    """What an audit holds for: the processor, the cores, the device, and versions."""
    text = json.dumps([processor(), cores(), device, version("xgboost"), version("dask-train-pipeline")])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def machine_here() -> str:
    """The fingerprint of this machine with the device that a job without a wish would get."""
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
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a+", encoding="utf-8") as stream:
            stream.seek(0, os.SEEK_END)
            torn = stream.tell() > 0 and not _ends_with_newline(file)
            stream.write(("\n" if torn else "") + line.render() + "\n")
        with contextlib.suppress(OSError):
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
            if len(lines) > MOST_LINES:
                shorter = file.with_name(f"{FILE}.{os.getpid()}")
                shorter.write_text("".join(lines[-MOST_LINES // 2 :]), encoding="utf-8")
                os.replace(shorter, file)
    except OSError as error:
        return f"the audit of this run cannot be added to {file}: {error.strerror or error}"
    return None


def _ends_with_newline(file: Path) -> bool:
    with file.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"
