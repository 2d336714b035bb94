"""Splits CSV text into blocks: from the bytes of a file to Arrow tables, and the lines of what cannot be read."""

import functools
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from pipeline.config.job import CsvOptions
from pipeline.data.formats import text
from pipeline.data.formats.bisection import first_misfit
from pipeline.data.formats.csv_layout import CsvLayout, is_utf8, not_decoded
from pipeline.data.fragments import Piece
from pipeline.errors import SourceError

_NEAR = 16  # rows that are found quickly by scanning the lines
_LONGEST_PADDED = 40  # digits; a longer value may be a number


class CsvBlock:
    """Some whole lines of a piece as UTF-8 text, and the way back to their place in the file."""

    def __init__(self, piece: Piece, index: int, content: bytes, layout: CsvLayout, options: CsvOptions) -> None:
        self.piece, self.index, self.content = piece, index, content
        self.layout, self.options = layout, options

    def parse(self, types: dict[str, pa.DataType], wanted: list[str]) -> pa.Table:
        """The wanted columns; types that are not given are inferred.  SourceError names the line of what is wrong."""
        self._check_header()
        ragged: list[Any] = []

        def note(row: Any) -> str:
            ragged.append(row)
            return "error"

        try:
            table = self._read(self.content, list(self.layout.names), types, wanted, note)
        except pa.ArrowInvalid as error:
            if ragged:
                raise self._ragged(ragged[0]) from None
            if "Empty CSV" in str(error):
                return pa.schema([(name, types.get(name, pa.null())) for name in wanted]).empty_table()
            raise self._misfit(types) from None
        return _trim(table) if self._has_blanks() else table

    def texts(self, names: list[str]) -> pa.Table:
        """Columns as the texts in the file, null where missing."""
        return self.parse(dict.fromkeys(names, pa.string()), names)

    def line_of(self, row: int) -> int:
        """The number, from 0, of the line in the block on which a row begins."""
        if row == 0:
            return self._first_line
        if row >= _NEAR and self._a_row_each_line:
            return row + (self.content[:1] in (b"\n", b"\r"))
        return self._find_line(row)

    @functools.cached_property
    def _first_line(self) -> int:
        """The line of the first row: asked for once a column."""
        return self._find_line(0)

    def _find_line(self, row: int) -> int:
        seen, quoted, start, number = -1, False, 0, 0
        while start < len(self.content):
            end = self.content.find(b"\n", start)
            end = len(self.content) if end < 0 else end
            if not quoted and self.content[start:end] not in (b"", b"\r"):
                seen += 1
                if seen == row:
                    return number
            quoted ^= self.content.count(b'"', start, end) % 2 == 1
            start, number = end + 1, number + 1
        return number

    @functools.cached_property
    def _a_row_each_line(self) -> bool:
        return not any(sign in self.content for sign in (b"\n\n", b"\n\r", b'"'))

    def line_in_file(self, line: int) -> int:
        """The number in the file, from 1, of a line known by its number, from 0, in the block.  Reads up to it."""
        return text.line_number(self.piece.path, self.piece.byte_range, self.index, line)

    def may_be_padded(self) -> bool:
        """Whether any value may be a whole number with a leading zero, or one written as 0x1F.

        Far cheaper than testing each value; zeros within texts may give a false True.
        """
        data = self._bytes
        zero = data[:-1] == ord("0")
        if (zero & ((data[1:] | 32) == ord("x"))).any():
            return True
        places = np.flatnonzero(zero & (data[1:] - ord("0") < 10))  # unsigned: values below 0 wrap around
        before = places - 1
        before = before - ((data[before] == ord("+")) | (data[before] == ord("-")))
        places = places[self._edges[data[before]]]
        for _ in range(_LONGEST_PADDED):  # to the end of the number: 05:30 and 05.01.2020 are not numbers
            inside = data[places] - ord("0") < 10
            if not inside.any():
                break
            places = places + inside
        return bool(self._edges[data[places]].any())

    @functools.cached_property
    def _bytes(self) -> npt.NDArray[np.uint8]:
        """The content between two line ends."""
        return np.frombuffer(b"\n" + self.content + b"\n", dtype=np.uint8)

    @functools.cached_property
    def _edges(self) -> npt.NDArray[np.bool_]:
        """Of each byte, whether it may be next to a value."""
        edges = np.zeros(256, dtype=bool)
        edges[list(b'\r\n" \t' + self.layout.separator.encode())] = True
        return edges

    def _read(self, content: bytes, names: list[str], types: Any, wanted: list[str], handler: Any = None) -> pa.Table:
        options = self.options
        return pacsv.read_csv(
            pa.BufferReader(content),
            pacsv.ReadOptions(use_threads=False, block_size=len(content) + 1, column_names=names),
            pacsv.ParseOptions(delimiter=self.layout.separator, newlines_in_values=True, invalid_row_handler=handler),
            pacsv.ConvertOptions(
                column_types=types,
                include_columns=wanted,
                null_values=list(_null_values(tuple(options.missing))),
                strings_can_be_null=True,
                decimal_point=options.decimal,
                # Where types are inferred, 1 is a number: its neighbours depend on where blocks are cut.
                true_values=["true", "True", "TRUE", *(["1"] if types else [])],
                false_values=["false", "False", "FALSE", *(["0"] if types else [])],
                check_utf8=False,  # checked already
            ),
        )

    def _check_header(self) -> None:
        """SourceError where the header is repeated among the rows, as in files joined with `cat`."""
        header = self.layout.header
        if not header or len(self.layout.names) < 2 or header not in self.content:
            return
        found = re.search(rb"(?m)^(?:" + re.escape(text.BOM) + rb")?" + re.escape(header) + rb"\r?$", self.content)
        if found is not None:
            line = self.line_in_file(self.content.count(b"\n", 0, found.start()))
            raise SourceError(
                f"{self.piece.path}: line {line}: the header again: files were joined with their headers; remove the line"
            )

    def _has_blanks(self) -> bool:
        """Whether any value may begin or end with a blank; far cheaper to test than to trim."""
        if b" " not in self.content:
            return False
        places = np.flatnonzero(self._bytes == ord(" "))
        return bool((self._edges[self._bytes[places - 1]] | self._edges[self._bytes[places + 1]]).any())

    def _ragged(self, row: Any) -> SourceError:
        # Search for the row itself: Arrow's own count leaves out empty lines.
        found = re.search(rb"(?m)^" + re.escape(row.text.encode()) + rb"\r?$", self.content)
        line = self.line_in_file(self.content.count(b"\n", 0, found.start() if found else 0))
        return SourceError(
            f"{self.piece.path}: line {line}: {row.actual_columns} values where {row.expected_columns} columns are; if "
            f"quoted values hold line breaks, set data.csv.newlines_in_quotes = true"
        )

    def _misfit(self, types: dict[str, pa.DataType]) -> SourceError:
        """Which column a block's conversion failed for, and where: each is tried alone."""
        path = self.piece.path
        for name, kind in types.items():
            try:
                self._read(self.content, list(self.layout.names), {name: kind}, [name])
            except pa.ArrowInvalid:
                row = self._first_misfit(name, kind)
                where = "" if row is None else f": line {self.line_in_file(self.line_of(row))}"
                return SourceError(f"{path}{where}: column {name!r} holds values that are not {kind}")
        return SourceError(f"{path}: not a readable CSV file")

    def _first_misfit(self, name: str, kind: pa.DataType) -> int | None:
        """The row of the first value that is not of the type; None where it cannot be determined."""
        try:
            column = self.texts([name]).column(0)
        except SourceError:
            return None
        rows = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
        values = column.drop_null().to_pylist()

        def convert(start: int, stop: int) -> None:
            quoted = "".join('"' + value.replace('"', '""') + '"\n' for value in values[start:stop])
            self._read(quoted.encode(), [name], {name: kind}, [name])

        return int(rows[first_misfit(len(values), convert)]) if values else None


