"""What one file says about itself before its rows are read: what every format's survey gives."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from pipeline.data.files.files import File
from pipeline.data.files.retries import patiently
from pipeline.data.files.storage import read_range
from pipeline.data.fragments import Piece
from pipeline.errors import AccessError, SourceError
from pipeline.events.findings import UserNote
from pipeline.formatting import one_line, without_secrets

END_NBYTES = 64 << 10


@dataclass(frozen=True)
class Surveyed:
    """One file: its columns, and the smallest pieces that can be read alone."""

    file: File
    schema: pa.Schema
    pieces: tuple[Piece, ...]
    digest: bytes  # of what the file says about its data, for the source's fingerprint
    readable: bool = True  # False: its columns are not known, and it is one bad piece
    notes: tuple[UserNote, ...] = ()  # what a user should know of it


def survey_file(file: File, look: Callable[[File], Surveyed], skip_bad: bool) -> Surveyed:
    """What `look(file)` gives; with `skip_bad`, a file that says nothing sensible about itself is one bad piece."""
    seen = attempt(lambda: _named(look(file)), file.path, file.path, skip_bad)
    return bad_file(file, seen) if isinstance(seen, str) else seen


def _named(item: Surveyed) -> Surveyed:
    """UnicodeDecodeError where the name of a column is not UTF-8 text."""
    _ = item.schema.names  # decodes them
    return item


@contextlib.contextmanager
def library_errors(path: str) -> Iterator[None]:
    """What a library raises for the content of a file, however damaged, is an error of that file.

    Its own words are left out: they may hold values.
    """
    try:
        yield
    except (pa.ArrowException, UnicodeError, OverflowError) as error:
        raise SourceError(f"{path}: damaged: its content cannot be decoded ({type(error).__name__})") from None


def attempt[Seen](look: Callable[[], Seen], path: str, where: str, skip_bad: bool) -> Seen | str:
    """What `look()` gives, tried again where storage has a hiccup; `where` names what is looked at.

    With `skip_bad`, the reason in words where the content is at fault; else SourceError.
    """

    def looked() -> Seen:
        with library_errors(path):
            return look()

    try:
        return patiently(looked, where)
    except AccessError:
        raise
    except SourceError as error:
        if not skip_bad:
            raise
        return reason_in(path, error)


def bad_file(file: File, reason: str) -> Surveyed:
    """A file that cannot be read at all."""
    piece = Piece(file.path, None, None, None, max(1, file.nbytes), file.hive, bad=reason)
    digest = patiently(lambda: ends_digest(file), file.path)
    return Surveyed(file, pa.schema([]), (piece,), digest, readable=False)


def reason_in(path: str, error: SourceError) -> str:
    """What a reader's error says besides the file's name."""
    return str(error).removeprefix(f"{one_line(without_secrets(path))}: ")


def ends_digest(file: File) -> bytes:
    """SHA-256 of the file's first and last 64 KiB: with the size, a quick mark of what is in it."""
    digest = hashlib.sha256(read_range(file.path, 0, END_NBYTES))
    digest.update(read_range(file.path, max(END_NBYTES, file.nbytes - END_NBYTES), file.nbytes))
    return digest.digest()
