"""Writes folders and files that are either whole or absent: written as a temporary sibling, synced, renamed."""

import contextlib
import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pipeline.config.urls import local_path
from pipeline.errors import OutputError, PipelineError

FULL = (errno.ENOSPC, errno.EDQUOT)  # of the disk, or of the user's quota
Ours = Callable[[Path], bool]  # whether a folder is of the kind that may be replaced


def claim(folder: str | os.PathLike[str], *, overwrite: bool, ours: Ours) -> Path:
    """Returns the absolute path of a writable folder.  OutputError, before any work is done, if it cannot be written.

    With `overwrite` an empty folder, or one for which `ours` is true, may be replaced; any other is never deleted.
    """
    path = Path(os.path.abspath(local_path(folder)))
    if os.path.lexists(path):
        if path.is_symlink() or not path.is_dir():
            raise OutputError(f"{folder}: exists and is no folder")
        try:
            empty = not any(path.iterdir())
        except OSError as error:
            raise OutputError(f"{folder}: cannot be read: {error.strerror}") from None
        if not overwrite:
            raise OutputError(f"{folder}: exists already; choose another folder or pass --overwrite")
        if not empty and not ours(path):
            raise OutputError(f"{folder}: exists and holds something else; --overwrite would delete it: choose another")
    missing = missing_parents(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.rmdir(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))  # root may write despite the mode
    except (FileExistsError, NotADirectoryError):
        raise OutputError(f"{folder}: cannot be written: a part of its path is a file") from None
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}") from None
    finally:
        remove_empty(missing)
    return path


@contextlib.contextmanager
def whole_folder(folder: Path, *, overwrite: bool, ours: Ours, nbytes: int | None = None) -> Iterator[Path]:
    """Gives a temporary sibling to write into; if the block succeeds it becomes `folder`, else it is deleted.

    OutputError if the system refuses, PipelineError if the disk is full; `nbytes`: size to be written, if known.
    A folder that it replaces is moved aside first and deleted after, so that no reader ever sees a mixture.
    """
    folder = claim(folder, overwrite=overwrite, ours=ours)
    token = uuid.uuid4().hex[:8]
    partial = folder.parent / f".{folder.name}.{token}.partial"
    missing = missing_parents(folder)
    try:
        partial.mkdir(parents=True)
        yield partial
        _sync_all(partial)
        _replace(partial, claim(folder, overwrite=overwrite, ours=ours), token)
    except OSError as error:
        if error.errno is None or isinstance(error, ConnectionError):
            raise  # an error of the cluster that was to fill the folder, not of the folder
        shutil.rmtree(partial, ignore_errors=True)  # frees its space
        if error.errno in FULL:
            raise PipelineError(f"{folder}: cannot be written: {refusal(error, folder, nbytes)}: make room") from error
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        remove_empty(missing)


def add_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes files into a folder, then names them in their order; one that exists is replaced at once.

    Names may have a folder before a slash.  If one cannot be written, none is there.  OutputError if the system refuses,
    PipelineError if the disk is full.
    """
    token = uuid.uuid4().hex[:8]
    partial = {name: (folder / name).with_name(f".{Path(name).name}.{token}.partial") for name in files}
    missing = [parent for parent in {path.parent for path in partial.values()} if not parent.exists()]
    try:
        for name, content in files.items():
            write_file(partial[name], content)
        for name in files:
            os.replace(partial[name], folder / name)
            sync((folder / name).parent)
    except OSError as error:
        kind = PipelineError if error.errno in FULL else OutputError
        raise kind(f"{folder / name}: cannot be written: {refusal(error, folder, len(files[name]))}") from error
    finally:
        for path in partial.values():
            path.unlink(missing_ok=True)
        remove_empty(missing)


def refusal(error: OSError, folder: Path, nbytes: int | None = None) -> str:
    """Returns why the system refuses to write `nbytes`; for a full disk also how much is needed and free."""
    reason = error.strerror or str(error)
    if error.errno not in FULL:
        return reason
    needed = "" if nbytes is None else f"{nbytes:,} bytes needed, "
    place = next(place for place in (folder, *folder.parents) if place.exists())
    return f"{reason} ({needed}{shutil.disk_usage(place).free:,} bytes free)"


def missing_parents(folder: Path) -> list[Path]:
    """Returns the parent folders that do not exist yet, innermost first."""
    return [parent for parent in folder.parents if not parent.exists()]


def remove_empty(folders: list[Path]) -> None:
    """Removes those of the folders that are empty."""
    for folder in folders:
        with contextlib.suppress(OSError):  # it is not empty, or was never made
            folder.rmdir()


def write_file(path: Path, content: bytes) -> None:
    """Writes a new file and syncs it to the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_all(folder: Path) -> None:
    for path, _, names in os.walk(folder):
        for name in names:
            sync(Path(path) / name)
        sync(Path(path))


def sync(path: Path) -> None:
    """Has a file's content, or the names in a folder, reach the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(partial: Path, folder: Path, token: str) -> None:
    """Moves `partial` to `folder`; restores the old folder if that fails."""
    old = folder.parent / f".{folder.name}.{token}.old"
    existed = folder.exists()
    if existed:
        os.rename(folder, old)
    try:
        os.rename(partial, folder)
    except OSError:
        if existed:
            os.rename(old, folder)
        raise
    sync(folder.parent)
    if existed:
        shutil.rmtree(old, ignore_errors=True)
