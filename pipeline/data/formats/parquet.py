"""Reads Parquet: the contents of footers, and row groups."""

import contextlib
import errno
import functools
import hashlib
import itertools
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from pipeline.data.files.listing import File
from pipeline.data.files.retries import failure, reason_of
from pipeline.data.files.storage import is_url, open_file, read_range
from pipeline.data.files.waiting import in_threads
from pipeline.data.formats.survey import FileSurvey, survey_file
from pipeline.data.fragments import Piece
from pipeline.data.schema.schema_merge import is_text, normalise
from pipeline.errors import SourceError

MAGIC = b"PAR1"
TAIL_NBYTES = 64 << 10  # holds most footers: one read instead of two
SURVEY_THREADS = 16
LOCAL_SERIAL = 32  # up to this many local footers are read faster without threads (0.1 ms each)
COLUMNS_AT_ONCE = (
    8  # of a local file: Arrow keeps buffers for each until all are read (163 MB for 33 MB of 128 columns)
)
TEXT_NBYTES = 16  # assumed size of a text value in memory
INT96_UNIT = "us"  # of Spark's and Hive's times: nanoseconds, Arrow's default, wrap around beyond 2262


def survey(files: Sequence[File], skip_bad: bool = False) -> list[FileSurvey]:
    """Reads all footers."""
    look = functools.partial(survey_file, look=_survey, skip_bad=skip_bad)
    if len(files) <= LOCAL_SERIAL and not is_url(files[0].path):
        return list(map(look, files))
    return in_threads(look, files, SURVEY_THREADS)


def _survey(file: File) -> FileSurvey:
    footer = _footer(file)
    try:
        file_of_footer = pq.ParquetFile(pa.BufferReader(footer), coerce_int96_timestamp_unit=INT96_UNIT)
        metadata, schema = file_of_footer.metadata, file_of_footer.schema_arrow
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{file.path}: damaged Parquet file: {reason_of(error)}") from None
    width = sum(map(value_nbytes, schema.types))
    pieces = []
    first_row = 0
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        nbytes = max(group.total_byte_size, group.num_rows * width)
        pieces.append(Piece(file.path, (index,), None, group.num_rows, nbytes, file.hive, first_row))
        first_row += group.num_rows
    return FileSurvey(file, schema, tuple(pieces), hashlib.sha256(footer).digest())


def _footer(file: File) -> bytes:
    """The footer with its length and magic bytes, as stored at the end of the file."""
    tail = read_range(file.path, max(0, file.nbytes - TAIL_NBYTES), file.nbytes)
    if tail[-4:] != MAGIC or file.nbytes < 12:
        if file.nbytes == 0:
            raise SourceError(f"{file.path}: an empty file, not Parquet")
        if tail[-4:] == b"PARE":
            raise SourceError(f"{file.path}: an encrypted Parquet file")
        if read_range(file.path, 0, 4) == MAGIC:
            raise SourceError(
                f"{file.path}: truncated Parquet file: it ends after {file.nbytes} bytes without a footer"
            )
        raise SourceError(f"{file.path}: not a Parquet file")
    length = int.from_bytes(tail[-8:-4], "little") + 8
    if length + 4 > file.nbytes:
        raise SourceError(f"{file.path}: damaged Parquet file: a footer of {length} bytes in {file.nbytes}")
    return tail[-length:] if length <= len(tail) else read_range(file.path, file.nbytes - length, file.nbytes)


def value_nbytes(kind: pa.DataType) -> int:
    """About how many bytes one value takes in memory."""
    if pt.is_null(kind):
        return 0
    if pt.is_dictionary(kind):
        return 4
    try:
        return max(1, kind.bit_width // 8)
    except ValueError:
        return TEXT_NBYTES


def read(piece: Piece, columns: Sequence[str]) -> pa.Table:
    """The named columns that the file has, in its types; rows in the order of the file.

    A table without any of them still has the piece's number of rows.

    Plain reads, not a memory map: nannies count mapped pages as the worker's memory and may kill it.
    """
    remote = is_url(piece.path)
    try:
        with contextlib.ExitStack() as stack:
            source = stack.enter_context(open_file(piece.path)) if remote else piece.path
            file = stack.enter_context(
                pq.ParquetFile(source, memory_map=False, pre_buffer=remote, coerce_int96_timestamp_unit=INT96_UNIT)
            )
            known = set(file.schema_arrow.names)
            wanted = [name for name in columns if name in known]
            if not wanted:
                return pa.table({"": pa.nulls(piece.rows or 0)})  # only the number of rows
            at_once = len(wanted) if remote else COLUMNS_AT_ONCE
            parts = [
                file.read_row_groups(list(piece.row_groups or ()), columns=list(names), use_threads=False)
                for names in itertools.batched(wanted, at_once)
            ]
            table = pa.table(
                [column for part in parts for column in part.columns],
                schema=pa.schema([field for part in parts for field in part.schema]),
            )
    except (OSError, pa.ArrowException) as error:
        if getattr(error, "errno", None) not in (None, errno.EINVAL):  # EINVAL: a damaged file's offsets
            raise failure(piece.path, error) from None  # of storage: Arrow's errors about the content have no errno
        raise SourceError(f"{piece.path}: damaged Parquet file: {reason_of(error)}") from None
    _check_texts(piece.path, table)
    return table.replace_schema_metadata(None)


def _check_texts(path: str, table: pa.Table) -> None:
    """SourceError where a text is not UTF-8, which neither the writer nor Arrow has checked."""
    for name, column in zip(table.schema.names, table.columns, strict=True):
        kind = column.type.value_type if pt.is_dictionary(column.type) else column.type
        if is_text(normalise(kind) or kind):
            try:
                column.validate(full=True)
            except pa.ArrowInvalid:
                raise SourceError(f"{path}: column {name!r} holds text that is not UTF-8") from None
