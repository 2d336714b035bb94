"""Reads the bytes of files, local or behind an fsspec URL.

Local files never go through fsspec: its import costs more than reading the footers of a hundred files.
Every error of storage leaves this module as an AccessError or a Hiccup (see retries.py).
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.data.files import waiting
from pipeline.data.files.retries import NoSuchFile, failure
from pipeline.errors import AccessError, SourceError, interrupt_behind

# The reference files of this protocol hold Jinja templates, which some fsspec releases that we support render without a
# sandbox.
REFUSED_PROTOCOLS = frozenset({"reference"})
_MARKS = ("ETag", "etag", "mtime")  # fields by which filesystems report a file's version without reading it


@dataclass(frozen=True)
class Facts:
    """What storage reports about a file without reading it."""

    nbytes: int
    mark: int | str | None  # changes when the file does: modification time in ns; ETag of a URL; None: not reported


class Handle:
    """An open file that raises this module's errors; offers what Arrow and the text readers need of a file.

    As a context manager it raises its own error at exit, if it had one, whatever its reader made of that error: Arrow
    reports some of them as damage.
    """

    def __init__(self, path: str, file: Any, filesystem: Any = None) -> None:
        """`filesystem` is kept as long as the file is open: an archive's filesystem closes its files when it is
        collected.
        """
        self._path, self._file, self._filesystem = path, file, filesystem
        self._error: BaseException | None = None

    def read(self, nbytes: int = -1) -> bytes:
        if not is_url(self._path):
            return self._try(self._file.read, nbytes)
        size = nbytes if nbytes >= 0 else getattr(self._file, "size", None) or 0
        return self._try(lambda: waiting.answer(lambda: self._file.read(nbytes), self._path, size))

    def seek(self, place: int, whence: int = 0) -> int:
        return self._try(self._file.seek, place, whence)

    def tell(self) -> int:
        return self._try(self._file.tell)

    def close(self) -> None:
        self._try(self._file.close)

    @property
    def closed(self) -> bool:
        return bool(self._file.closed)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def __enter__(self) -> "Handle":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            self.close()
            return
        with contextlib.suppress(Exception):  # an error is being raised already
            self.close()
        if self._error is not None:
            raise self._error from None

    def _try(self, function: Callable[..., Any], *arguments: int) -> Any:
        try:
            return function(*arguments)
        except Exception as error:  # filesystems raise errors of their libraries
            self._error = interrupt_behind(error) or failure(self._path, error)
            raise self._error from None


@contextlib.contextmanager
def errors_of(path: str) -> Iterator[None]:
    """Converts storage errors raised inside into this module's errors for the file or folder of this name."""
    try:
        yield
    except Exception as error:  # filesystems raise errors of their libraries
        raise interrupt_behind(error) or failure(path, error) from None


def is_url(path: str) -> bool:
    return "://" in path


def filesystem_of(url: str) -> tuple[Any, str]:
    """(an fsspec filesystem, the path in it); SourceError where no filesystem handles such URLs."""
    import fsspec

    protocols = {part.partition("://")[0] for part in url.split("::")}
    if refused := sorted(protocols & REFUSED_PROTOCOLS):
        raise SourceError(f"{url}: {refused[0]} URLs are refused: what they name can hold code")
    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise SourceError(f"{url}: {str(error).splitlines()[0]}") from None


def facts(path: str) -> Facts:
    """Current size and mark of a file; AccessError where it does not exist."""
    if not is_url(path):
        try:
            status = os.stat(path)
        except (OSError, ValueError) as error:
            raise _dangling(path) or failure(path, error) from None
        return Facts(status.st_size, status.st_mtime_ns)
    filesystem, inner = filesystem_of(path)
    with errors_of(path):
        filesystem.invalidate_cache(inner)  # the cached listing may be out of date
        return facts_in(path, waiting.answer(lambda: filesystem.info(inner), path))


def _dangling(path: str) -> AccessError | None:
    """The message about a link whose target does not exist."""
    if not os.path.islink(path) or os.path.exists(path):
        return None
    return NoSuchFile(f"{path}: a link to {os.readlink(path)}, which does not exist")


def facts_in(path: str, info: Mapping[str, Any]) -> Facts:
    """Size and mark from an fsspec filesystem's info of a file."""
    if info.get("size") is None:
        raise AccessError(f"{path}: the server does not report the file's size")
    mark = next((str(info[name]) for name in _MARKS if info.get(name) is not None), None)
    return Facts(int(info["size"]), None if mark is None else mark.removeprefix("W/").strip('"'))


def open_file(path: str) -> Handle:
    """The file, opened for reading bytes."""
    if is_url(path):
        filesystem, inner = filesystem_of(path)
        with errors_of(path):
            return Handle(path, waiting.answer(lambda: filesystem.open(inner, "rb"), path), filesystem)
    with errors_of(path):
        return Handle(path, open(path, "rb", buffering=0))


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
    """Whether the file exists; False where a server refuses to answer."""
    if not is_url(path):
        return os.path.exists(path)
    try:
        facts(path)
    except AccessError:  # not fsspec's own `exists`, which is False on every error
        return False
    return True
