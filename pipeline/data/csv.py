"""CSV: columns, types that hold for every byte range of every file, and reading.

The types come from a pass over the whole source, block by block, joined by rules that do not depend on where the
blocks are cut: whole numbers that meet fractions become float64, dates that meet times become times, and whatever
else meets something different is text.  So the same text has the same type wherever it stands.  The pass also
counts the rows and finds ragged lines and bad encoding before anything else starts.

Blanks around values mean nothing.  Empty lines are skipped.
"""

import csv
import functools
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.types as pt

from pipeline.data import text
from pipeline.data.files import File, cpu_count
from pipeline.data.fragments import Piece, target_nbytes
from pipeline.data.retries import patiently
from pipeline.data.storage import read_range
from pipeline.data.survey import Surveyed, attempt, ends_digest, survey_file
from pipeline.data.unify import TEXT_CODES, common, normalise
from pipeline.errors import SourceError
from pipeline.job import CsvOptions


@dataclass(frozen=True)
class Layout:
    """Where a file's rows begin, and what its columns are called."""

    names: tuple[str, ...]
    start: int  # bytes before the first row (after a byte order mark)
    separator: str


@dataclass(frozen=True)
class _Found:
    """What one piece holds."""

    kinds: dict[str, pa.DataType]
    rows: int


def join(left: pa.DataType, right: pa.DataType) -> pa.DataType:
    """The type for texts of both types; text holds everything.  Associative and commutative."""
    if left == right or pt.is_null(right):
        return left
    if pt.is_null(left):
        return right
    if any(pt.is_boolean(kind) or kind == pa.string() for kind in (left, right)):
        return pa.string()
    return common(left, right) or pa.string()


def survey(
    files: Sequence[File],
    options: CsvOptions,
    fragment_nbytes: int,
    types: pa.Schema | None = None,
    skip_bad: bool = False,
) -> list[Surveyed]:
    """Names, types, rows and byte ranges of all files; `types` known beforehand are not looked for."""
    total = sum(patiently(functools.partial(text.text_nbytes, file), file.path) for file in files)
    target = target_nbytes(total, fragment_nbytes)
    known = _known(types)
    begin = functools.partial(_begin, options=options, target=target, known=known)
    begun = [survey_file(file, begin, skip_bad) for file in files]
    pieces = [piece for item in begun if item.readable for piece in item.pieces]
    if all(name in known for item in begun for name in item.schema.names):
        return begun
    found = iter(_in_threads(functools.partial(_infer, options=options, known=known, skip_bad=skip_bad), pieces))
    surveys = []
    for item in begun:
        if not item.readable:
            surveys.append(item)
            continue
        kinds = {name: item.schema.field(name).type for name in item.schema.names}
        counted = []
        for piece in item.pieces:
            seen = next(found)
            if isinstance(seen, _Found):
                kinds |= {name: join(kinds[name], kind) for name, kind in seen.kinds.items()}
                counted.append(replace(piece, rows=seen.rows))
            else:
                counted.append(replace(piece, bad=seen))
        known_kinds = not all(piece.bad for piece in counted) or not counted
        surveys.append(replace(item, schema=pa.schema(kinds), pieces=_numbered(counted), readable=known_kinds))
    return surveys


def _begin(file: File, options: CsvOptions, target: int, known: dict[str, pa.DataType]) -> Surveyed:
    """The file with the types that are known, null for the others, and with its rows not counted."""
    layout = read_layout(file.path, options)
    schema = pa.schema([(name, known.get(name, pa.null())) for name in layout.names])
    return Surveyed(file, schema, tuple(_pieces(file, layout, options, target)), ends_digest(file))


def _known(types: pa.Schema | None) -> dict[str, pa.DataType]:
    kinds = {} if types is None else {item.name: normalise(item.type) for item in types}
    return {name: kind for name, kind in kinds.items() if kind is not None and not pt.is_null(kind)}


def _numbered(pieces: list[Piece]) -> tuple[Piece, ...]:
    first_row = 0
    numbered = []
    for piece in pieces:
        numbered.append(replace(piece, first_row=first_row))
        first_row += piece.rows or 0
    return tuple(numbered)


def _in_threads(function: Any, items: Sequence[Any]) -> list[Any]:
    if len(items) == 1:
        return [function(items[0])]
    with ThreadPoolExecutor(min(len(items), cpu_count())) as threads:
        return list(threads.map(function, items))


