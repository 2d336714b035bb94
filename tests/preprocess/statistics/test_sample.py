"""The sample of rows: uniform, the same for any cutting, and bounded."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.keys import mix, seed_for
from pipeline.preprocess.statistics.sample import RowSample, SamplePlan, draw


def _rows(ids):
    ids = np.asarray(ids, dtype=np.uint64)
    return RowSample(pa.table({"x": ids}), ids, ids, ids, ids.astype(np.float32), None)


def _expected(ids, count, seed=0):
    order = np.argsort(mix(np.asarray(ids, dtype=np.uint64), seed_for(seed, "sample")))
    return sorted(np.asarray(ids)[order[:count]].tolist())


def _merged(parts):
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    return merged


@settings(max_examples=50)
@given(st.integers(1, 400), st.integers(1, 80), st.lists(st.integers(0, 400), max_size=6), st.booleans(), st.booleans())
def test_it_is_the_rows_with_the_smallest_hashes(rows, wanted, cuts, known, from_right):
    plan = SamplePlan(wanted, 3, rows if known else None)
    ends = [0, *sorted(min(cut, rows) for cut in cuts), rows]
    parts = [draw(_rows(range(low, high)), None, plan, high - low) for low, high in itertools.pairwise(ends)]
    if from_right:
        merged = parts[-1]
        for part in reversed(parts[:-1]):
            merged = part.merge(merged)
    else:
        merged = _merged(parts)
    got = merged.joined()
    expected = _expected(range(rows), wanted, seed=3)
    assert len(got) <= wanted
    if known:  # a threshold may make it smaller, never less uniform
        assert got.row_ids.tolist() == _expected(range(rows), len(got), seed=3)
    else:
        assert got.row_ids.tolist() == expected
    assert got.table["x"].to_pylist() == got.row_ids.tolist()
    assert got.label.tolist() == got.row_ids.tolist()


def test_a_known_number_of_rows_bounds_what_a_fragment_gives():
    plan = SamplePlan(5_000, 0, 200_000)
    parts = [draw(_rows(range(i, i + 20_000)), None, plan, 20_000) for i in range(0, 200_000, 20_000)]
    assert all(len(part.chunks[0]) < 5_000 * 0.1 * 1.4 for part in parts)
    assert _merged(parts).joined().row_ids.tolist() == _expected(range(200_000), 5_000)


def test_fragments_with_few_training_rows_do_not_bias_it():
    """Of the second half hardly any row trains: its threshold rises, the merged sample stays uniform."""
    plan = SamplePlan(2_000, 0, 40_000)
    everything = draw(_rows(range(20_000)), None, plan, 20_000)
    places = np.arange(0, 20_000, 100)
    few = draw(_rows(range(20_000, 40_000)), places, plan, 20_000)
    train = [*range(20_000), *(20_000 + places)]
    got = everything.merge(few).joined()
    assert 1_100 < len(got) <= 2_000
    assert got.row_ids.tolist() == _expected(train, len(got))


def test_surplus_rows_do_not_pile_up():
    plan = SamplePlan(100, 0)
    merged = draw(_rows(range(1_000)), None, plan, 1_000)
    for i in range(1, 30):
        merged = merged.merge(draw(_rows(range(i * 1_000, (i + 1) * 1_000)), None, plan, 1_000))
        assert sum(len(chunk) for chunk in merged.chunks) <= 200
    assert merged.joined().row_ids.tolist() == _expected(range(30_000), 100)


@pytest.mark.parametrize("count", [1, 10, 99, 100, 500])
def test_head_is_a_sample_of_the_sample(count):
    sample = draw(_rows(range(1_000)), None, SamplePlan(100, 0), 1_000).joined()
    assert sample.head(count).row_ids.tolist() == _expected(range(1_000), min(count, 100))


def test_the_seed_chooses():
    first, second = (draw(_rows(range(1_000)), None, SamplePlan(100, seed), 1_000).joined() for seed in (0, 1))
    assert len(np.intersect1d(first.row_ids, second.row_ids)) < 30
