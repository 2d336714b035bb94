"""Reads the first lines of a CSV file: where its rows begin, the names of its columns, whether it is text at all."""

import codecs
import csv
from dataclasses import dataclass

from pipeline.config.job import CsvOptions
from pipeline.data.files.storage import read_range
from pipeline.data.formats import text
from pipeline.errors import SourceError


@dataclass(frozen=True)
class CsvLayout:
    """Where a file's rows begin, and the names of its columns."""

    names: tuple[str, ...]
    start: int  # bytes before the first row (after a byte order mark)
    separator: str
    header: bytes = b""  # the header's line as UTF-8 text, without its line end; empty without a header
    lines_before: int = 0  # lines before the first row
    unnamed: tuple[str, ...] = ()  # names made from the position: column 3


def read_layout(path: str, options: CsvOptions) -> CsvLayout:
    """The names in a file's header, or those given for files without one."""
    start = text.head(path)
    if not start:
        raise SourceError(f"{path}: an empty file")
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise SourceError(f"{path}: UTF-16 text; convert it to UTF-8")
    separator = "\t" if options.separator == "," and ".tsv" in path.lower()[-8:] else options.separator
    line, after = _first_line(start, options)
    _check_line(path, start, line)
    fields = _fields(path, line, separator, options)
    if options.header and _has_one_more(path, _first_line(start[after:], options)[0], separator, options, len(fields)):
        fields = [*fields, ""]
    names, unnamed = _names(path, fields, options)
    if not options.header:
        return CsvLayout(names, 0, separator, unnamed=unnamed)
    mark = len(text.BOM) if _has_mark(path) else 0
    header = _decoded(path, line, options).encode()
    return CsvLayout(names, mark + after, separator, header, start.count(b"\n", 0, after), unnamed)


def _names(path: str, fields: list[str], options: CsvOptions) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(the names of all columns, those that only give the position)."""
    given = options.columns
    if given:
        surplus = len(fields) == len(given) + 1 and not fields[-1].strip()  # lines that end with a separator
        if len(fields) != len(given) and not surplus:
            raise SourceError(
                f"{path}: {len(given)} names in data.csv.columns, but {len(fields)} values in the first row"
            )
        names = [*given, *([""] if surplus else [])]
    elif options.header:
        names = [name.strip() for name in fields]
    else:
        names = [f"c{place}" for place in range(1, len(fields) + 1)]
    unnamed = tuple(f"column {place}" for place, name in enumerate(names, start=1) if not name)
    names = [name or f"column {place}" for place, name in enumerate(names, start=1)]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SourceError(f"{path}: two columns are named {twice!r}; without a header, set data.csv.header = false")
    return tuple(names), unnamed


def _check_line(path: str, start: bytes, line: bytes) -> None:
    """SourceError where the first line shows that lines cannot be found in the file."""
    if b"\r" in line and b"\n" not in start:
        raise SourceError(f"{path}: its line ends are CR alone: convert them to LF, e.g. with tr '\\r' '\\n'")
    if b"\0" in line:
        raise SourceError(
            f"{path}: line 1 holds NUL bytes: not CSV, or UTF-16 text, which has to be converted to UTF-8"
        )


def _decoded(path: str, line: bytes, options: CsvOptions) -> str:
    try:
        return line.decode(options.encoding)
    except UnicodeError:
        raise not_decoded(path, 1, options) from None


def is_utf8(options: CsvOptions) -> bool:
    return codecs.lookup(options.encoding).name == "utf-8"


def not_decoded(path: str, line: int, options: CsvOptions) -> SourceError:
    """The error for a line whose bytes are not valid in the encoding."""
    if is_utf8(options):
        advice = 'convert the file to UTF-8, or set data.csv.encoding, e.g. "cp1252" or "latin-1"'
        return SourceError(f"{path}: line {line}: not UTF-8 text; {advice}")
    return SourceError(
        f"{path}: line {line}: not {options.encoding} text; set data.csv.encoding to the file's encoding"
    )


def _fields(path: str, line: bytes, separator: str, options: CsvOptions) -> list[str]:
    try:
        return next(csv.reader([_decoded(path, line, options)], delimiter=separator), [])
    except csv.Error:  # a carriage return in the middle, a value of more than 128 KiB
        raise SourceError(f"{path}: the first line cannot be split into values at {separator!r}") from None


def _has_one_more(path: str, line: bytes, separator: str, options: CsvOptions, count: int) -> bool:
    """Whether a row ends with a separator that the header, of `count` names, lacks."""
    if not line.endswith(separator.encode()):
        return False
    try:
        return len(_fields(path, line, separator, options)) == count + 1
    except SourceError:  # reported when the rows are read
        return False


def _has_mark(path: str) -> bool:
    return text.compression(path) is None and read_range(path, 0, 3) == text.BOM


def _first_line(start: bytes, options: CsvOptions) -> tuple[bytes, int]:
    """(the first line that is neither empty nor a comment, the offset behind it)."""
    comment = options.comment.encode(options.encoding, "replace")
    place = 0
    while place < len(start):
        end = start.find(b"\n", place)
        end = len(start) if end < 0 else end + 1
        line = start[place:end].strip(b"\r\n")
        if line.strip() and not (comment and line.startswith(comment)):
            return line, end
        place = end
    return b"", len(start)
