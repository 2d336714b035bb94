"""Finds the files of a source, local or behind an fsspec URL."""

import functools
import glob
import os
import posixpath
import re
import urllib.parse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.data.files import links, waiting
from pipeline.data.files.retries import NoSuchFile, failure, patiently
from pipeline.data.files.storage import Facts, errors_of, facts, facts_in, filesystem_of, is_url, read_range
from pipeline.errors import SourceError
from pipeline.events.findings import Finding
from pipeline.formatting import without_secrets

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


Entry = tuple[str, Facts | None]  # a path, and its facts where the listing contains them


class Listing(NamedTuple):
    """The files of one path, folder, glob or URL."""

    entries: list[Entry]  # in order
    listed: bool  # whether they come from a folder or a pattern
    aliases: Sequence[links.Alias] = ()  # links to folders that are already in the listing


@dataclass(frozen=True)
class File:
    """One file of a source."""

    path: str  # absolute path, or URL
    nbytes: int  # its size on disk
    hive: tuple[tuple[str, str], ...] = ()  # keys and values of its folders
    mark: int | str | None = None  # of its version, as in `Facts`


def cpu_count() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def find_files(source: str | Sequence[str], wanted_format: str) -> tuple[str, list[File], tuple[Finding, ...]]:
    """(format, files, notes) of a file, folder, glob, URL, or a list of them; the files of each item in order of their
    names.  A file with several names is listed once, with a note.

    SourceError: no such path, no data file in a folder, more than one format, a path given twice.
    """
    items = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    if not items:
        raise SourceError("data.source is an empty list: name at least one file")
    found = [(str(item), patiently(functools.partial(_expand, os.fspath(item)), str(item))) for item in items]
    kind = _format(found, wanted_format)
    entries: list[Entry] = []
    for item, listing in found:
        kept = _of_format(listing.entries, kind) if listing.listed else listing.entries
        if not kept:
            raise SourceError(f"{item}: holds no {_NAMES[kind]} files")
        entries += kept
    seen: set[str] = set()
    for path, _ in entries:
        _check_name(path)
        if path in seen:
            raise SourceError(f"{path}: given twice in data.source; its rows would count double")
        seen.add(path)
    once, aliases = links.each_once([path for path, known in entries if known is None])
    files = [_file(path, known) for path, known in entries if known is not None or path in once]
    note = links.note([*(alias for _, listing in found for alias in listing.aliases), *aliases])
    return kind, files, () if note is None else (note,)


def _check_name(path: str) -> None:
    """SourceError for a name that is not UTF-8: neither JSON nor a message between processes can hold it."""
    try:
        path.encode()
    except UnicodeEncodeError:
        name = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise SourceError(f"{name}: the name is not UTF-8 text; rename the file or folder") from None


def _file(path: str, known: Facts | None) -> File:
    if known is None:
        known = patiently(functools.partial(facts, path), path)
        if not os.path.isfile(path):  # opening a pipe would wait for ever
            raise SourceError(f"{path}: not a regular file")
    return File(path, known.nbytes, _hive(path), known.mark)


def relative_names(files: Sequence[File]) -> list[str]:
    """The files' distinct names relative to their common folder, as fingerprints use them.

    They hold no password and no query of a URL, so that a new signature does not change a file's name.
    """
    paths = [without_secrets(file.path) for file in files]
    folders = {posixpath.dirname(path) for path in paths}
    root = posixpath.commonpath(folders) if len(folders) > 1 else folders.pop()
    names = [path[len(root) :].lstrip("/") for path in paths]
    if len({*names}) == len(names):
        return names
    seen: Counter[str] = Counter()
    for place, name in enumerate(names):  # files that differ only in their queries
        seen[name] += 1
        names[place] = f"{name} ({seen[name]})" if seen[name] > 1 else name
    return names


def _expand(item: str) -> Listing:
    """Lists the files of one path, folder, glob or URL."""
    if item.startswith("file://"):
        item = urllib.parse.unquote(item.removeprefix("file://"))
    if is_url(item):
        return _expand_url(item)
    path = os.path.abspath(os.path.expanduser(item))
    aliases: list[links.Alias] = []
    if os.path.isdir(path):
        names, aliases = links.walk(path, _hidden)
        paths, listed = _ordered(names), True
        if not paths:
            raise SourceError(f"{item}: an empty folder")
    elif os.path.lexists(path):
        paths, listed = [path], False
    else:
        paths = _ordered(name for name in glob.glob(path, recursive=True) if not os.path.isdir(name))
        listed = True
        if not paths:
            what = "no file matches" if glob.has_magic(path) else "no such file or folder"
            raise SourceError(f"{item}: {what}")
    return Listing([(name, None) for name in paths], listed, aliases)


def _expand_url(url: str) -> Listing:
    filesystem, path = filesystem_of(url)
    with errors_of(url):
        listed = True
        if glob.has_magic(path):
            found = waiting.answer(lambda: filesystem.glob(path), url, limit=waiting.LISTING_SECONDS)
            names = [name for name in found if _kind(filesystem, name) == "file"]
        elif _kind(filesystem, path) == "file":
            names, listed = [path], False
        else:
            names = waiting.answer(lambda: filesystem.find(path), url, limit=waiting.LISTING_SECONDS)
        names = [name for name in _ordered(names) if not listed or not _hidden(name[len(path) :])]
        if not names:
            what = "an empty folder" if _kind(filesystem, path) else "no such file or folder"
            raise SourceError(f"{url}: {what}")
        paths = [_url_of(name, url, path) for name in names]
        entries: list[Entry] = [
            (path, facts_in(path, _info(filesystem, name))) for path, name in zip(paths, names, strict=True)
        ]
    return Listing(entries, listed)


