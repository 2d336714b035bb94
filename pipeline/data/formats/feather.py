"""Reads Feather (Arrow IPC files): record batches correspond to row groups in Parquet."""

import functools
from collections.abc import Sequence

import pyarrow as pa

from pipeline.data.files.listing import File
from pipeline.data.files.retries import reason_of
from pipeline.data.files.storage import open_file
from pipeline.data.formats.parquet import value_nbytes
from pipeline.data.formats.survey import FileSurvey, ends_digest, reason_in, survey_file
from pipeline.data.fragments import Piece
from pipeline.errors import AccessError, BadFragment, SourceError


def survey(files: Sequence[File], skip_bad: bool = False) -> list[FileSurvey]:
    return [survey_file(file, functools.partial(_survey, skip_bad=skip_bad), skip_bad) for file in files]


def _survey(file: File, skip_bad: bool) -> FileSurvey:
    with open_file(file.path) as handle:
        reader = _reader(file.path, handle, None)
        schema = reader.schema.remove_metadata()
        width = sum(map(value_nbytes, schema.types))
        narrow = _reader(file.path, handle, [0] if len(schema) else None)  # decodes one column, to count rows
        pieces: list[Piece] = []
        first_row = 0
        for index in range(reader.num_record_batches):
            try:
                rows = _batch(file.path, narrow, index).num_rows
            except SourceError as error:
                if isinstance(error, AccessError):
                    raise
                nbytes, reason = max(1, file.nbytes // reader.num_record_batches), reason_in(file.path, error)
                bad = Piece(file.path, (index,), None, None, nbytes, file.hive, first_row, bad=reason)
                if not skip_bad:
                    raise BadFragment(bad.place("record batch"), reason) from None
                pieces.append(bad)
                continue
            pieces.append(Piece(file.path, (index,), None, rows, max(1, rows * width), file.hive, first_row))
            first_row += rows
    return FileSurvey(file, schema, tuple(pieces), ends_digest(file))


def read(piece: Piece, columns: Sequence[str]) -> pa.Table:
    """The named columns that the file has; if it has none of them, a table with only the number of rows."""
    with open_file(piece.path) as handle:
        schema = _reader(piece.path, handle, None).schema
        known = set(schema.names)
        wanted = [name for name in columns if name in known]
        if not wanted:
            return pa.table({"": pa.nulls(piece.rows or 0)})
        reader = _reader(piece.path, handle, [schema.get_field_index(name) for name in wanted])
        batches = [_batch(piece.path, reader, index) for index in piece.row_groups or ()]
    return pa.Table.from_batches(batches, reader.schema).replace_schema_metadata(None)


def _reader(path: str, handle: object, fields: list[int] | None) -> pa.ipc.RecordBatchFileReader:
    options = pa.ipc.IpcReadOptions(use_threads=False, included_fields=fields)
    try:
        return pa.ipc.open_file(pa.PythonFile(handle, "r"), options=options)
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{path}: not a whole Feather file (version 2): {reason_of(error)}") from None


def _batch(path: str, reader: pa.ipc.RecordBatchFileReader, index: int) -> pa.RecordBatch:
    try:
        batch = reader.get_batch(index)
        batch.validate(full=True)  # else out-of-range offsets crash the process
        return batch
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{path}: damaged Feather file: {reason_of(error)}") from None
