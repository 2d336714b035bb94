"""Reads a fragment into a table of its rows."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from pipeline.data import frames, partitions
from pipeline.data.files.file_fingerprints import check_unchanged
from pipeline.data.files.listing import HIVE_NULL, cpu_count
from pipeline.data.files.retries import RetryPolicy, patiently
from pipeline.data.files.waiting import in_threads
from pipeline.data.formats import readers
from pipeline.data.formats.survey import library_errors, reason_in
from pipeline.data.fragments import Fragment, Piece
from pipeline.data.schema.schema_merge import conform
from pipeline.data.source import Source
from pipeline.errors import AccessError, BadFragment, SourceError

IN_MEMORY = ("arrow", "dask")  # formats of sources without files
_NOTHING = pa.schema([])


def read_fragment(
    source: Source,
    fragment: Fragment,
    columns: Sequence[str] | None = None,
    payload: Any = None,
    patience: RetryPolicy | None = None,
) -> pa.Table:
    """The fragment's rows, in order, with the source's types; `columns` in the order given, or all.

    Uses one thread: tasks are the parallelism.  `payload`: what `source.payload(fragment)` gave; of files, a table that
    this function returned before, with all of the columns and perhaps more.  `patience`: how often a read is tried.
    Each error is one line that names the file and the place in it, and holds no value.  BadFragment: the content cannot
    be read.  AccessError: the file is gone, may not be read, or has changed since the source was opened.  ReadError:
    storage failed again and again.
    """
    known = dict.fromkeys(source.schema.names)
    names = list(known if columns is None else columns)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SourceError(f"no column {unknown[0]!r} in the source")
    schema = pa.schema([source.schema.field(name) for name in names])
    if source.format not in IN_MEMORY and isinstance(payload, pa.Table):
        tables = [payload.select(names)]
    else:
        tables = [_read_piece(source, piece, schema, payload, patience) for piece in fragment.pieces]
    if not names:  # Arrow keeps the number of rows of a table without columns only while the table is unchanged
        return pa.table({"": pa.nulls(sum(table.num_rows for table in tables))}).select([])
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables)


def count_rows(source: Source) -> Source:
    """The source with the rows of every fragment known: unknown counts are found by reading."""
    if source.rows is not None:
        return source
    if source.format == "dask":
        if source.frame is None:
            raise SourceError(f"{partitions.NAME}: its rows can be counted only where it was opened")
        counts = partitions.count(source.frame)
        if not any(counts):
            raise SourceError(f"{partitions.NAME}: no rows")
        fragments = tuple(_with_rows(fragment, counts) for fragment in source.fragments)
        return replace(source, fragments=fragments)
    fragments = tuple(in_threads(functools.partial(_count, source), source.fragments, cpu_count()))
    if not any(fragment.rows for fragment in fragments):
        raise SourceError(f"{fragments[0].pieces[0].path}: no rows")
    return replace(source, fragments=fragments)


def _with_rows(fragment: Fragment, counts: Sequence[int]) -> Fragment:
    return replace(fragment, pieces=tuple(replace(piece, rows=counts[piece.first_row]) for piece in fragment.pieces))


def _count(source: Source, fragment: Fragment) -> Fragment:
    pieces = tuple(
        piece if piece.rows is not None else replace(piece, rows=_read_piece(source, piece, _NOTHING).num_rows)
        for piece in fragment.pieces
    )
    return replace(fragment, pieces=pieces)


def _read_piece(
    source: Source, piece: Piece, schema: pa.Schema, payload: Any = None, patience: RetryPolicy | None = None
) -> pa.Table:
    if source.format in IN_MEMORY:
        found = frames.read(payload, piece.path, schema.names)
        if source.format == "dask":
            for part in found:
                partitions.check_texts(part.schema, schema, piece.path)
        parts = [conform(part, schema, piece.path) for part in found]
        return parts[0] if len(parts) == 1 else pa.concat_tables(parts)
    where = piece.place("record batch" if source.format == "feather" else "row group")
    if piece.bad:
        raise BadFragment(where, piece.bad)
    stored = pa.schema([field for field in schema if field.name not in source.hive])
    try:
        table = patiently(functools.partial(_read_file, source, piece, stored), where, patience)
    except AccessError:
        raise
    except SourceError as error:
        raise BadFragment(where, reason_in(piece.path, error)) from None
    with library_errors(where):
        return conform(_add_hive(table, piece, source), schema, where)


def _read_file(source: Source, piece: Piece, stored: pa.Schema) -> pa.Table:
    """One try."""
    try:
        with library_errors(piece.path):
            table = readers.read(source.format, piece, stored, source.csv)
    except Exception:  # any error from a file that was changed: the change is the reason
        check_unchanged(piece.stamps)
        raise
    check_unchanged(piece.stamps)
    if piece.rows is not None and table.num_rows != piece.rows:
        raise SourceError(f"{piece.path}: {table.num_rows} rows where {piece.rows} were counted")
    return table


def _add_hive(table: pa.Table, piece: Piece, source: Source) -> pa.Table:
    """The table with the hive columns of its folders' names, constant in every row."""
    for key, text in piece.hive:
        if key in source.hive:
            kind = source.schema.field(key).type
            value = None if text == HIVE_NULL else int(text) if pt.is_integer(kind) else text
            table = table.append_column(pa.field(key, kind), pa.repeat(pa.scalar(value, kind), table.num_rows))
    return table
