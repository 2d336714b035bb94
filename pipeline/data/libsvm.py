"""LIBSVM text: `label index:value index:value ...`, for ranking with `qid:n` or a .query file of group sizes.

Columns are called f0, f1, ... after the indices (from f1 where no file has an index 0), float32; the label is
`label` and the query `query`.  An index that a row does not name is missing, as XGBoost reads it; where zeros were
left out and mean zero, set `impute = 0` for the columns.

With a .query file beside it (rank.train.query), queries are numbered through all files of the source.
"""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from pipeline.data import text
from pipeline.data.files import QUERY_ENDING, File
from pipeline.data.fragments import Piece
from pipeline.data.hints import NO_HINTS, ColumnHints
from pipeline.data.retries import patiently
from pipeline.data.storage import exists, read_all
from pipeline.data.survey import Surveyed, attempt, bad_file, ends_digest
from pipeline.errors import SourceError

LABEL, QUERY = "label", "query"
PIECE_NBYTES = 256 << 10  # of text; pieces are merged into fragments
MAX_FEATURES = 65_536  # rows become dense
_FEATURE = re.compile(r"f(\d+)")


@dataclass(frozen=True)
class _Block:
    """Some whole lines, taken apart; places are bytes from the start of the block."""

    bytes: np.ndarray  # uint8
    line_starts: np.ndarray  # (rows,) place of each row's label
    labels: np.ndarray  # (rows,) float32
    rows: np.ndarray  # (values,) the row of each index:value
    indices: np.ndarray  # (values,) int64
    value_places: tuple[np.ndarray, np.ndarray]  # (values,) start and stop of each value's text
    queries: np.ndarray | None  # (rows,) int64, where qid is given

    def line_of(self, place: int) -> int:
        """The number, from 0, of the line in which a byte of the block stands."""
        return int(np.count_nonzero(self.bytes[:place] == ord("\n")))


def is_feature(name: str) -> bool:
    """Whether a column is called as the features of LIBSVM files are."""
    return _FEATURE.fullmatch(name) is not None


def survey(files: Sequence[File], skip_bad: bool = False, hints: ColumnHints = NO_HINTS) -> list[Surveyed]:
    """Rows, columns and byte ranges of all files, from one pass over their text; pieces end with queries.

    With `skip_bad`, a file with a malformed line is one bad piece: what stands behind that line is not known.
    """
    seen = [(file, attempt(functools.partial(_survey, file), file.path, file.path, skip_bad)) for file in files]
    found = [item for _, item in seen if isinstance(item, _File)]
    if not found:
        return [bad_file(file, item) for file, item in seen if isinstance(item, str)]
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
        surveys.append(Surveyed(file, schema, pieces, patiently(functools.partial(ends_digest, file), file.path)))
        first_query += item.queries
    return surveys


@dataclass(frozen=True)
class _File:
    """One file's survey."""

    pieces: list[Piece]
    lowest: int  # index
    highest: int
    queries: int  # in its .query file
    has_queries: bool


def _survey(file: File) -> _File:
    if file.nbytes == 0:
        raise SourceError(f"{file.path}: an empty file")
    sizes = _query_sizes(file.path)
    ends = None if sizes is None else np.cumsum(sizes)
    whole = text.compression(file.path) is not None
    lowest, highest, rows, offset, last_query, has_qid = 1, 0, 0, 0, None, False
    cuts: list[tuple[int, int]] = []  # (byte, row) where pieces begin
    for index, raw in enumerate(text.blocks(file.path, None if whole else (0, file.nbytes))):
        block = _parse(raw, file.path, None if whole else (0, file.nbytes), index)
        if block.indices.size:
            lowest, highest = min(lowest, int(block.indices.min())), max(highest, int(block.indices.max()))
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
    return _File(pieces, lowest, highest, 0 if sizes is None else len(sizes), has_qid or sizes is not None)


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


def _query_starts(block: _Block, first_row: int, ends: np.ndarray | None, last_query: int | None) -> np.ndarray:
    """(rows,) True where a piece may begin: at each row, or where queries are, at the first of a query."""
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
    except ValueError:
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
        block = _parse(raw, piece.path, piece.byte_range, index)
        try:
            dense = _dense(block, lookup, len(features))
        except pa.ArrowInvalid:  # whose message holds the value
            line = block.line_of(_first_wrong(block))
            number = text.line_number(piece.path, piece.byte_range, index, line)
            raise SourceError(f"{piece.path}: line {number}: a value that is no number") from None
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


