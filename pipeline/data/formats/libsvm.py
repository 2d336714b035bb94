"""Reads LIBSVM text: `label index:value index:value ...`, for ranking with `qid:n` or a .query file of group sizes.

Columns are named f0, f1, ... after the indices (from f1 where no file has an index 0), float32; the label is
`label` and the query `query`.  An index that a row does not name is missing, as XGBoost reads it; where zeros were
left out and mean zero, set `impute = 0` for the columns.

With a .query file next to it (rank.train.query), queries are numbered through all files of the source.
"""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from pipeline.data.files.listing import QUERY_ENDING, File
from pipeline.data.files.retries import patiently
from pipeline.data.files.storage import exists, read_all
from pipeline.data.formats import text
from pipeline.data.formats.libsvm_blocks import LibsvmBlock, parse_block
from pipeline.data.formats.survey import FileSurvey, attempt, bad_file, ends_digest
from pipeline.data.fragments import Piece
from pipeline.data.schema.hints import NO_HINTS, ColumnHints
from pipeline.errors import SourceError
from pipeline.events.findings import Finding
from pipeline.formatting import without_secrets

LABEL, QUERY = "label", "query"
PIECE_NBYTES = 256 << 10  # of text; pieces are merged into fragments
MAX_FEATURES = 65_536  # rows become dense
_FEATURE = re.compile(r"f(\d+)")


def is_feature(name: str) -> bool:
    """Whether the name is one of a LIBSVM feature column."""
    return _FEATURE.fullmatch(name) is not None


def survey(files: Sequence[File], skip_bad: bool = False, hints: ColumnHints = NO_HINTS) -> list[FileSurvey]:
    """Rows, columns and byte ranges of all files, from one pass over their text; pieces end with queries.

    With `skip_bad`, a file with a malformed line is one bad piece: the content after that line is unknown.
    """
    seen = [(file, attempt(functools.partial(_survey, file), file.path, file.path, skip_bad)) for file in files]
    found = [item for _, item in seen if isinstance(item, _File)]
    if not found:
        return [bad_file(file, item) for file, item in seen if isinstance(item, str)]
    notes = _check_bases(found, hints)
    most = max(item.highest for item in found)
    if most >= MAX_FEATURES:
        worst = max(found, key=lambda item: item.highest)
        raise SourceError(
            f"{worst.pieces[0].path}: index {most}; rows become dense, so at most {MAX_FEATURES} are read"
        )
    first = 0 if any(item.lowest == 0 for item in found) else 1
    names = [LABEL, *(f"f{index}" for index in range(first, most + 1))]
    kinds = [pa.float32()] * len(names)
    with_queries = {item.has_queries for item in found}
    if len(with_queries) > 1:
        lacking = next(item.pieces[0].path for item in found if not item.has_queries)
        raise SourceError(f"{lacking}: has no queries (neither qid nor {QUERY_ENDING} file), but other files have")
    if True in with_queries:
        names, kinds = [QUERY, *names], [pa.int64(), *kinds]
    schema = pa.schema(list(zip(names, kinds, strict=True)))
    surveys = []
    first_query = 0
    for file, item in seen:
        if isinstance(item, str):
            surveys.append(bad_file(file, item))
            continue
        pieces = tuple(
            replace(piece, first_query=first_query, nbytes=max(piece.nbytes, 4 * len(names) * (piece.rows or 0)))
            for piece in item.pieces
        )
        surveys.append(FileSurvey(file, schema, pieces, patiently(functools.partial(ends_digest, file), file.path)))
        first_query += item.queries
    surveys[0] = replace(surveys[0], notes=notes)
    return surveys


def _check_bases(files: Sequence["_File"], hints: ColumnHints) -> tuple[Finding, ...]:
    """SourceError where some files count their features from 0 and others from 1, which shifts every column by one.

    A file without an index 0 may just lack values there: it is refused only if it has one index more than the files
    with an index 0, and an index 1.  Other cases are findings, and so are files whose first index differs from a
    model's.
    """
    zero = [item for item in files if item.lowest == 0]
    one = [item for item in files if item.lowest > 0 and item.highest]
    if zero and one:
        most = max(item.highest for item in zero)
        shifted = [item for item in one if item.lowest == 1 and item.highest == most + 1]
        names = (shifted or one)[0].path, zero[0].path
        said = f"its indices begin at {(shifted or one)[0].lowest}, those of {names[1]} at 0"
        advice = "if both count from 0, name index 0 in one row of it, as 0:nan; else renumber one of them"
        if shifted:
            raise SourceError(f"{names[0]}: {said}, and go one further: it counts from 1; {advice}")
        return (
            Finding(
                "libsvm_base",
                f"{names[0]}: {said}: where it counts from 1, columns are shifted; {advice}",
                where=names[0],
            ),
        )
    known = [int(match[1]) for name in (hints.types or pa.schema([])).names if (match := _FEATURE.fullmatch(name))]
    if not known:
        return ()
    for item in files:
        counts_from_one = min(known) == 0 and item.lowest == 1 and item.highest == max(known) + 1
        counts_from_zero = min(known) == 1 and item.lowest == 0 and item.highest == max(known) - 1
        if counts_from_one or counts_from_zero:
            said = f"its features are f{item.lowest} to f{item.highest}, those known are f{min(known)} to f{max(known)}"
            advice = "where it counts them from another number, columns are shifted by one: renumber it"
            return (Finding("libsvm_base", f"{item.path}: {said}; {advice}", where=item.path),)
    return ()


@dataclass(frozen=True)
class _File:
    """One file's survey."""

    path: str  # without secrets
    pieces: list[Piece]
    lowest: int  # index; 1 (and a highest of 0) where no row names any
    highest: int
    queries: int  # in its .query file
    has_queries: bool


