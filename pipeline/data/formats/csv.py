"""Reads CSV: columns, types that hold for every byte range of every file, rows.

The types come from a pass over the whole source, block by block, joined by rules that do not depend on where the
blocks are cut: whole numbers and fractions together become float64, dates and times become times, and any other
mixture is text.  So the same text has the same type everywhere.  The pass also
counts the rows and finds ragged lines, bad encoding and odd values before anything else starts.

Blanks around values are ignored.  Empty lines are skipped.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.types as pt

from pipeline.config.job import CsvOptions
from pipeline.data.files.listing import File, cpu_count
from pipeline.data.files.retries import patiently
from pipeline.data.files.waiting import in_threads
from pipeline.data.formats import csv_findings, text
from pipeline.data.formats.csv_blocks import blocks
from pipeline.data.formats.csv_layout import CsvLayout, read_layout
from pipeline.data.formats.csv_types import PieceSummary, Tally, join, look, settle
from pipeline.data.formats.survey import FileSurvey, attempt, ends_digest, survey_file
from pipeline.data.fragments import Piece, target_nbytes
from pipeline.data.schema.hints import NO_HINTS, ColumnHints
from pipeline.data.schema.schema_merge import TEXT_CODES, common

__all__ = ["join", "read", "survey"]


def survey(
    files: Sequence[File],
    options: CsvOptions,
    fragment_nbytes: int,
    hints: ColumnHints = NO_HINTS,
    skip_bad: bool = False,
) -> list[FileSurvey]:
    """Names, types, rows and byte ranges of all files; columns whose type is fixed by the hints are not examined."""
    total = sum(patiently(functools.partial(text.text_nbytes, file), file.path) for file in files)
    layouts: dict[str, CsvLayout] = {}

    def begin(file: File) -> FileSurvey:
        layout = layouts[file.path] = read_layout(file.path, options)
        return _begin(file, layout, options, target_nbytes(total, fragment_nbytes, len(layout.names)), hints)

    begun = [survey_file(file, begin, skip_bad) for file in files]
    pieces = [piece for item in begun if item.readable for piece in item.pieces]
    if all(hints.fixed(name) is not None for item in begun for name in item.schema.names):
        return begun
    infer = functools.partial(_infer, layouts=layouts, options=options, hints=hints, skip_bad=skip_bad)
    found = iter(in_threads(infer, pieces, cpu_count()))
    seen = [(item, [next(found) for _ in item.pieces] if item.readable else []) for item in begun]
    surveyed = [_joined(item, parts) if item.readable else item for item, parts in seen]
    return _settled(surveyed, [parts for _, parts in seen], options, hints)


def _begin(file: File, layout: CsvLayout, options: CsvOptions, target: int, hints: ColumnHints) -> FileSurvey:
    """The file with the fixed types, null for the other columns, and its rows not counted."""
    out = [name for name in layout.unnamed if not hints.keeps(name)]
    schema = pa.schema([(name, hints.fixed(name) or pa.null()) for name in layout.names if name not in out])
    notes = tuple(csv_findings.unnamed(file.path, name) for name in out)
    return FileSurvey(file, schema, tuple(_pieces(file, layout, options, target)), ends_digest(file), notes=notes)


def _joined(item: FileSurvey, parts: Sequence[PieceSummary | str]) -> FileSurvey:
    """The file with the results of its pieces: the types joined, the rows counted, the bad pieces with their reasons."""
    kinds = {field.name: field.type for field in item.schema}
    counted = []
    for piece, part in zip(item.pieces, parts, strict=True):
        if isinstance(part, str):
            counted.append(replace(piece, bad=part))
            continue
        kinds |= {name: join(kinds[name], kind) for name, kind in part.kinds.items()}
        counted.append(replace(piece, rows=part.rows))
    readable = not all(piece.bad for piece in counted) or not counted
    return replace(item, schema=pa.schema(kinds), pieces=_numbered(counted), readable=readable)


def _settled(
    items: Sequence[FileSurvey], parts: Sequence[Sequence[PieceSummary | str]], options: CsvOptions, hints: ColumnHints
) -> list[FileSurvey]:
    """The files with the types that columns are read as, and with notes for the user."""
    merged: dict[str, pa.DataType] = {}
    for item in items:
        for field in item.schema if item.readable else ():
            merged[field.name] = join(merged.get(field.name, pa.null()), field.type)
    kinds = {name: settle(kind, hints.is_number(name)) for name, kind in merged.items()}
    texts = [name for name, kind in kinds.items() if kind == pa.string()]  # the others are what they seem
    columns = {name: csv_findings.together(_tallies(name, items, parts)) for name in texts}
    csv_findings.check_numbers(columns, kinds, hints)
    notes = csv_findings.notes_on(columns, kinds, options, hints)
    settled = [replace(item, schema=_types(item.schema, kinds, hints)) if item.readable else item for item in items]
    settled[0] = replace(settled[0], notes=(*settled[0].notes, *notes))
    return settled


def _types(schema: pa.Schema, kinds: Mapping[str, pa.DataType], hints: ColumnHints) -> pa.Schema:
    """The types that one file's columns are read as; `kinds` are those of all files together."""
    fields = []
    for name, kind in zip(schema.names, schema.types, strict=True):
        kind = settle(kind, pt.is_floating(kinds[name]))
        known = hints.known(name)
        if known is not None:
            kind = join(kind, known) if name in hints.copied else common(kind, known) or known
        fields.append(pa.field(name, kind))
    return pa.schema(fields)


