"""Data that is in memory already: Arrow tables, pandas frames, Dask DataFrames.

The client keeps them; each task gets its fragment's part as a payload.
"""

import hashlib
from typing import Any

import pyarrow as pa

from pipeline.data.fragments import Fragment, Piece, target_nbytes
from pipeline.data.parquet import value_nbytes
from pipeline.errors import SourceError

TABLE, FRAME = "<table>", "<Dask DataFrame>"
_SAMPLE_ROWS = 1_000  # of each end of a table go into its fingerprint


def kind_of(source: Any) -> str | None:
    """arrow, pandas or dask for data in memory; None for names of files.  Imports nothing."""
    if isinstance(source, pa.Table):
        return "arrow"
    module = type(source).__module__.partition(".")[0]
    if module == "pandas" and hasattr(source, "iloc"):
        return "pandas"
    if module in ("dask", "dask_expr") and hasattr(source, "to_delayed"):
        return "dask"
    return None


def table_pieces(table: pa.Table, fragment_nbytes: int) -> list[Piece]:
    """Rows of equal count; they depend on the table's rows and types, not on its chunks."""
    width = max(1, sum(map(value_nbytes, table.schema.types)))
    step = max(1, target_nbytes(table.num_rows * width, fragment_nbytes) // width)
    return [
        Piece(
            TABLE, None, None, min(step, table.num_rows - start), min(step, table.num_rows - start) * width, (), start
        )
        for start in range(0, table.num_rows, step)
    ]


def table_digest(table: pa.Table) -> bytes:
    """SHA-256 of a table's schema, size and rows at both ends."""
    digest = hashlib.sha256(f"{table.schema}\0{table.num_rows}\0".encode())
    for part in (table.slice(0, _SAMPLE_ROWS), table.slice(max(0, table.num_rows - _SAMPLE_ROWS))):
        digest.update(_stream(part.combine_chunks()))
    return digest.digest()


def dask_schema(frame: Any) -> pa.Schema:
    """The columns of a Dask DataFrame; columns of Python objects are taken for text."""
    meta = frame._meta
    schema = pa.Schema.from_pandas(meta, preserve_index=False).remove_metadata()
    for place, name in enumerate(schema.names):
        if str(meta.dtypes.iloc[place]) == "object":
            schema = schema.set(place, pa.field(name, pa.string()))
    return schema


def dask_pieces(frame: Any) -> list[Piece]:
    """One per partition, its number in `first_row`; the rows are not known."""
    return [Piece(FRAME, None, None, None, 1, first_row=index) for index in range(frame.npartitions)]


def dask_digest(frame: Any) -> bytes:
    from dask.tokenize import tokenize

    return hashlib.sha256(tokenize(frame).encode()).digest()


def dask_rows(partitions: tuple[Any, ...] | None) -> list[int]:
    """The rows of each delayed partition; computes them."""
    import dask

    if partitions is None:
        raise SourceError(f"{FRAME}: its rows can be counted only where it was opened")
    return list(dask.compute(*(dask.delayed(len)(partition) for partition in partitions)))


def payload(frame: Any, fragment: Fragment) -> Any:
    """What a task reads its fragment from: bytes of an Arrow stream, or one delayed partition."""
    if isinstance(frame, pa.Table):
        start = fragment.pieces[0].first_row
        return _stream(frame.slice(start, fragment.rows))  # a pickled slice would carry the whole table
    return frame[fragment.pieces[0].first_row]


def read(payload: Any, where: str) -> pa.Table:
    """The rows of a payload, as its task gets it."""
    if isinstance(payload, pa.Buffer):
        return pa.ipc.open_stream(payload).read_all()
    if isinstance(payload, pa.Table):
        return payload
    if payload is None:
        raise SourceError(f"{where}: its rows were not passed on; give read_fragment the source's payload")
    return from_pandas(payload, where, nthreads=1).replace_schema_metadata(None)


def from_pandas(frame: Any, where: str, nthreads: int | None = None) -> pa.Table:
    """The rows of a pandas frame; SourceError naming the column (Arrow's last argument) that holds no one type."""
    try:
        return pa.Table.from_pandas(frame, preserve_index=False, nthreads=nthreads)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        column = str(error.args[-1]).splitlines()[0] if error.args else ""
        raise SourceError(f"{where}: {column}") from None


def _stream(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()
