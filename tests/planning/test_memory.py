"""The estimate of a run's memory: what was measured, and how it moves with the job."""

import dataclasses

import pytest

from pipeline.planning.memory import Shape, estimate, spare_nbytes

MIB = 2**20
SHAPE = Shape(
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
