"""Fragments cover every row once, in order, and depend on the pieces alone."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.fragments import MIB, Piece, cut_fragments, target_nbytes


@st.composite
def pieces(draw: st.DrawFn) -> list[Piece]:
    """Files of row groups of any size."""
    made = []
    for number in range(draw(st.integers(1, 6))):
        first_row = 0
        for group in range(draw(st.integers(0, 5))):
            rows = draw(st.integers(0, 50))
            made.append(Piece(f"/f{number}", (group,), None, rows, rows * draw(st.integers(1, 9)), (), first_row))
            first_row += rows
    return made


def groups(of: list[Piece]) -> list[tuple[str, int]]:
    return [(piece.path, group) for piece in of for group in piece.row_groups or ()]


@given(pieces(), st.integers(1, 500))
def test_every_row_once_in_order(made: list[Piece], target: int) -> None:
    fragments = cut_fragments(made, target)
    assert [fragment.index for fragment in fragments] == list(range(len(fragments)))
    cut = [piece for fragment in fragments for piece in fragment.pieces]
    assert groups(cut) == groups([piece for piece in made if piece.rows])
    assert sum(fragment.rows or 0 for fragment in fragments) == sum(piece.rows or 0 for piece in made)
    assert sum(fragment.nbytes for fragment in fragments) == sum(piece.nbytes for piece in made)


@given(pieces(), st.integers(1, 500))
def test_larger_than_the_target_only_where_one_piece_is(made: list[Piece], target: int) -> None:
    for fragment in cut_fragments(made, target):
        assert fragment.nbytes <= target or sum(len(piece.row_groups or ()) for piece in fragment.pieces) == 1


@given(pieces(), st.integers(1, 500))
def test_neighbours_are_full(made: list[Piece], target: int) -> None:
    """No fragment could have taken the first piece of the next one."""
    sizes = {(piece.path, piece.row_groups): piece.nbytes for piece in made}
    fragments = cut_fragments(made, target)
    for left, right in itertools.pairwise(fragments):
        first = right.pieces[0]
        assert left.nbytes + sizes[first.path, (first.row_groups or ())[:1]] > target


@given(st.lists(st.integers(1, 100), min_size=1, max_size=20), st.integers(1, 300))
def test_byte_ranges_are_joined(lengths: list[int], target: int) -> None:
    stops = [sum(lengths[: place + 1]) for place in range(len(lengths))]
    made = [Piece("/f", None, (stop - length, stop), None, length) for length, stop in zip(lengths, stops, strict=True)]
    fragments = cut_fragments(made, target)
    assert all(len(fragment.pieces) == 1 and fragment.rows is None for fragment in fragments)
    ranges = [fragment.pieces[0].byte_range or (0, 0) for fragment in fragments]
    assert ranges[0][0] == 0
    assert ranges[-1][1] == stops[-1]
    assert all(left[1] == right[0] for left, right in itertools.pairwise(ranges))


def test_target() -> None:
    assert target_nbytes(10 * MIB, 64 * MIB) == MIB
    assert target_nbytes(160 * MIB, 64 * MIB) == 10 * MIB
    assert target_nbytes(8192 * MIB, 64 * MIB) == 64 * MIB
    assert target_nbytes(8192 * MIB, 1000) == 1000


def test_wide_sources_are_cut_into_larger_fragments():
    assert target_nbytes(10 * MIB, 64 * MIB, columns=256) == MIB
    assert target_nbytes(10 * MIB, 64 * MIB, columns=1_024) == 4 * MIB
    assert target_nbytes(10 * MIB, 64 * MIB, columns=100_000) == 64 * MIB
