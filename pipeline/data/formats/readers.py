"""Calls the format of a source: the metadata of its files, and the rows of a piece."""

from collections.abc import Sequence

import pyarrow as pa

from pipeline.config.job import CsvOptions
from pipeline.data.files.listing import File
from pipeline.data.formats import csv, feather, libsvm, parquet
from pipeline.data.formats.survey import FileSurvey
from pipeline.data.fragments import Piece
from pipeline.data.schema.hints import ColumnHints


def survey(
    kind: str,
    files: Sequence[File],
    options: CsvOptions,
    fragment_nbytes: int,
    hints: ColumnHints,
    skip_bad: bool = False,
) -> list[FileSurvey]:
    """Columns and pieces of all files; SourceError where one cannot be read, or a bad piece with `skip_bad`."""
    if kind == "parquet":
        return parquet.survey(files, skip_bad)
    if kind == "feather":
        return feather.survey(files, skip_bad)
    if kind == "libsvm":
        return libsvm.survey(files, skip_bad, hints)
    return csv.survey(files, options, fragment_nbytes, hints, skip_bad)


def read(kind: str, piece: Piece, schema: pa.Schema, options: CsvOptions) -> pa.Table:
    """The columns of `schema` that the file has, in the file's types or in those of `schema`; without any, the number
    of rows is still right.
    """
    if kind == "parquet":
        return parquet.read(piece, schema.names)
    if kind == "feather":
        return feather.read(piece, schema.names)
    if kind == "libsvm":
        return libsvm.read(piece, schema)
    return csv.read(piece, schema, options)
