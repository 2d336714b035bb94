"""Handles data that is in memory already: tables of rows, and Dask collections, whose partitions the cluster computes.

The client keeps them; each task gets its fragment's part as a payload.
"""

import hashlib
import os
from collections.abc import Collection, Mapping
from typing import Any, Literal

import pyarrow as pa

from pipeline.data import tabular
from pipeline.data.formats.parquet import value_nbytes
from pipeline.data.fragments import Fragment, Piece, target_nbytes
from pipeline.data.partitions import CollectionPartitions, rows_between
from pipeline.errors import SourceError

TABLE = "<table>"
ACCEPTED = f"names of files, {tabular.ACCEPTED}, a Dask DataFrame, or a 2-D Dask Array"
_SAMPLE_ROWS = 1_000  # of each end of a table go into its fingerprint


def kind_of(source: Any) -> Literal["rows", "dask"] | None:
    """The kind of data in memory; None for names of files; SourceError for anything else.  Imports nothing."""
    if isinstance(source, (str, os.PathLike)):
        return None
    if isinstance(source, (list, tuple)) and not (source and all(isinstance(row, Mapping) for row in source)):
        odd = next((place for place, one in enumerate(source) if not isinstance(one, (str, os.PathLike))), None)
        if odd is None:
            return None
        what = f"item {odd + 1} of the list is {tabular.described(source[odd])}"
        raise SourceError(f"the source is a list, and {what}: a list holds names of files, or rows as mappings")
    if tabular.dask_kind(source) in ("DataFrame", "Array"):
        return "dask"
    if tabular.is_rows(source):
        return "rows"
    raise tabular.refusal(source, ACCEPTED)


def table_pieces(table: pa.Table, fragment_nbytes: int) -> list[Piece]:
    """Rows of equal count; they depend on the table's rows and types, not on its chunks."""
    return pieces_of(table.schema, table.num_rows, fragment_nbytes, TABLE)


def pieces_of(schema: pa.Schema, rows: int, fragment_nbytes: int, name: str) -> list[Piece]:
    """So many rows of these types, cut into pieces of equal count."""
    width = max(1, sum(map(value_nbytes, schema.types)))
    step = max(1, target_nbytes(rows * width, fragment_nbytes, len(schema)) // width)
    starts = range(0, rows, step)
    counts = [min(step, rows - start) for start in starts]
    return [
        Piece(name, None, None, count, count * width, (), first) for first, count in zip(starts, counts, strict=True)
    ]


def table_digest(table: pa.Table) -> bytes:
    """SHA-256 of a table's schema, size and rows at both ends."""
    digest = hashlib.sha256(f"{table.schema}\0{table.num_rows}\0".encode())
    for part in (table.slice(0, _SAMPLE_ROWS), table.slice(max(0, table.num_rows - _SAMPLE_ROWS))):
        digest.update(_stream(part.combine_chunks()))
    return digest.digest()


def payload(frame: Any, fragment: Fragment) -> Any:
    """The data a task reads its fragment from: bytes of an Arrow stream, or delayed parts of partitions."""
    if isinstance(frame, pa.Table):
        start = fragment.pieces[0].first_row
        return _stream(frame.slice(start, fragment.rows))  # a pickled slice would carry the whole table
    assert isinstance(frame, CollectionPartitions)
    import dask

    cut = dask.delayed(rows_between, pure=True)
    parts = [(part, frame.delayed[part.partition]) for part in frame.parts(fragment)]
    return [whole if part.whole else cut(whole, part.start, part.stop) for part, whole in parts]


def computed(payload: Any) -> Any:
    """A payload whose delayed parts have been computed in this process."""
    if not isinstance(payload, list):
        return payload
    import dask

    return list(dask.compute(*payload, scheduler="threads"))


def read(payload: Any, where: str, names: Collection[str]) -> list[pa.Table]:
    """The named columns of a payload, as its task gets it: one table or, from several partitions, more."""
    if isinstance(payload, pa.Buffer):
        return [pa.ipc.open_stream(payload).read_all()]
    if isinstance(payload, pa.Table):
        return [payload]
    if isinstance(payload, list):
        return [table for part in payload for table in read(part, where, names)]
    if payload is None:
        raise SourceError(f"{where}: its rows were not passed on; give read_fragment the source's payload")
    return [tabular.from_pandas(payload, where, only=names, nthreads=1)]


def _stream(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()