def _pieces(file: File, layout: Layout, options: CsvOptions, target: int) -> list[Piece]:
    """Byte ranges where lines can be told without reading from the start; the whole file otherwise."""
    nbytes = text.text_nbytes(file)
    if text.compression(file.path) is not None:
        return [Piece(file.path, None, None, None, nbytes, file.hive)]
    whole = options.newlines_in_quotes
    ranges = [(layout.start, file.nbytes)] if whole else text.cut_lines(file.path, layout.start, file.nbytes, target)
    return [Piece(file.path, None, item, None, item[1] - item[0], file.hive) for item in ranges]


def read_layout(path: str, options: CsvOptions) -> Layout:
    """The names in a file's header, or those given for files without one."""
    start = text.head(path)
    if not start:
        raise SourceError(f"{path}: an empty file")
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise SourceError(f"{path}: UTF-16 text; convert it to UTF-8")
    separator = "\t" if options.separator == "," and ".tsv" in path.lower()[-8:] else options.separator
    line, after = _first_line(start, options.comment)
    try:
        fields = next(csv.reader([line.decode()], delimiter=separator), [])
    except UnicodeDecodeError:
        raise SourceError(f"{path}: line 1: not UTF-8 text; convert the file to UTF-8") from None
    if not options.header:
        if len(fields) != len(options.columns):
            raise SourceError(
                f"{path}: {len(options.columns)} names in data.csv.columns, but {len(fields)} values in the first row"
            )
        return Layout(tuple(options.columns), 0, separator)
    names = tuple(name.strip() for name in fields)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SourceError(f"{path}: two columns are named {twice!r}; without a header, say data.csv.header = false")
    mark = len(text.BOM) if _has_mark(path) else 0
    return Layout(names, mark + after, separator)


def _has_mark(path: str) -> bool:
    return text.compression(path) is None and read_range(path, 0, 3) == text.BOM


def _first_line(start: bytes, comment: str) -> tuple[bytes, int]:
    """(the first line that is neither empty nor a comment, the offset behind it)."""
    place = 0
    while place < len(start):
        end = start.find(b"\n", place)
        end = len(start) if end < 0 else end + 1
        line = start[place:end].strip(b"\r\n")
        if line.strip() and not (comment and line.startswith(comment.encode())):
            return line, end
        place = end
    return b"", len(start)


def _blocks(piece: Piece, layout: Layout, options: CsvOptions) -> Iterator[bytes]:
    """The piece's rows as blocks of whole lines; comments are blanked, so that lines keep their numbers."""
    quoted = options.newlines_in_quotes
    comment = re.compile(rb"(?m)^" + re.escape(options.comment.encode()) + rb"[^\n]*") if options.comment else None
    for index, block in enumerate(text.blocks(piece.path, piece.byte_range, quoted=quoted)):
        if index == 0 and (piece.byte_range is None or piece.byte_range[0] == 0):
            mark = len(text.BOM) if block.startswith(text.BOM) else 0
            skipped = mark + (layout.start if piece.byte_range is None else 0)
            # The header becomes empty lines: offsets change, numbers of lines do not.
            block = b"\n" * block.count(b"\n", 0, skipped) + block[skipped:]
        yield comment.sub(b"", block) if comment and comment.search(block) else block


def _infer(piece: Piece, options: CsvOptions, known: dict[str, pa.DataType], skip_bad: bool) -> _Found | str:
    """The types and the number of the piece's rows; why it cannot be read, where bad pieces are skipped."""
    return attempt(lambda: _look(piece, options, known), piece.path, piece.place(), skip_bad)


def _look(piece: Piece, options: CsvOptions, known: dict[str, pa.DataType]) -> _Found:
    """The types and the number of the piece's rows."""
    layout = read_layout(piece.path, options)
    kinds: dict[str, pa.DataType] = {}
    rows = 0
    wanted = [name for name in layout.names if name not in known]
    types = {} if wanted else {layout.names[0]: pa.string()}  # one column is enough to count
    for index, block in enumerate(_blocks(piece, layout, options)):
        table = _parse(piece, index, block, layout, options, types, wanted or list(types))
        rows += table.num_rows
        if not wanted:
            continue
        for field in table.schema:
            kind = field.type
            if pt.is_time(kind) or pt.is_duration(kind):
                kind = pa.string()
            kinds[field.name] = join(kinds.get(field.name, pa.null()), kind)
    return _Found(kinds, rows)


