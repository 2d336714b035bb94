"""From a fragment to a table of its rows."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from pipeline.data import parquet
from pipeline.data.files import HIVE_NULL
from pipeline.data.fragments import Fragment, Piece
from pipeline.data.source import Source
from pipeline.data.unify import conform
from pipeline.errors import SourceError


def read_fragment(
    source: Source, fragment: Fragment, columns: Sequence[str] | None = None, payload: Any = None
) -> pa.Table:
    """The fragment's rows, in order, with the source's types; `columns` in the order given, or all.

    Uses one thread: tasks are the parallelism.  `payload`: what `source.payload(fragment)` gave.
    SourceError naming file and column where they cannot be read.
    """
    names = source.schema.names if columns is None else list(columns)
    unknown = [name for name in names if name not in source.schema.names]
    if unknown:
        raise SourceError(f"no column {unknown[0]!r} in the source")
    schema = pa.schema([source.schema.field(name) for name in names])
    tables = [_read_piece(source, piece, schema) for piece in fragment.pieces]
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables)


def _read_piece(source: Source, piece: Piece, schema: pa.Schema) -> pa.Table:
    stored = [name for name in schema.names if name not in source.hive]
    table = parquet.read(piece, stored)
    return conform(_add_hive(table, piece, source), schema, piece.path)


def _add_hive(table: pa.Table, piece: Piece, source: Source) -> pa.Table:
    """The table with the values its folders' names give, the same in every row."""
    for key, text in piece.hive:
        if key in source.hive:
            kind = source.schema.field(key).type
            value = None if text == HIVE_NULL else int(text) if pt.is_integer(kind) else text
            column = pa.repeat(pa.scalar(value, kind), table.num_rows)
            table = table.append_column(pa.field(key, kind), column)
    return table
