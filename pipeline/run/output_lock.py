"""Checks the output folder before anything is started for a run, and locks it until the run ends."""

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from pipeline.config.urls import local_path
from pipeline.errors import JobError, ModelError, OutputError
from pipeline.model.folder import MANIFEST, claim_folder, is_model_folder
from pipeline.storage.atomic import missing_parents, remove_empty
from pipeline.training.checkpoint import SUFFIX, CheckpointStore, folder_for

LOCK = "lock"  # in the folder of the checkpoints
LONGEST_HOLDER = 100  # bytes of the lock's file that a message shows


def prepare_output_dir(model: str | os.PathLike[str], *, resume: bool, overwrite: bool) -> Path:
    """Returns the absolute path of the future model folder.  UserError if the run could not begin or end there."""
    rounds = CheckpointStore(Path(os.path.abspath(local_path(model)))).rounds()
    if resume and not rounds:
        raise _nothing_to_resume(Path(model))
    path = claim_folder(model, overwrite=overwrite)
    if rounds and not resume and not overwrite:
        with lock_output_dir(path):  # a run that still holds the lock is reported as active, not as interrupted
            pass
        raise OutputError(
            f"{folder_for(path)}: holds round {rounds[0]} of an interrupted run: resume it with --resume {path}, "
            "or discard it with --overwrite"
        )
    return path


def check_output_dir(model: str | os.PathLike[str], *, resume: bool, overwrite: bool) -> None:
    """Raises now what would be refused once the cluster is up; leaves nothing on the disk."""
    with lock_output_dir(prepare_output_dir(model, resume=resume, overwrite=overwrite)):
        pass


@contextlib.contextmanager
def lock_output_dir(model: Path) -> Iterator[None]:
    """Holds an exclusive lock on the output folder and its checkpoints.  OutputError if another run holds it.

    The system releases the lock of a process that ends, however it ends.
    """
    path = folder_for(model) / LOCK
    made = [path.parent, *missing_parents(path.parent)]
    lock = _acquire(path, model)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the folder is no longer writable; closing the file still releases the lock
            path.unlink()  # unlink before unlocking: a process that has opened the old file will notice by `samestat`
        os.close(lock)
        remove_empty(made)


def _acquire(path: Path, model: Path) -> int:
    """Returns an open, locked file that holds this process's id, for the message to runs that are refused."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:  # a run that has just ended removed the folder
            continue
        except OSError as error:
            raise OutputError(f"{path.parent}: cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, LONGEST_HOLDER).decode(errors="replace") or "another process"
            os.close(lock)
            raise OutputError(
                f"{model}: {holder} is writing to it: wait until it ends, or choose another folder"
            ) from None
        except OSError:
            pass  # a disk without locks: the run continues without one
        if path.exists() and os.path.samestat(os.fstat(lock), os.stat(path)):
            with contextlib.suppress(OSError):  # the disk is full: the lock is held all the same
                os.ftruncate(lock, 0)
                os.write(lock, f"process {os.getpid()} on {socket.gethostname()}".encode())
            return lock
        os.close(lock)  # the file was removed between opening and locking


def _nothing_to_resume(model: Path) -> JobError | ModelError:
    """Returns the error for a model folder that has no checkpoint."""
    for place in (model, model.parent):  # a checkpoint file, or the folder of checkpoints
        meant = place.with_name(place.name.removesuffix(SUFFIX)) if place.name.endswith(SUFFIX) else None
        if meant is not None and CheckpointStore(meant).rounds():
            return JobError(
                f"--resume {model}: expected the output folder of the interrupted run, not its checkpoints: "
                f"did you mean --resume {meant}?"
            )
    if is_model_folder(model):
        return JobError(
            f"--resume {model}: this run is finished{_rounds(model)}: nothing to resume; to train for more rounds, "
            "begin a new run without --resume: another --out, or --overwrite"
        )
    path = os.path.abspath(os.path.expanduser(model))
    return ModelError(f"{path}: nothing to resume: no checkpoint in {folder_for(Path(path))}")


def _rounds(model: Path) -> str:
    """Returns the rounds of a finished model, in brackets; empty if the manifest is damaged."""
    try:
        return f" ({int(json.loads((model / MANIFEST).read_bytes())['rounds'])} rounds)"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
