"""Opens a source: its files, the one schema they share, the fragments they are read in."""

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from pipeline.config.job import CsvOptions
from pipeline.config.names import matches
from pipeline.data import frames, partitions, tabular
from pipeline.data.files.file_fingerprints import with_fingerprints
from pipeline.data.files.listing import HIVE_NULL, find_files, relative_names
from pipeline.data.formats import csv as text_csv
from pipeline.data.formats import readers
from pipeline.data.formats.csv_findings import MIXED
from pipeline.data.formats.libsvm import is_feature
from pipeline.data.formats.survey import FileSurvey
from pipeline.data.fragments import MIB, Fragment, Piece, cut_fragments, target_nbytes
from pipeline.data.schema.differences import drift_notes
from pipeline.data.schema.hints import NO_HINTS, ColumnHints, settled
from pipeline.data.schema.schema_merge import Drift, common, is_pandas_index, is_text, normalise, unify, unusable
from pipeline.errors import DataError, SourceError
from pipeline.events.findings import Finding, UserNote
from pipeline.formatting import without_secrets

NO_VALUE = "has no value in any file"  # why a column is left out that a job may still name
Expected = tuple[Sequence[str], pa.Schema | None]  # patterns of excluded columns, and types known beforehand
_HIVE_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_HIVE_NUMBER = re.compile(r"-?[0-9]+")
_LONGEST_INT64 = 40  # characters, including leading zeros
DIGEST_LENGTH = 16  # of one file, in hexadecimal digits: it identifies files that differ; the fingerprint decides


@dataclass(frozen=True)
class Source:
    """Files, or a table, ready to be read fragment by fragment.  Pickles small: data in memory is not pickled."""

    format: str  # parquet, csv, feather, libsvm, arrow (a table) or dask (a DataFrame)
    schema: pa.Schema  # unified; after the columns of the files come the hive keys
    fragments: tuple[Fragment, ...]
    files: tuple[str, ...]
    fingerprint: str  # SHA-256 of the files' metadata; names relative, no times
    notes: tuple[UserNote, ...] = ()  # what was dropped or unified, one line each
    drift: tuple[Drift, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict, repr=False)  # columns that are not in the schema: why
    hive: tuple[str, ...] = ()  # columns that come from folder names
    csv: CsvOptions = field(default_factory=CsvOptions)
    skip_bad: bool = False  # fragments that cannot be read are left out
    digests: Mapping[str, str] = field(default_factory=dict, repr=False)  # each file's part in the fingerprint, by name
    frame: Any = field(default=None, repr=False, compare=False)  # a table, or Partitions; never pickled

    @property
    def rows(self) -> int | None:
        """Rows of all fragments; None while one has not been counted."""
        counts = [fragment.rows for fragment in self.fragments]
        return None if None in counts else sum(count for count in counts if count is not None)

    @property
    def empty(self) -> tuple[str, ...]:
        """The columns that hold no value in any file."""
        return tuple(name for name, why in self.left_out.items() if why == NO_VALUE)

    @property
    def null_columns(self) -> tuple[str, ...]:
        """The columns of the schema that hold no value, kept because something names them (see `with_empty`)."""
        return tuple(item.name for item in self.schema if pt.is_null(item.type))

    def with_empty(self, names: Collection[str]) -> "Source":
        """The same with the named columns that hold no value added, as columns of type null."""
        empty = [pa.field(name, pa.null()) for name in self.empty if name in names]
        if not empty:
            return self
        left_out = {name: why for name, why in self.left_out.items() if name not in names or why != NO_VALUE}
        return replace(self, schema=pa.schema([*self.schema, *empty]), left_out=left_out)

    def payload(self, fragment: Fragment) -> Any:
        """What `read_fragment` needs in addition to the fragment: None for files, else a slice, or delayed parts."""
        if self.frame is None:
            return None
        return frames.payload(self.frame, fragment)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "frame": None}


