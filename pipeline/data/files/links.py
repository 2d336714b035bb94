"""Resolves links among files and folders, so that each file is read once, however many names it has."""

import functools
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pipeline.data.files.retries import failure
from pipeline.events.findings import Finding


@dataclass(frozen=True)
class Alias:
    """A further name of a file or folder that is already in the source."""

    name: str
    real: str  # the path without links


def walk(folder: str, hidden: Callable[[str], bool]) -> tuple[list[str], list[Alias]]:
    """(the files in a folder and below, the links to folders that are already listed).

    Links are followed, each folder once: first all folders that are reached without a link, so that these give the
    names.
    `hidden`: whether an entry of this name is left out.  AccessError for a folder that cannot be listed.
    """
    files: list[str] = []
    aliases: list[Alias] = []
    seen: set[str] = set()
    folders, links = [folder], deque[str]()
    while folders or links:
        parent = folders.pop() if folders else links.popleft()
        real = os.path.realpath(parent)
        if real in seen:
            aliases.append(Alias(parent, real))
            continue
        seen.add(real)
        for entry in _entries(parent):
            if hidden(entry.name):
                continue
            if not entry.is_dir():
                files.append(entry.path)
            elif entry.is_symlink():
                links.append(entry.path)
            else:
                folders.append(entry.path)
    return files, aliases


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:  # raise: the rows of a folder that cannot be listed must not be missing silently
        raise failure(folder, error) from None


def each_once(paths: Sequence[str]) -> tuple[set[str], list[Alias]]:
    """(the paths to read, those that are links to one of these); all are local files.

    Of several names of one file the one without a link is kept, else the first.
    """
    folders = functools.cache(os.path.realpath)
    names: dict[str, list[str]] = {}
    for path in paths:
        linked = os.path.islink(path)
        real = (
            os.path.realpath(path) if linked else os.path.join(folders(os.path.dirname(path)), os.path.basename(path))
        )
        names.setdefault(real, []).append(path)
    kept, aliases = set(), []
    for real, known in names.items():
        best = min(known, key=lambda path: (path != real, os.path.islink(path)))
        kept.add(best)
        aliases += [Alias(path, real) for path in known if path != best]
    return kept, aliases


def note(aliases: Sequence[Alias]) -> Finding | None:
    """The note for names that were left out."""
    if not aliases:
        return None
    first = aliases[0]
    names = "1 further name" if len(aliases) == 1 else f"{len(aliases)} further names"
    return Finding(
        "file_twice",
        f"{names} of files and folders that are read already left out, so that no row counts twice: "
        f"{first.name} is {first.real}",
        count=len(aliases),
        where=first.name,
        setting="data.source",
    )


def shared_files(left: Iterable[str], right: Iterable[str]) -> list[tuple[str, str]]:
    """The files of `right` that are files of `left`, under any name, as pairs (name in left, name in right)."""
    known = {_identity(path): path for path in left}
    return [(known[identity], path) for path in right if (identity := _identity(path)) in known]


def _identity(path: str) -> tuple[int, int] | str:
    """An identity shared by all names of one file: links of both kinds, and mounts, lead to one inode."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # a URL
        return path
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)