def read(piece: Piece, schema: pa.Schema, options: CsvOptions) -> pa.Table:
    """The columns of `schema` that the file has, as those types; without any of them still the number of rows."""
    layout = read_layout(piece.path, options)
    types = {item.name: pa.string() if item.type == TEXT_CODES else item.type for item in schema}
    stored = set(layout.names)
    wanted = [name for name in schema.names if name in stored]
    types = {name: types[name] for name in wanted} or {layout.names[0]: pa.string()}
    tables = [
        _parse(piece, index, block, layout, options, types, list(types))
        for index, block in enumerate(_blocks(piece, layout, options))
    ]
    tables = [table for table in tables if table.num_rows]
    return pa.concat_tables(tables) if tables else pa.schema(types.items()).empty_table()


def count(piece: Piece, options: CsvOptions) -> int:
    """How many rows the piece has."""
    return read(piece, pa.schema([]), options).num_rows


def _parse(
    piece: Piece,
    index: int,
    block: bytes,
    layout: Layout,
    options: CsvOptions,
    types: dict[str, pa.DataType],
    wanted: list[str],
) -> pa.Table:
    """One block as a table of the wanted columns; types that are not given are inferred."""
    _check_encoding(piece, index, block)
    ragged: list[Any] = []

    def note(row: Any) -> str:
        ragged.append(row)
        return "error"

    try:
        table = pacsv.read_csv(
            pa.BufferReader(block),
            pacsv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=list(layout.names)),
            pacsv.ParseOptions(delimiter=layout.separator, newlines_in_values=True, invalid_row_handler=note),
            _convert_options(options, types, wanted),
        )
    except pa.ArrowInvalid as error:
        if ragged:
            raise _ragged(piece, index, block, ragged[0]) from None
        if "Empty CSV" in str(error):
            return pa.schema([(name, types.get(name, pa.null())) for name in wanted]).empty_table()
        raise _misfit(piece, index, block, layout, options, types) from None
    return _trim(table) if _has_blanks(block, layout.separator) else table


def _convert_options(options: CsvOptions, types: dict[str, pa.DataType], wanted: list[str]) -> pacsv.ConvertOptions:
    missing = {f"{before}{word}{after}" for word in options.missing for before in ("", " ") for after in ("", " ")}
    return pacsv.ConvertOptions(
        column_types=types,
        include_columns=wanted,
        null_values=sorted(missing),
        strings_can_be_null=True,
        check_utf8=False,  # done already
    )


def _has_blanks(block: bytes, separator: str) -> bool:
    """Whether any value may begin or end with a blank; far cheaper to see than to trim."""
    mark = separator.encode()
    signs = (mark + b" ", b" " + mark, b"\n ", b" \n", b" \r", b'" ', b' "')
    return block[:1] == b" " or block[-1:] == b" " or any(sign in block for sign in signs)


def _trim(table: pa.Table) -> pa.Table:
    for place, item in enumerate(table.schema):
        if item.type == pa.string():
            table = table.set_column(place, item, pc.utf8_trim(table.column(place), characters=" "))
    return table


def _ragged(piece: Piece, index: int, block: bytes, row: Any) -> SourceError:
    # The row itself is looked for: Arrow's own count leaves out empty lines.
    found = re.search(rb"(?m)^" + re.escape(row.text.encode()) + rb"\r?$", block)
    line = text.line_number(piece.path, piece.byte_range, index, block.count(b"\n", 0, found.start() if found else 0))
    return SourceError(
        f"{piece.path}: line {line}: {row.actual_columns} values where {row.expected_columns} columns are; if quoted "
        f"values hold line breaks, set data.csv.newlines_in_quotes = true"
    )


def _check_encoding(piece: Piece, index: int, block: bytes) -> None:
    """SourceError where the text is not UTF-8; ahead of parsing, for Arrow says it of some rows only."""
    if block.isascii():
        return
    try:
        block.decode()
    except UnicodeDecodeError as error:
        line = text.line_number(piece.path, piece.byte_range, index, block.count(b"\n", 0, error.start))
        raise SourceError(f"{piece.path}: line {line}: not UTF-8 text; convert the file to UTF-8") from None


def _misfit(
    piece: Piece, index: int, block: bytes, layout: Layout, options: CsvOptions, types: dict[str, pa.DataType]
) -> SourceError:
    """Which column a block's conversion failed for: each is tried alone."""
    for name, kind in types.items():
        try:
            pacsv.read_csv(
                pa.BufferReader(block),
                pacsv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=list(layout.names)),
                pacsv.ParseOptions(delimiter=layout.separator, newlines_in_values=True),
                _convert_options(options, {name: kind}, [name]),
            )
        except pa.ArrowInvalid:
            return SourceError(f"{piece.path}: column {name!r} holds values that are not {kind}")
    return SourceError(f"{piece.path}: not a readable CSV file")