def _survey(file: File) -> _File:
    if file.nbytes == 0:
        raise SourceError(f"{file.path}: an empty file")
    sizes = _query_sizes(file.path)
    ends = None if sizes is None else np.cumsum(sizes)
    whole = text.compression(file.path) is not None
    lowest, highest, rows, offset, last_query, has_qid = None, 0, 0, 0, None, False
    cuts: list[tuple[int, int]] = []  # (byte, row) where pieces begin
    for index, raw in enumerate(text.blocks(file.path, None if whole else (0, file.nbytes))):
        block = parse_block(raw, file.path, None if whole else (0, file.nbytes), index)
        if block.indices.size:
            least = int(block.indices.min())
            lowest, highest = min(least, least if lowest is None else lowest), max(highest, int(block.indices.max()))
        starts = _query_starts(block, rows, ends, last_query)
        for row in np.flatnonzero(starts):
            place = offset + int(block.line_starts[row])
            if not cuts or (not whole and place - cuts[-1][0] >= PIECE_NBYTES):
                cuts.append((place, rows + int(row)))
        if block.queries is not None and block.queries.size:
            has_qid, last_query = True, int(block.queries[-1])
        rows += block.line_starts.size
        offset += len(raw)
    if ends is not None and (int(ends[-1]) if ends.size else 0) != rows:
        raise SourceError(
            f"{file.path}{QUERY_ENDING}: its groups add up to {int(ends[-1]) if ends.size else 0} rows, the file has {rows}"
        )
    pieces = _pieces(file, cuts, rows, None if whole else offset)
    return _File(
        without_secrets(file.path),
        pieces,
        1 if lowest is None else lowest,
        highest,
        0 if sizes is None else len(sizes),
        has_qid or sizes is not None,
    )


def _pieces(file: File, cuts: list[tuple[int, int]], rows: int, stop: int | None) -> list[Piece]:
    if stop is None:
        return [Piece(file.path, None, None, rows, text.text_nbytes(file), file.hive)]
    if not cuts:
        raise SourceError(f"{file.path}: no rows")
    cuts[0] = (0, 0)
    ends = [*cuts[1:], (stop, rows)]
    return [
        Piece(file.path, None, (start, end), last - first, end - start, file.hive, first)
        for (start, first), (end, last) in zip(cuts, ends, strict=True)
    ]


def _query_starts(block: LibsvmBlock, first_row: int, ends: np.ndarray | None, last_query: int | None) -> np.ndarray:
    """(rows,) True where a piece may begin: at each row, or, with queries, at the first row of a query."""
    count = block.line_starts.size
    if ends is not None:
        return np.isin(np.arange(first_row, first_row + count), np.concatenate([[0], ends]))
    starts = np.ones(count, dtype=bool)
    if block.queries is not None and count:
        starts[1:] = block.queries[1:] != block.queries[:-1]
        starts[0] = last_query is None or int(block.queries[0]) != last_query
    return starts


def _query_sizes(path: str) -> np.ndarray | None:
    """The group sizes in a .query file, or None where there is none."""
    name = path + QUERY_ENDING
    if not exists(name):
        return None
    words = read_all(name).split()
    try:
        sizes = np.array([int(word) for word in words], dtype=np.int64)
    except (ValueError, OverflowError):
        raise SourceError(f"{name}: expected one whole number, the rows of a query, on each line") from None
    if (sizes <= 0).any():
        raise SourceError(f"{name}: a query of {int(sizes.min())} rows")
    return sizes


def read(piece: Piece, schema: pa.Schema) -> pa.Table:
    """The columns of `schema`; features no row of the piece names are wholly missing."""
    features = {int(match[1]): place for place, name in enumerate(schema.names) if (match := _FEATURE.fullmatch(name))}
    lookup = np.full(max(features, default=0) + 2, -1, dtype=np.int64)
    for order, index in enumerate(features):
        lookup[index] = order
    tables = []
    row = piece.first_row
    sizes = _query_sizes(piece.path) if QUERY in schema.names else None
    for index, raw in enumerate(text.blocks(piece.path, piece.byte_range)):
        block = parse_block(raw, piece.path, piece.byte_range, index)
        dense = _dense(block, lookup, len(features))
        columns = dict(zip(features.values(), dense, strict=True))
        if LABEL in schema.names:
            columns[schema.get_field_index(LABEL)] = block.labels
        if QUERY in schema.names:
            columns[schema.get_field_index(QUERY)] = _queries(block, row, sizes, piece)
        count = block.line_starts.size
        arrays = {name: columns[place] for place, name in enumerate(schema.names) if place in columns}
        tables.append(pa.table(arrays or {"": np.zeros(count, np.int8)}))
        row += count
    return pa.concat_tables(tables) if tables else schema.empty_table()


def _queries(block: LibsvmBlock, first_row: int, sizes: np.ndarray | None, piece: Piece) -> np.ndarray:
    if sizes is not None:
        rows = np.arange(first_row, first_row + block.line_starts.size)
        return np.searchsorted(np.cumsum(sizes), rows, side="right") + piece.first_query
    if block.queries is None:
        raise SourceError(f"{piece.path}: rows without qid")
    return block.queries


def _dense(block: LibsvmBlock, lookup: np.ndarray, features: int) -> np.ndarray:
    """(features, rows) float32, NaN where a row does not name the feature."""
    places = lookup[np.minimum(block.indices, lookup.size - 1)]
    wanted = places >= 0
    dense = np.full((features, block.line_starts.size), np.nan, dtype=np.float32)
    starts, stops = block.value_places
    values = block.numbers(starts[wanted], stops[wanted], pa.float32(), "a value")
    dense[places[wanted], block.rows[wanted]] = values
    return dense