def _tallies(
    name: str, items: Sequence[FileSurvey], parts: Sequence[Sequence[PieceSummary | str]]
) -> list[tuple[str, Tally]]:
    """(path, tally) of a column for each file, its lines counted from 1."""
    found = []
    for item, of_file in zip(items, parts, strict=True):
        tally, lines = Tally(), 1
        for piece, part in zip(item.pieces, of_file, strict=False):
            if isinstance(part, str):
                lines += text.line_count(piece.path, piece.byte_range)
                continue
            tally += part.tallies.get(name, Tally()).after(lines)
            lines += part.lines
        found.append((item.file.path, tally))
    return found


def _numbered(pieces: list[Piece]) -> tuple[Piece, ...]:
    first_row = 0
    numbered = []
    for piece in pieces:
        numbered.append(replace(piece, first_row=first_row))
        first_row += piece.rows or 0
    return tuple(numbered)


def _pieces(file: File, layout: CsvLayout, options: CsvOptions, target: int) -> list[Piece]:
    """Byte ranges if lines can be found without reading from the start; the whole file otherwise."""
    nbytes = text.text_nbytes(file)
    if text.compression(file.path) is not None:
        return [Piece(file.path, None, None, None, nbytes, file.hive)]
    whole = options.newlines_in_quotes
    ranges = [(layout.start, file.nbytes)] if whole else text.cut_lines(file.path, layout.start, file.nbytes, target)
    return [Piece(file.path, None, item, None, item[1] - item[0], file.hive) for item in ranges]


def _infer(
    piece: Piece, layouts: Mapping[str, CsvLayout], options: CsvOptions, hints: ColumnHints, skip_bad: bool
) -> PieceSummary | str:
    """The types and the row count of a piece; why it cannot be read, where bad pieces are skipped."""

    def find() -> PieceSummary:
        layout = layouts[piece.path]
        wanted = [name for name in layout.names if hints.fixed(name) is None]
        wanted = [name for name in wanted if name not in layout.unnamed or hints.keeps(name)]
        found = look(blocks(piece, layout, options), wanted, layout.names[0], hints)
        first = piece.byte_range is not None and piece.byte_range[0] == layout.start
        return found.behind(layout.lines_before) if first else found

    return attempt(find, piece.path, piece.place(), skip_bad)


def read(piece: Piece, schema: pa.Schema, options: CsvOptions) -> pa.Table:
    """The columns of `schema` that the file has, as those types; if it has none of them, a table with only the number
    of rows.
    """
    layout = read_layout(piece.path, options)
    types = {item.name: pa.string() if item.type == TEXT_CODES else item.type for item in schema}
    stored = set(layout.names)
    wanted = [name for name in schema.names if name in stored]
    types = {name: types[name] for name in wanted} or {layout.names[0]: pa.string()}
    tables = [block.parse(types, list(types)) for block in blocks(piece, layout, options)]
    tables = [table for table in tables if table.num_rows]
    return pa.concat_tables(tables) if tables else pa.schema(types.items()).empty_table()
