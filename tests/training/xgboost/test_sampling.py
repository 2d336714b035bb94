"""Row sampling depends on row id, round and seed alone."""

from types import ModuleType
from typing import Any

import array_api_strict
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.xgboost.sampling import chosen_mask, row_keys

IDS = np.concatenate([(np.uint64(f) << np.uint64(40)) | np.arange(5_000, dtype=np.uint64) for f in range(10)])


def row_mask(row_ids: Any, number: int, seed: int, share: float, xp: ModuleType = np) -> Any:
    return chosen_mask(row_keys(row_ids, seed), number, seed, share, xp)


@given(st.integers(1, 1_000), st.integers(0, 2**31 - 1), st.floats(0.05, 0.95))
def test_share_is_kept_and_order_does_not_matter(number: int, seed: int, share: float) -> None:
    mask = row_mask(IDS, number, seed, share)
    assert abs(mask.mean() - share) < 5 * np.sqrt(share * (1 - share) / len(IDS))
    order = np.random.default_rng(0).permutation(len(IDS))
    np.testing.assert_array_equal(row_mask(IDS[order], number, seed, share), mask[order])


def test_rounds_and_seeds_are_independent() -> None:
    masks = [row_mask(IDS, number, seed, 0.5) for number in (1, 2, 3) for seed in (0, 1)]
    together = np.corrcoef(np.array(masks, dtype=float))
    assert np.abs(together - np.eye(len(masks))).max() < 0.02


def test_neighbouring_rows_are_independent() -> None:
    mask = row_mask(IDS, 1, 0, 0.5).astype(float)
    for lag in (1, 2, 4, 256):
        assert abs(np.corrcoef(mask[lag:], mask[:-lag])[0, 1]) < 0.02


def test_whole_share_takes_all() -> None:
    assert row_mask(IDS, 1, 0, 1.0).all()


def test_strict_array_api() -> None:
    ids = array_api_strict.asarray(IDS)
    np.testing.assert_array_equal(np.asarray(row_mask(ids, 3, 1, 0.3, array_api_strict)), row_mask(IDS, 3, 1, 0.3))