def open_source(
    source: Any,
    *,
    format: str = "auto",  # noqa: A002  as the job's field is called
    csv: CsvOptions | None = None,
    fragment_nbytes: int = 64 * MIB,
    exclude: Sequence[str] = (),
    skip_bad: bool = False,
    names: Sequence[str] | None = None,
    only: Collection[str] | None = None,
    hints: ColumnHints = NO_HINTS,
) -> Source:
    """Opens a file, folder, glob, URL, a list of them, rows in memory (`frames.ACCEPTED`), or a Dask collection.

    `hints`: known facts about the columns, say from a model's manifest: text is read as their types, wholly missing
    columns get them, LIBSVM files have the features named there.  `exclude`: patterns of columns that may have types
    that cannot be used.  `names`: those of an array's columns.  `only`: the columns of a pandas frame to convert, None
    for all.  SourceError, in one line, for any fault of the files.

    `skip_bad`: content that cannot be read becomes fragments marked as bad (see `skipping`); DataError where nothing
    can be read.
    """
    options = csv or CsvOptions()
    in_memory = frames.kind_of(source)
    if in_memory is not None:
        if in_memory == "dask":
            return _open_dask(partitions.look_at(source, names), (exclude, hints.types))
        return _open_rows(source, fragment_nbytes, (exclude, hints.types), names, only)
    if names is not None:
        raise SourceError("names= is for arrays; files have names of their own")
    kind, files, found = find_files(source, format)
    surveys = readers.survey(kind, files, options, fragment_nbytes, hints, skip_bad)
    pieces = [piece for item in surveys for piece in item.pieces]
    if pieces and all(piece.bad for piece in pieces):
        raise DataError(f"nothing of the source can be read; the first reason: {pieces[0].place()}: {pieces[0].bad}")
    join = text_csv.join if kind == "csv" else common
    unified, drift = unify(
        [(without_secrets(item.file.path), item.schema) for item in surveys if item.readable], exclude, join
    )
    keys = _hive_schema(surveys, unified, hints)
    schema, notes, left_out = _drop(_expect(pa.schema([*unified, *keys]), hints.types, kind))
    if not len(schema):
        raise SourceError(f"{files[0].path}: no column with a value in it")
    kept = set(schema.names)
    drift = tuple(item for item in drift if item.column in kept)
    return Source(
        format=kind,
        schema=schema,
        fragments=with_fingerprints(_cut(pieces, fragment_nbytes, len(schema)), files, kind),
        files=tuple(file.path for file in files),
        fingerprint=_fingerprint(kind, surveys),
        digests=_digests(surveys),
        notes=(
            *found,
            *notes,
            *drift_notes(drift, [item.schema for item in surveys if item.readable]),
            *_unsettled(surveys, hints, exclude),
        ),
        drift=drift,
        left_out=_refused((item.schema for item in surveys), unified) | left_out,
        hive=tuple(keys.names),
        csv=options,
        skip_bad=skip_bad,
    )


def _open_rows(
    data: Any,
    fragment_nbytes: int,
    expected: Expected,
    names: Sequence[str] | None,
    only: Collection[str] | None,
) -> Source:
    """Rows in memory, cut by their count."""
    unused = _matching(data.columns, expected[0]) if tabular.is_frame(data) else []
    held = tabular.to_table(data, frames.TABLE, names=names, only=only, unused=unused).replace_schema_metadata(None)
    kept, notes, left_out = _usable(held.schema, frames.TABLE, expected)
    if tabular.is_frame(data):
        notes += tabular.index_notes(data)
    fragments = _cut(frames.table_pieces(held, fragment_nbytes), fragment_nbytes, len(held.schema))
    fingerprint = hashlib.sha256(frames.table_digest(held)).hexdigest()
    return Source("arrow", kept, fragments, (), fingerprint, notes, left_out=left_out, frame=held)


def _open_dask(found: partitions.Collection, expected: Expected) -> Source:
    """A Dask collection, a fragment for each partition."""
    kept, notes, left_out = _usable(found.partitions.schema, found.where, expected)
    return Source(
        "dask",
        kept,
        tuple(Fragment(index, (piece,)) for index, piece in enumerate(found.pieces())),
        (),
        fingerprint=hashlib.sha256(found.digest).hexdigest(),
        notes=notes + found.notes,
        left_out=left_out,
        frame=found.partitions,
    )


def cut_by_rows(source: Source, rows: Sequence[int], fragment_nbytes: int) -> Source:
    """A source of Dask partitions, whose row counts are `rows`, in fragments that do not depend on the partitioning.

    They are those of an Arrow table with the same rows and types.
    """
    pieces = frames.pieces_of(source.frame.schema, sum(rows), fragment_nbytes, partitions.NAME)
    return replace(
        source, fragments=_cut(pieces, fragment_nbytes, len(source.frame.schema)), frame=source.frame.counted(rows)
    )


def _usable(
    schema: pa.Schema, where: str, expected: Expected
) -> tuple[pa.Schema, tuple[UserNote, ...], dict[str, str]]:
    """The columns of a table that can be read, the notes on the others, and why each of them is left out.

    SourceError where no column can be read.
    """
    exclude, types = expected
    unified, _ = unify([(where, schema)], exclude)
    kept, notes, left_out = _drop(_expect(unified, types, "arrow"))
    if not len(kept):
        raise SourceError(f"{where}: no column with a value in it")
    return kept, notes, _refused([schema], unified) | left_out


