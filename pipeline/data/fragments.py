"""Cuts files into fragments: pieces that are read alone, small ones merged.

    file a: row groups  [0][1][2]     file b: [0]      file c: [0][1]
    pieces:             a0 a1 a2              b0               c0 c1
    fragments:          (a0-1) (a2        b0           c0)     (c1)

They depend on the files alone, never on the number of workers: row ids, and with them everything random,
follow from (fragment, position).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pipeline.formatting import without_secrets

MIB = 1 << 20
MIN_FRAGMENT_NBYTES = 1 * MIB  # a smaller task costs more than its work
# With more columns the smallest fragment is larger, 4 KiB a column: each column costs a call, however few its rows.
COLUMNS_PER_FRAGMENT = 256
MIN_FRAGMENTS = 16  # small sources are cut finer, so that a few workers find work and a progress bar moves


@dataclass(frozen=True)
class FileFingerprint:
    """State of a file when the source was opened; a later reader compares it to detect changes."""

    path: str
    nbytes: int
    mark: int | str | None  # modification time in ns, ETag of a URL; None: not reported
    machine: str = ""  # the machine of this modification time: another may have its own copy; empty for URLs


@dataclass(frozen=True)
class Piece:
    """Adjacent rows of one file."""

    path: str  # absolute path or URL; a name in angle brackets for tables in memory
    row_groups: tuple[int, ...] | None  # Parquet row groups or Arrow record batches; None: the format has none
    byte_range: tuple[int, int] | None  # text: the bytes from start up to stop, whole lines; None: the whole file
    rows: int | None  # None where they have not been counted yet
    nbytes: int  # estimate of the decoded size
    hive: tuple[tuple[str, str], ...] = ()  # keys and values from folder names such as month=11
    first_row: int = 0  # number of the piece's first row in its file or table
    first_query: int = 0  # LIBSVM with .query file: queries in the files before this one
    stamps: tuple[FileFingerprint, ...] = ()  # of the files that its rows are in; none for tables in memory
    bad: str = ""  # why it cannot be read, if that is known already

    def place(self, group: str = "row group") -> str:
        """The file and the place in it, for messages; `group`: the format's word for a row group.

        >>> Piece("/a.parquet", (0, 1, 2, 5), None, 9, 9).place(), Piece("/a.csv", None, (10, 90), 9, 9).place()
        ('/a.parquet, row groups 0-2, 5', '/a.csv, bytes 10 to 90')
        """
        path = without_secrets(self.path)
        if self.byte_range is not None:
            return f"{path}, bytes {self.byte_range[0]} to {self.byte_range[1]}"
        if not self.row_groups:
            return path
        runs: list[list[int]] = []
        for number in self.row_groups:
            if runs and number == runs[-1][-1] + 1:
                runs[-1].append(number)
            else:
                runs.append([number])
        said = ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
        plural = ("es" if group.endswith("h") else "s") * (len(self.row_groups) > 1)
        return f"{path}, {group}{plural} {said}"


@dataclass(frozen=True)
class Fragment:
    """What one task reads: pieces in order."""

    index: int  # high bits of the row ids
    pieces: tuple[Piece, ...]

    @property
    def rows(self) -> int | None:
        """Rows in the fragment; None while one piece has not been counted."""
        counts = [piece.rows for piece in self.pieces]
        return None if None in counts else sum(rows for rows in counts if rows is not None)

    @property
    def nbytes(self) -> int:
        return sum(piece.nbytes for piece in self.pieces)


def target_nbytes(total_nbytes: int, wanted_nbytes: int, columns: int = 1) -> int:
    """The size fragments are merged up to: as wanted, but small sources get at least some 16 fragments of 1 MiB, or of
    4 KiB a column where that is more.
    """
    least = MIN_FRAGMENT_NBYTES * max(COLUMNS_PER_FRAGMENT, columns) // COLUMNS_PER_FRAGMENT
    return max(1, min(wanted_nbytes, max(total_nbytes // MIN_FRAGMENTS, least)))


def cut_fragments(pieces: Iterable[Piece], target_nbytes: int) -> tuple[Fragment, ...]:
    """Merges pieces, in order, into fragments of at most `target_nbytes`; a larger piece is one of its own.

    Pieces without rows are left out, because no training is possible on an empty fragment.  A piece that is known to be
    bad is a fragment of its own, so that good pieces are not skipped with it.
    """
    bundles: list[list[Piece]] = []
    filled = 0
    for piece in pieces:
        if piece.rows == 0:
            continue
        if not bundles or filled + piece.nbytes > target_nbytes or piece.bad or bundles[-1][-1].bad:
            bundles.append([])
            filled = 0
        bundles[-1].append(piece)
        filled += piece.nbytes
    return tuple(Fragment(index, _join(bundle)) for index, bundle in enumerate(bundles))


def _join(pieces: Iterable[Piece]) -> tuple[Piece, ...]:
    """The same rows in as few pieces as possible: neighbours in one file are read at once."""
    joined: list[Piece] = []
    for piece in pieces:
        if joined and _adjacent(joined[-1], piece):
            joined[-1] = _joined(joined[-1], piece)
        else:
            joined.append(piece)
    return tuple(joined)


def _adjacent(left: Piece, right: Piece) -> bool:
    if left.path != right.path:
        return False
    if left.row_groups is not None and right.row_groups is not None:
        return left.row_groups[-1] < right.row_groups[0]
    if left.byte_range is not None and right.byte_range is not None:
        return left.byte_range[1] == right.byte_range[0]
    return left.rows is not None and left.first_row + left.rows == right.first_row


def _joined(left: Piece, right: Piece) -> Piece:
    groups = left.row_groups, right.row_groups
    ranges = left.byte_range, right.byte_range
    return replace(
        left,
        row_groups=None if groups[0] is None or groups[1] is None else groups[0] + groups[1],
        byte_range=None if ranges[0] is None or ranges[1] is None else (ranges[0][0], ranges[1][1]),
        rows=None if left.rows is None or right.rows is None else left.rows + right.rows,
        nbytes=left.nbytes + right.nbytes,
    )
