"""Surveys one file before its rows are read: what the survey of every format returns."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from pipeline.data.files.listing import File
from pipeline.data.files.retries import patiently
from pipeline.data.files.storage import read_range
from pipeline.data.fragments import Piece
from pipeline.errors import AccessError, SourceError
from pipeline.events.findings import UserNote
from pipeline.formatting import one_line, without_secrets

END_NBYTES = 64 << 10


@dataclass(frozen=True)
class FileSurvey:
    """One file: its columns, and the smallest pieces that can be read alone."""

    file: File
    schema: pa.Schema
    pieces: tuple[Piece, ...]
    digest: bytes  # of the file's own metadata, for the source's fingerprint
    readable: bool = True  # False: its columns are unknown, and it is one bad piece
    notes: tuple[UserNote, ...] = ()  # for the user


def survey_file(file: File, look: Callable[[File], FileSurvey], skip_bad: bool) -> FileSurvey:
    """What `look(file)` returns; with `skip_bad`, a file whose metadata cannot be read is one bad piece."""
    seen = attempt(lambda: _named(look(file)), file.path, file.path, skip_bad)
    return bad_file(file, seen) if isinstance(seen, str) else seen


def _named(item: FileSurvey) -> FileSurvey:
    """UnicodeDecodeError where the name of a column is not UTF-8 text."""
    _ = item.schema.names  # decodes them
    return item


@contextlib.contextmanager
def library_errors(path: str) -> Iterator[None]:
    """Converts any error that a library raises for the content of a file, however damaged, into an error of that file.

    The library's message is left out: it may hold values.
    """
    try:
        yield
    except (pa.ArrowException, UnicodeError, OverflowError) as error:
        raise SourceError(f"{path}: damaged: its content cannot be decoded ({type(error).__name__})") from None


def attempt[Seen](look: Callable[[], Seen], path: str, where: str, skip_bad: bool) -> Seen | str:
    """What `look()` returns, retried after a storage hiccup; `where` names what is read.

    With `skip_bad`, the reason as a text if the content is at fault; else SourceError.
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


def bad_file(file: File, reason: str) -> FileSurvey:
    """A file that cannot be read at all."""
    piece = Piece(file.path, None, None, None, max(1, file.nbytes), file.hive, bad=reason)
    digest = patiently(lambda: ends_digest(file), file.path)
    return FileSurvey(file, pa.schema([]), (piece,), digest, readable=False)


def reason_in(path: str, error: SourceError) -> str:
    """A reader's error message without the file's name."""
    return str(error).removeprefix(f"{one_line(without_secrets(path))}: ")


def ends_digest(file: File) -> bytes:
    """SHA-256 of the file's first and last 64 KiB: with the size, a quick fingerprint of the content."""
    digest = hashlib.sha256(read_range(file.path, 0, END_NBYTES))
    digest.update(read_range(file.path, max(END_NBYTES, file.nbytes - END_NBYTES), file.nbytes))
    return digest.digest()