def _queries(block: _Block, first_row: int, sizes: np.ndarray | None, piece: Piece) -> np.ndarray:
    if sizes is not None:
        rows = np.arange(first_row, first_row + block.line_starts.size)
        return np.searchsorted(np.cumsum(sizes), rows, side="right") + piece.first_query
    if block.queries is None:
        raise SourceError(f"{piece.path}: rows without qid")
    return block.queries


def _dense(block: _Block, lookup: np.ndarray, features: int) -> np.ndarray:
    """(features, rows) float32, NaN where a row does not name the feature."""
    places = lookup[np.minimum(block.indices, lookup.size - 1)]
    wanted = places >= 0
    dense = np.full((features, block.line_starts.size), np.nan, dtype=np.float32)
    starts, stops = block.value_places
    values = _numbers(block.bytes, starts[wanted], stops[wanted], pa.float32())
    dense[places[wanted], block.rows[wanted]] = values
    return dense


def _first_wrong(block: _Block) -> int:
    """The place of the first value that is no number; there is one."""
    starts, stops = block.value_places
    low, high = 0, starts.size  # none before `low` is wrong, one before `high` is
    while high - low > 1:
        middle = (low + high) // 2
        try:
            _numbers(block.bytes, starts[low:middle], stops[low:middle], pa.float32())
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return int(starts[low])


def _parse(raw: bytes, path: str, byte_range: tuple[int, int] | None, index: int) -> _Block:
    """Takes a block of lines apart without a loop over them."""
    if b"#" in raw:
        raw = re.sub(rb"#[^\n]*", lambda match: b" " * len(match[0]), raw)
    data = np.frombuffer(raw, dtype=np.uint8)
    filled = np.concatenate([[False], data > ord(" "), [False]])
    edges = np.flatnonzero(filled[1:] != filled[:-1])
    starts, stops = edges[::2], edges[1::2]
    lines = np.searchsorted(np.flatnonzero(data == ord("\n")), starts)
    first = np.concatenate([[True], lines[1:] != lines[:-1]]) if lines.size else np.zeros(0, dtype=bool)
    colons = np.flatnonzero(data == ord(":"))
    owners = np.searchsorted(starts, colons, side="right") - 1
    if not np.array_equal(owners, np.flatnonzero(~first)):
        counts = np.bincount(owners, minlength=starts.size)
        raise _malformed(path, byte_range, index, int(lines[np.flatnonzero(counts != ~first)[0]]))
    rows = np.cumsum(first)[owners] - 1
    is_query = data[starts[owners]] == ord("q") if owners.size else np.zeros(0, dtype=bool)
    try:
        labels = _numbers(data, starts[first], stops[first], pa.float32())
        plain = ~is_query
        indices = _numbers(data, starts[owners[plain]], colons[plain], pa.int64())
        queries = None
        if is_query.any():
            if not np.array_equal(rows[is_query], np.arange(labels.size)):
                raise SourceError(f"{path}: qid stands on some rows only")
            queries = _numbers(data, colons[is_query] + 1, stops[owners[is_query]], pa.int64())
        values = colons[plain] + 1, stops[owners[plain]]
        if indices.size and indices.min() < 0:
            raise SourceError(f"{path}: a negative index")
        return _Block(data, starts[first], labels, rows[plain], indices, values, queries)
    except pa.ArrowInvalid:
        raise SourceError(f"{path}: a label or an index that is no number") from None


def _malformed(path: str, byte_range: tuple[int, int] | None, index: int, line: int) -> SourceError:
    number = text.line_number(path, byte_range, index, line)
    return SourceError(f"{path}: line {number}: expected `label index:value index:value ...`")


def _numbers(data: np.ndarray, starts: np.ndarray, stops: np.ndarray, kind: pa.DataType) -> np.ndarray:
    """The numbers whose texts stand at the given places of the bytes."""
    lengths = stops - starts
    offsets = np.zeros(lengths.size + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    marks = np.zeros(data.size + 1, dtype=np.int8)
    marks[starts] += 1  # each place stands here once: texts do not touch
    marks[stops] -= 1
    kept = data[np.cumsum(marks[:-1], dtype=np.int8).astype(bool)]
    texts = pa.Array.from_buffers(pa.string(), lengths.size, [None, pa.py_buffer(offsets), pa.py_buffer(kept)])
    return texts.cast(kind).to_numpy(zero_copy_only=False)
