"""The estimate of a run's memory: what was measured, and how it moves with the job."""

import dataclasses

import pytest

from pipeline.planning.memory import (
    MIN_PAGE_ROWS,
    WORKER_NBYTES,
    MemoryShape,
    estimate,
    file_nbytes,
    page_rows,
    spare_nbytes,
    worker_need,
)

MIB = 2**20
SHAPE = MemoryShape(
    rows=2_000_000, features=28, bins=255, depth=8, classes=1, workers=1, threads=2, fragment_rows=125_000, missing=False
)  # fmt: skip


def test_a_run_of_two_million_rows() -> None:
    """Measured end to end on 2 M x 28 floats without missing values, depth 8, 2 threads: 0.75 to 0.99 GB."""
    assert 0.7e9 < estimate(SHAPE).peak_nbytes < 1.1e9


def test_histograms_are_as_measured() -> None:
    """16 bytes a bin, and as many histograms as a tree has inner nodes: this formula gave 258 MB where 252 were measured."""
    deep, flat = (estimate(dataclasses.replace(SHAPE, rows=0, depth=depth, threads=1)) for depth in (11, 1))
    assert deep.rounds_nbytes - flat.rounds_nbytes == 16 * 28 * 255 * (2**11 - 2)


def test_missing_values_double_the_matrix() -> None:
    plain, missing = (estimate(dataclasses.replace(SHAPE, missing=flag)) for flag in (False, True))
    assert missing.matrix_nbytes - plain.matrix_nbytes == pytest.approx(2.9 * 2_000_000 * 28)
    assert missing.blocks_nbytes == plain.blocks_nbytes


@pytest.mark.parametrize(
    "field", ["rows", "features", "bins", "depth", "classes", "workers", "threads", "fragment_rows"]
)
def test_more_of_anything_never_takes_less(field: str) -> None:
    more = dataclasses.replace(SHAPE, **{field: 2 * getattr(SHAPE, field)})
    before, after = estimate(SHAPE), estimate(more)
    for stage in ("base_nbytes", "blocks_nbytes", "matrix_nbytes", "rounds_nbytes", "peak_nbytes"):
        assert getattr(after, stage) >= getattr(before, stage)
    assert after != before


def test_the_peak_is_that_of_one_stage() -> None:
    found = estimate(SHAPE)
    assert found.peak_nbytes - found.base_nbytes == max(found.blocks_nbytes, found.matrix_nbytes, found.rounds_nbytes)


def test_histograms_stop_growing_where_xgboosts_cache_does() -> None:
    deep, deeper = (estimate(dataclasses.replace(SHAPE, depth=depth)) for depth in (16, 40))
    assert deeper.rounds_nbytes - deep.rounds_nbytes == 16 * 28 * 255  # 2^16 - 1 nodes become 65,536


def test_rows_kept_between_the_passes_never_raise_the_peak() -> None:
    for rows in (0, 1_000, 2_000_000, 50_000_000):
        for fragment_rows in (1_000, 1_000_000):
            shape = dataclasses.replace(SHAPE, rows=rows, fragment_rows=fragment_rows)
            need, spare = estimate(shape), spare_nbytes(shape)
            assert spare >= 0
            assert spare == 0 or need.blocks_nbytes + spare <= max(need.matrix_nbytes, need.rounds_nbytes)
    assert spare_nbytes(SHAPE) > 150 * MIB  # most of the 224 MB that the raw rows take


def test_nothing_is_kept_where_decoding_takes_all() -> None:
    assert spare_nbytes(dataclasses.replace(SHAPE, rows=1_000, depth=1, fragment_rows=10_000_000)) == 0


WIDE = dataclasses.replace(SHAPE, features=128, depth=6, fragment_rows=100_000)


def test_a_disk_takes_the_matrix_and_the_codes() -> None:
    need = worker_need(WIDE, 1_000_000)
    assert WORKER_NBYTES < need.disk_nbytes < need.memory_nbytes < need.all_nbytes


def test_the_numbers_of_a_refusal_add_up() -> None:
    need = worker_need(WIDE, 50_000_000)
    assert need.fixed_nbytes + 50_000_000 * need.row_nbytes == pytest.approx(need.disk_nbytes, rel=1e-6)


@pytest.mark.parametrize("field", ["features", "bins", "depth", "classes", "fragment_rows"])
def test_a_worker_never_needs_less_for_more(field: str) -> None:
    more = dataclasses.replace(WIDE, **{field: 2 * getattr(WIDE, field)})
    for rows in (0, 1, 10_000, 5_000_000):
        before, after = worker_need(WIDE, rows), worker_need(more, rows)
        for name in ("all_nbytes", "memory_nbytes", "disk_nbytes"):
            assert getattr(after, name) >= getattr(before, name), (name, rows)


def test_more_rows_never_need_less() -> None:
    counts = [0, 1, 1_000, 131_071, 131_072, 131_073, 262_145, 10**7]
    for name in ("all_nbytes", "memory_nbytes", "disk_nbytes"):
        found = [getattr(worker_need(WIDE, rows), name) for rows in counts]
        assert found == sorted(found)


def test_pages_are_neither_tiny_nor_large() -> None:
    assert page_rows(128) * 128 * 4 == 64 * MIB
    assert page_rows(3_000) == MIN_PAGE_ROWS
    assert page_rows(0) == page_rows(1) == 16 * MIB


def test_a_value_missing_in_one_page_makes_all_of_them_larger() -> None:
    full, hole = (1_000, [1_000] * 8), (1_000, [999] + [1_000] * 7)
    empty = (1_000, [100] + [1_000] * 7)
    dense, missing, sparse = file_nbytes([full, full]), file_nbytes([full, hole]), file_nbytes([full, empty])
    assert dense < missing < sparse
    assert sparse < file_nbytes([empty, empty])
    assert file_nbytes([]) == 0