def _url_of(name: str, url: str, path: str) -> str:
    """The URL of the file at `path` in the filesystem of `url`.

    The other parts of `url` (host, user, cache, archive) are kept.

    >>> _url_of("/data/x.csv", "sftp://me@host/data", "/data"), _url_of("bucket/x.csv", "s3://bucket/*.csv", "bucket/*.csv")
    ('sftp://me@host/data/x.csv', 's3://bucket/x.csv')
    >>> _url_of("x.csv", "zip://*.csv::s3://bucket/x.zip", "*.csv"), _url_of("/x.csv", "ftp://host/", "/")
    ('zip://x.csv::s3://bucket/x.zip', 'ftp://host/x.csv')
    """
    if "://" in name:
        return name
    links = url.split("::")  # of a chain: the path belongs to the first link that has a path
    place = next(number for number, link in enumerate(links) if "://" in link)
    scheme, _, tail = links[place].partition("://")
    tail = tail.rstrip("/")
    shared = len(posixpath.commonprefix([tail[::-1], path[::-1]]))  # length of the common ending
    before, inner = tail[: len(tail) - shared], path[: len(path) - shared]
    rest = name.removeprefix(inner)
    if not before:
        rest = name if scheme in ("file", "local") else name.lstrip("/")  # paths behind a cache start at the root
    elif rest and not shared:
        rest = f"/{rest.lstrip('/')}"
    links[place] = f"{scheme}://{before}{rest}"
    return "::".join(links)


def _bare(path: str) -> str:
    """A path; of a URL the part after the server, without the query: neither server nor query names a folder or a
    format.

    Of a chain the link that has the path: a file in an archive does not have the archive's format.
    """
    path = next((link for link in path.split("::") if "://" in link), path)
    if not path.startswith(("http://", "https://")):
        return path
    return urllib.parse.urlsplit(path).path


def _info(filesystem: Any, path: str) -> dict[str, Any]:
    told: dict[str, Any] = waiting.answer(lambda: filesystem.info(path), path)
    return told


def _kind(filesystem: Any, path: str) -> str | None:
    """file or directory; None where neither exists.  fsspec's own `isfile` and `isdir` answer False on every error."""
    try:
        return str(_info(filesystem, path)["type"])
    except FileNotFoundError as error:
        if not isinstance(failure(path, error), NoSuchFile):
            raise
        return None


def _hidden(path: str) -> bool:
    """Whether the name marks something that is not data: _SUCCESS, _metadata, .part-0.crc, .ipynb_checkpoints/..."""
    return any(part[0] in "._" and "=" not in part for part in path.split("/") if part)


def _ordered(paths: Any) -> list[str]:
    return sorted(paths, key=lambda path: path.split("/"))


_MODEL_FILES = ("manifest.json", "model.ubj")  # as in pipeline.model.folder, which imports this package


def _format(found: list[tuple[str, Listing]], wanted: str) -> str:
    """The requested format, or the format of the files' endings (else of their first bytes)."""
    if wanted != "auto":
        return wanted
    paths = [path for _, listing in found for path, _ in listing.entries]
    kinds = {kind for kind in map(_by_ending, paths) if kind is not None}
    if not kinds:
        kinds = {kind for kind in map(_by_magic, paths[:8]) if kind is not None}
    if len(kinds) == 1:
        return kinds.pop()
    if kinds:
        names = " and ".join(_NAMES[kind] for kind in sorted(kinds))
        raise SourceError(f"{found[0][0]}: {names} files together; choose one with data.format")
    for named, listing in found:
        if {os.path.basename(path) for path, _ in listing.entries}.issuperset(_MODEL_FILES):
            folder = next(os.path.dirname(path) for path, _ in listing.entries if path.endswith("manifest.json"))
            what = "a model folder, no data: open it"
            if not os.path.exists(os.path.join(named, "manifest.json")):
                what = f"holds a model folder, {folder}, and no data: open that"
            raise SourceError(f"{named}: {what} with pipeline.Model.load(...), or `pipeline describe` in a shell")
    raise SourceError(f"{found[0][0]}: no Parquet, CSV, Feather or LIBSVM files by their endings; set data.format")


def _by_ending(path: str) -> str | None:
    name = _bare(path).lower()
    return next((kind for kind, endings in ENDINGS.items() if name.endswith(endings)), None)


def _by_magic(path: str) -> str | None:
    if not is_url(path) and not os.path.isfile(path):  # a pipe or a dangling link has no first bytes
        return None
    return _MAGIC.get(patiently(lambda: read_range(path, 0, 4), path))


def _of_format(listing: list[Entry], kind: str) -> list[Entry]:
    """A folder's files of one format: those with its endings; if none has, those without any known ending."""
    known = [entry for entry in listing if _by_ending(entry[0]) == kind]
    return known or [entry for entry in listing if _by_ending(entry[0]) is None and not entry[0].endswith(QUERY_ENDING)]


def _hive(path: str) -> tuple[tuple[str, str], ...]:
    """The key=value folders of a path, outermost first."""
    parts = (re.fullmatch(r"([^=/]+)=([^/]*)", part) for part in _bare(path).split("/")[:-1])
    return tuple((part[1], urllib.parse.unquote(part[2])) for part in parts if part)
