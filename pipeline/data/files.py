"""Which files a source means, local or behind an fsspec URL, and how their bytes are had.

Local files never go through fsspec: its import costs more than reading the footers of a hundred files.
"""

import glob
import os
import posixpath
import re
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from pipeline.errors import SourceError

HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
ENDINGS = {
    "parquet": (".parquet", ".parq", ".pq"),
    "csv": (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".csv.bz2", ".tsv.bz2", ".csv.zst", ".tsv.zst"),
    "feather": (".feather", ".arrow", ".ipc"),
    "libsvm": (".libsvm", ".svm", ".svmlight"),
}
QUERY_ENDING = ".query"
_MAGIC = {b"PAR1": "parquet", b"ARRO": "feather"}
_NAMES = {"parquet": "Parquet", "csv": "CSV", "feather": "Feather", "libsvm": "LIBSVM"}


@dataclass(frozen=True)
class File:
    """One file of a source."""

    path: str  # absolute path, or URL
    nbytes: int  # its size on disk
    hive: tuple[tuple[str, str], ...] = ()  # keys and values of its folders


def is_url(path: str) -> bool:
    return "://" in path


def cpu_count() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def find_files(source: str | Sequence[str], wanted_format: str) -> tuple[str, list[File]]:
    """(format, files) of a file, folder, glob, URL, or a list of them; the files of each item in order of their names.

    SourceError: no such path, no data file in a folder, more than one format, a file given twice.
    """
    items = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    if not items:
        raise SourceError("data.source is an empty list: name at least one file")
    found = [(str(item), _expand(os.fspath(item))) for item in items]
    kind = _format(found, wanted_format)
    files: list[File] = []
    for item, (paths, listed) in found:
        kept = _of_format(paths, kind) if listed else paths
        if not kept:
            raise SourceError(f"{item}: holds no {_NAMES[kind]} files")
        files += [File(path, nbytes, _hive(path)) for path, nbytes in kept]
    seen: set[str] = set()
    for file in files:
        if file.path in seen:
            raise SourceError(f"{file.path}: given twice in data.source; its rows would count double")
        seen.add(file.path)
    return kind, files


def relative_names(files: Sequence[File]) -> list[str]:
    """The files' names from the folder they have in common; what fingerprints name them by."""
    folders = {posixpath.dirname(file.path) for file in files}
    root = posixpath.commonpath(folders) if len(folders) > 1 else folders.pop()
    return [file.path[len(root) :].lstrip("/") for file in files]


def open_file(path: str) -> BinaryIO:
    """The file, opened for reading bytes; SourceError where it cannot be."""
    try:
        if is_url(path):
            filesystem, inner = _filesystem(path)
            return filesystem.open(inner, "rb")
        return open(path, "rb", buffering=0)
    except OSError as error:
        raise SourceError(f"{path}: {_reason(error)}") from None


def read_range(path: str, start: int, stop: int) -> bytes:
    """The bytes of a file from `start` up to `stop`, fewer where it ends before."""
    with open_file(path) as file:
        file.seek(start)
        parts = []
        while start < stop:
            part = file.read(stop - start)
            if not part:
                break
            parts.append(part)
            start += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_all(path: str) -> bytes:
    """The whole of a small file."""
    with open_file(path) as file:
        return file.read()


def exists(path: str) -> bool:
    if is_url(path):
        filesystem, inner = _filesystem(path)
        return bool(filesystem.exists(inner))
    return os.path.exists(path)


def _expand(item: str) -> tuple[list[tuple[str, int]], bool]:
    """([(path, size)] in order, whether they come from a folder's listing) for one path, folder, glob or URL."""
    if item.startswith("file://"):
        item = urllib.parse.unquote(item.removeprefix("file://"))
    if is_url(item):
        return _expand_url(item)
    path = os.path.abspath(os.path.expanduser(item))
    if os.path.isdir(path):
        paths, listed = _ordered(_walk(path)), True
        if not paths:
            raise SourceError(f"{item}: an empty folder")
    elif os.path.exists(path):
        paths, listed = [path], False
    else:
        paths = _ordered(name for name in glob.glob(path, recursive=True) if os.path.isfile(name))
        listed = True
        if not paths:
            what = "no file matches" if glob.has_magic(path) else "no such file or folder"
            raise SourceError(f"{item}: {what}")
    try:
        return [(name, os.stat(name).st_size) for name in paths], listed
    except OSError as error:
        raise SourceError(f"{item}: {_reason(error)}") from None


