"""Reads text files as blocks of whole lines, from byte ranges or decompressed; names lines in errors."""

import struct
from collections.abc import Iterator

import pyarrow as pa

from pipeline.data.files.listing import File
from pipeline.data.files.retries import reason_of
from pipeline.data.files.storage import open_file, read_range
from pipeline.errors import SourceError

TEXT_FORMATS = ("csv", "libsvm")  # of sources whose rows are parsed from text
BLOCK_NBYTES = 8 << 20
BOM = b"\xef\xbb\xbf"
_COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
_COMPRESSED_RATIO = 4  # assumed where the file does not record its decompressed size
_NEWLINE_SEARCH_NBYTES = 64 << 10
LONGEST_LINE_NBYTES = 64 << 20  # of the first line: a longer one is not text


def compression(path: str) -> str | None:
    return next((kind for ending, kind in _COMPRESSIONS.items() if path.lower().endswith(ending)), None)


def text_nbytes(file: File) -> int:
    """The size of the decompressed text; an estimate for compressed files, the same on every call."""
    kind = compression(file.path)
    if kind is None:
        return file.nbytes
    if kind == "gzip" and file.nbytes > 18:
        size = int(struct.unpack("<I", read_range(file.path, file.nbytes - 4, file.nbytes))[0])  # modulo 4 GiB
        return max(size, file.nbytes)
    return file.nbytes * _COMPRESSED_RATIO


def cut_lines(path: str, start: int, stop: int, target_nbytes: int) -> list[tuple[int, int]]:
    """Byte ranges of about equal size, at most about `target_nbytes`, that start and end with lines."""
    count = max(1, -(-(stop - start) // target_nbytes))
    cuts = [start]
    for index in range(1, count):
        cut = _after_newline(path, max(cuts[-1], start + (stop - start) * index // count), stop)
        if cuts[-1] < cut < stop:
            cuts.append(cut)
    return list(zip(cuts, [*cuts[1:], stop], strict=True))


def _after_newline(path: str, place: int, stop: int) -> int:
    """The first byte after the next end of a line at or after `place` - 1."""
    place -= 1
    while place < stop:
        part = read_range(path, place, min(place + _NEWLINE_SEARCH_NBYTES, stop))
        found = part.find(b"\n")
        if found >= 0:
            return place + found + 1
        place += len(part)
    return stop


def blocks(path: str, byte_range: tuple[int, int] | None, *, quoted: bool = False) -> Iterator[bytes]:
    """The text in blocks of whole lines, some 8 MiB each; `quoted`: newlines inside double quotes end no line.

    `byte_range` is None for compressed files, which are read from their beginning.
    """
    rest = b""
    with _stream(path, byte_range) as stream:
        for part in stream:
            rest = rest + part if rest else part
            end = _last_line_end(rest, quoted)
            if end > 0:
                yield rest[:end]
                rest = rest[end:]
    if rest:
        yield rest


def _last_line_end(text: bytes, quoted: bool) -> int:
    """How many bytes of the text are whole lines."""
    end = text.rfind(b"\n") + 1
    if not quoted or not end:
        return end
    odd = text.count(b'"', 0, end) % 2
    while end and odd:  # the last newline is inside quotes: go back to one that is not
        before = text.rfind(b"\n", 0, end - 1) + 1
        odd = (odd + text.count(b'"', before, end)) % 2
        end = before
    return end


class _stream:
    """Parts of a file's text, not aligned to lines; a context manager that is also the iterator."""

    def __init__(self, path: str, byte_range: tuple[int, int] | None) -> None:
        self._path = path
        self._left = None if byte_range is None else byte_range[1] - byte_range[0]
        self._file = open_file(path)
        kind = compression(path)
        self._text = self._file if kind is None else pa.CompressedInputStream(pa.PythonFile(self._file, "r"), kind)
        if byte_range is not None:
            self._file.seek(byte_range[0])

    def __enter__(self) -> Iterator[bytes]:
        return iter(self._next, b"")

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._file.__exit__(kind, error, trace)

    def _next(self) -> bytes:
        wanted = BLOCK_NBYTES if self._left is None else min(BLOCK_NBYTES, self._left)
        try:
            part = self._text.read(wanted) if wanted else b""
        except (OSError, pa.ArrowException) as error:
            raise SourceError(f"{self._path}: damaged file: {reason_of(error)}") from None
        if self._left is not None:
            self._left -= len(part)
        return bytes(part)


def head(path: str) -> bytes:
    """The first lines of the text, without a byte order mark; all of it where it is short."""
    for block in _head_blocks(path):
        return block.removeprefix(BOM)
    return b""


def _head_blocks(path: str) -> Iterator[bytes]:
    if compression(path) is not None:
        yield from blocks(path, None)
        return
    nbytes = _NEWLINE_SEARCH_NBYTES
    while True:
        part = read_range(path, 0, nbytes)
        if len(part) < nbytes:
            break
        end = part.rfind(b"\n") + 1
        if end:
            part = part[:end]
            break
        if b"\r" in part:  # its lines end with \r alone, which the caller refuses
            break
        if nbytes >= LONGEST_LINE_NBYTES:
            raise SourceError(f"{path}: no line end in the first {nbytes >> 20} MiB: not a text file of lines")
        nbytes *= 4
    yield part


def line_number(path: str, byte_range: tuple[int, int] | None, block_index: int, line: int) -> int:
    """The number in the file, from 1, of a line known by its number, from 0, in one of a byte range's blocks.

    Reads the file up to it, so use it for errors only.
    """
    lines = 1 + line
    if byte_range is not None and byte_range[0] > 0:
        lines += sum(block.count(b"\n") for block in blocks(path, (0, byte_range[0])))
    for _, block in zip(range(block_index), blocks(path, byte_range), strict=False):
        lines += block.count(b"\n")
    return lines


def line_count(path: str, byte_range: tuple[int, int] | None) -> int:
    """The line ends in a byte range.  Reads the range, so use it for errors only."""
    return sum(block.count(b"\n") for block in blocks(path, byte_range))