@functools.lru_cache(maxsize=8)
def _null_values(missing: tuple[str, ...]) -> tuple[str, ...]:
    """The texts that mean no value, also with a blank before or after."""
    return tuple(sorted({f"{a}{word}{b}" for word in missing for a in ("", " ") for b in ("", " ")}))


def blocks(piece: Piece, layout: CsvLayout, options: CsvOptions) -> Iterator[CsvBlock]:
    """The piece's rows as blocks of whole lines; comments are blanked, so that lines keep their numbers."""
    quoted = options.newlines_in_quotes
    comment = re.compile(rb"(?m)^" + re.escape(options.comment.encode()) + rb"[^\n]*") if options.comment else None
    for index, block in enumerate(text.blocks(piece.path, piece.byte_range, quoted=quoted)):
        if index == 0 and (piece.byte_range is None or piece.byte_range[0] == 0):
            mark = len(text.BOM) if block.startswith(text.BOM) else 0
            skipped = mark + (layout.start if piece.byte_range is None else 0)
            # The header becomes empty lines: offsets change, numbers of lines do not.
            block = b"\n" * block.count(b"\n", 0, skipped) + block[skipped:]
        block = _as_utf8(piece, index, block, options)
        if comment and comment.search(block):
            block = comment.sub(b"", block)
        yield CsvBlock(piece, index, block, layout, options)


def _as_utf8(piece: Piece, index: int, block: bytes, options: CsvOptions) -> bytes:
    """The text as UTF-8; SourceError where it is not in its encoding, before parsing: Arrow reports it for some rows
    only.
    """
    if block.isascii():
        return block
    try:
        decoded = block.decode(options.encoding)
        if is_utf8(options):
            return block
    except UnicodeError as error:
        start = error.start if isinstance(error, UnicodeDecodeError) else 0
        line = text.line_number(piece.path, piece.byte_range, index, block.count(b"\n", 0, start))
        raise not_decoded(piece.path, line, options) from None
    return decoded.encode()


def _trim(table: pa.Table) -> pa.Table:
    for place, item in enumerate(table.schema):
        if item.type == pa.string():
            table = table.set_column(place, item, pc.utf8_trim(table.column(place), characters=" "))
    return table