def _matching(names: Sequence[Any], exclude: Sequence[str]) -> list[str]:
    return [str(name) for name in names if any(matches(pattern, str(name)) for pattern in exclude)]


def _cut(pieces: list[Piece], fragment_nbytes: int, columns: int) -> tuple[Fragment, ...]:
    total = sum(piece.nbytes for piece in pieces)
    fragments = cut_fragments(pieces, target_nbytes(total, fragment_nbytes, columns))
    if not fragments:
        raise SourceError(f"{pieces[0].path}: no rows" if pieces else "the source has no rows")
    return fragments


def _hive_schema(surveys: Sequence[FileSurvey], schema: pa.Schema, hints: ColumnHints) -> pa.Schema:
    """The columns that folder names such as month=11 add; not those the files hold anyway.

    Integers where all values are integers that lose no digit (01 and 20 digits would); the training folders' type,
    where that is known.
    """
    values: dict[str, list[str]] = {}
    for item in surveys:
        for key, value in item.file.hive:
            values.setdefault(key, []).append(value)
    fields = []
    for key, texts in values.items():
        if key not in schema.names:
            known = hints.known(key)
            whole = _HIVE_NUMBER if hints.is_number(key) else _HIVE_INTEGER
            fits = all(text == HIVE_NULL or (whole.fullmatch(text) and _in_int64(text)) for text in texts)
            as_text = known is not None and is_text(known)
            fields.append(pa.field(key, pa.int64() if fits and not as_text else pa.string()))
    return pa.schema(fields)


def _in_int64(text: str) -> bool:
    return len(text) <= _LONGEST_INT64 and -(2**63) <= int(text) < 2**63


def _drop(schema: pa.Schema) -> tuple[pa.Schema, tuple[str, ...], dict[str, str]]:
    """Leaves out what holds no data: columns of type null, and the row numbers pandas keeps.

    Returns the schema, the notes, and why each column was left out.
    """
    null = [item.name for item in schema if pt.is_null(item.type)]
    index = [item.name for item in schema if is_pandas_index(item.name)]
    notes = []
    if null:
        notes.append(f"left out, without any value: {', '.join(null)}")
    if index:
        notes.append(f"left out, the index of a pandas frame: {', '.join(index)}")
    left_out = dict.fromkeys(null, NO_VALUE) | dict.fromkeys(index, "is the index of a pandas frame")
    return pa.schema([item for item in schema if item.name not in left_out]), tuple(notes), left_out


def _refused(schemas: Iterable[pa.Schema], unified: pa.Schema) -> dict[str, str]:
    """The columns of unusable types that the job excludes: name to reason."""
    known = set(unified.names)
    return {item.name: unusable(item.type) for schema in schemas for item in schema if item.name not in known}


def _expect(schema: pa.Schema, types: pa.Schema | None, kind: str) -> pa.Schema:
    """The schema with the types known beforehand, where they hold every value of the files' types."""
    fields = {item.name: item for item in schema}
    for item in types or ():
        if item.name in fields:
            known = normalise(item.type)
            if known is not None and common(fields[item.name].type, known) == known:
                fields[item.name] = pa.field(item.name, known)
        elif kind == "libsvm" and is_feature(item.name):
            fields[item.name] = pa.field(item.name, pa.float32())
    return pa.schema(list(fields.values()))


def _unsettled(surveys: Sequence[FileSurvey], hints: ColumnHints, exclude: Sequence[str]) -> tuple[UserNote, ...]:
    """The distinct notes of the files, without those on columns that the job has decided."""
    notes = dict.fromkeys(note for item in surveys for note in item.notes)
    return tuple(
        note
        for note in notes
        if not (isinstance(note, Finding) and note.kind == MIXED and settled(hints, exclude, str(note.column)))
    )


def _fingerprint(kind: str, surveys: Sequence[FileSurvey]) -> str:
    digest = hashlib.sha256(kind.encode())
    for item, name in zip(surveys, relative_names([item.file for item in surveys]), strict=True):
        digest.update(f"\0{name}\0{item.file.nbytes}\0{item.file.hive}\0".encode())
        digest.update(item.digest)
    return digest.hexdigest()


def _digests(surveys: Sequence[FileSurvey]) -> dict[str, str]:
    """A short hash of each file's metadata, by its relative name."""
    return {
        name: hashlib.sha256(f"{item.file.nbytes}\0{item.file.hive}\0".encode() + item.digest).hexdigest()[
            :DIGEST_LENGTH
        ]
        for item, name in zip(surveys, relative_names([item.file for item in surveys]), strict=True)
    }