def _expand_url(url: str) -> tuple[list[tuple[str, int]], bool]:
    filesystem, path = _filesystem(url)
    scheme = url.partition("://")[0]
    try:
        if glob.has_magic(path):
            names, listed = [name for name in filesystem.glob(path) if filesystem.isfile(name)], True
        elif filesystem.isfile(path):
            names, listed = [path], False
        else:
            names, listed = filesystem.find(path), True
        names = [name for name in _ordered(names) if not listed or not _hidden(name[len(path) :])]
        if not names:
            what = "an empty folder" if filesystem.exists(path) else "no such file or folder"
            raise SourceError(f"{url}: {what}")
        sizes = [filesystem.size(name) for name in names]
    except OSError as error:
        raise SourceError(f"{url}: {_reason(error)}") from None
    if None in sizes:
        raise SourceError(f"{url}: the server does not tell the file's size")
    return [
        (f"{scheme}://{name.lstrip('/')}" if "://" not in name else name, size)
        for name, size in zip(names, sizes, strict=True)
    ], listed


def _filesystem(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise SourceError(f"{url}: {str(error).splitlines()[0]}") from None


def _walk(folder: str) -> Iterator[str]:
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not _hidden(name)]
        yield from (os.path.join(parent, name) for name in names if not _hidden(name))


def _hidden(path: str) -> bool:
    """Whether writers mean it as no data: _SUCCESS, _metadata, .part-0.crc, .ipynb_checkpoints/..."""
    return any(part[0] in "._" and "=" not in part for part in path.split("/") if part)


def _ordered(paths: Any) -> list[str]:
    return sorted(paths, key=lambda path: path.split("/"))


def _format(found: list[tuple[str, tuple[list[tuple[str, int]], bool]]], wanted: str) -> str:
    """The format asked for, or the one that the files' endings (else their first bytes) show."""
    if wanted != "auto":
        return wanted
    paths = [path for _, (listing, _) in found for path, _ in listing]
    kinds = {kind for kind in map(_by_ending, paths) if kind is not None}
    if not kinds:
        kinds = {kind for kind in map(_by_magic, paths[:8]) if kind is not None}
    if len(kinds) == 1:
        return kinds.pop()
    if kinds:
        names = " and ".join(_NAMES[kind] for kind in sorted(kinds))
        raise SourceError(f"{found[0][0]}: {names} files together; choose one with data.format")
    raise SourceError(
        f"{found[0][0]}: no Parquet, CSV, Feather or LIBSVM files by their endings; say which with data.format"
    )


def _by_ending(path: str) -> str | None:
    name = path.lower()
    return next((kind for kind, endings in ENDINGS.items() if name.endswith(endings)), None)


def _by_magic(path: str) -> str | None:
    return _MAGIC.get(read_range(path, 0, 4))


def _of_format(listing: list[tuple[str, int]], kind: str) -> list[tuple[str, int]]:
    """A folder's files of one format: those with its endings; where none has, those without any known ending."""
    known = [entry for entry in listing if _by_ending(entry[0]) == kind]
    return known or [entry for entry in listing if _by_ending(entry[0]) is None and not entry[0].endswith(QUERY_ENDING)]


def _hive(path: str) -> tuple[tuple[str, str], ...]:
    """The key=value folders of a path, outermost first."""
    parts = (re.fullmatch(r"([^=/]+)=([^/]*)", part) for part in path.split("/")[:-1])
    return tuple((part[1], urllib.parse.unquote(part[2])) for part in parts if part)


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file or folder"
    if isinstance(error, PermissionError):
        return "not readable: permission denied"
    return str(error.strerror or error).splitlines()[0]
