"""Parses blocks of LIBSVM lines without a loop over the lines."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.data.formats import text
from pipeline.data.formats.bisection import first_misfit
from pipeline.errors import SourceError

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class BlockPosition:
    """Where a block is, for errors."""

    path: str
    byte_range: tuple[int, int] | None
    index: int  # of the block in the byte range

    def error(self, line: int, what: str) -> SourceError:
        """`line`: from 0, in the block."""
        number = text.line_number(self.path, self.byte_range, self.index, line)
        return SourceError(f"{self.path}: line {number}: {what}")


@dataclass(frozen=True)
class LibsvmBlock:
    """Some whole lines, parsed; places are bytes from the start of the block."""

    place: BlockPosition
    bytes: npt.NDArray[np.uint8]
    line_starts: Places  # (rows,) place of each row's label
    labels: npt.NDArray[np.float32]  # (rows,)
    rows: Places  # (values,) the row of each index:value
    indices: Places  # (values,)
    value_places: tuple[Places, Places]  # (values,) start and stop of each value's text
    queries: Places | None  # (rows,), where qid is given

    def numbers(self, starts: Places, stops: Places, kind: pa.DataType, what: str) -> npt.NDArray[Any]:
        """The numbers whose texts are at these places; SourceError naming the line of a text that is no number."""
        return _numbers(self.place, self.bytes, starts, stops, (kind, what))


def parse_block(raw: bytes, path: str, byte_range: tuple[int, int] | None, index: int) -> LibsvmBlock:
    """The `index`-th block of a byte range; SourceError names the line of what is wrong."""
    place = BlockPosition(path, byte_range, index)
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
        wrong = int(lines[np.flatnonzero(counts != ~first)[0]])
        raise place.error(wrong, "expected `label index:value index:value ...`")
    rows = np.cumsum(first)[owners] - 1
    plain = data[starts[owners]] != ord("q") if owners.size else np.zeros(0, dtype=bool)
    labels = _numbers(place, data, starts[first], stops[first], (pa.float32(), "a label"))
    indices = _numbers(place, data, starts[owners[plain]], colons[plain], (pa.int64(), "an index"))
    queries = None
    if not plain.all():
        if not np.array_equal(rows[~plain], np.arange(labels.size)):
            with_query = np.bincount(rows[~plain], minlength=labels.size)
            row = int(np.flatnonzero(with_query != 1)[0])
            raise place.error(int(lines[first][row]), "no qid, or two, where other rows have one")
        queries = _numbers(place, data, colons[~plain] + 1, stops[owners[~plain]], (pa.int64(), "a qid"))
    values = colons[plain] + 1, stops[owners[plain]]
    block = LibsvmBlock(place, data, starts[first], labels, rows[plain], indices, values, queries)
    _check_indices(block)
    return block


def _check_indices(block: LibsvmBlock) -> None:
    """SourceError for an index that is negative, or repeated in a row: which of the two values counts is unknown."""
    indices, rows = block.indices, block.rows
    if not indices.size:
        return
    wrong, what = np.flatnonzero(indices < 0), "a negative index"
    if not wrong.size and ((indices[1:] <= indices[:-1]) & (rows[1:] == rows[:-1])).any():  # rare: they are in order
        order = np.lexsort((indices, rows))
        again = (indices[order][1:] == indices[order][:-1]) & (rows[order][1:] == rows[order][:-1])
        wrong, what = order[1:][again], "an index twice in one row"
    if wrong.size:
        raise block.place.error(_line_of(block.bytes, int(block.value_places[0][wrong.min()])), what)


def _line_of(data: npt.NDArray[np.uint8], place: int) -> int:
    """The number, from 0, of the line that contains a byte."""
    return int(np.count_nonzero(data[:place] == ord("\n")))


def _numbers(
    place: BlockPosition, data: npt.NDArray[np.uint8], starts: Places, stops: Places, meant: tuple[pa.DataType, str]
) -> npt.NDArray[Any]:
    """The numbers whose texts are at the given places of the bytes; `meant`: their type, and what they are."""
    kind, what = meant
    try:
        return _read(data, starts, stops, kind)
    except pa.ArrowInvalid:  # Arrow's message holds the value
        wrong = first_misfit(starts.size, lambda low, high: _read(data, starts[low:high], stops[low:high], kind))
        raise place.error(_line_of(data, int(starts[wrong])), f"{what} that is no number") from None


def _read(data: npt.NDArray[np.uint8], starts: Places, stops: Places, kind: pa.DataType) -> npt.NDArray[Any]:
    lengths = stops - starts
    offsets = np.zeros(lengths.size + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    marks = np.zeros(data.size + 1, dtype=np.int8)
    marks[starts] += 1  # each place occurs once: texts do not touch
    marks[stops] -= 1
    kept = data[np.cumsum(marks[:-1], dtype=np.int8).astype(bool)]
    texts = pa.Array.from_buffers(pa.string(), lengths.size, [None, pa.py_buffer(offsets), pa.py_buffer(kept)])
    return texts.cast(kind).to_numpy(zero_copy_only=False)
