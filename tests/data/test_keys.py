"""Row ids and the hash of them."""

import array_api_strict
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import keys

UINT64 = st.integers(0, 2**64 - 1)


def test_row_ids_hold_fragment_and_position():
    ids = keys.row_ids(3, np.array([0, 1, 2**40 - 1], dtype=np.uint64))
    assert ids.dtype == np.uint64
    assert ids.tolist() == [3 << 40, (3 << 40) + 1, (4 << 40) - 1]
    assert keys.place_of(int(ids[1])) == f"row id {(3 << 40) + 1} (fragment 3, row 1)"


@given(st.lists(UINT64, min_size=1, max_size=50), UINT64)
def test_mix_is_the_same_on_every_namespace_and_changes_nothing(values, seed):
    array = np.array(values, dtype=np.uint64)
    array.flags.writeable = False
    hashes = keys.mix(array, seed)
    strict = keys.mix(array_api_strict.asarray(array), seed)
    assert hashes.dtype == np.uint64
    assert np.array_equal(hashes, np.from_dlpack(strict))
    assert array.tolist() == values


def test_mix_is_one_to_one_and_uniform():
    ids = keys.row_ids(7, np.arange(200_000, dtype=np.uint64))
    hashes = keys.mix(ids, 1)
    assert len(np.unique(hashes)) == len(ids)
    counts = np.bincount((hashes >> np.uint64(58)).astype(np.int64), minlength=64)
    assert abs(counts - len(ids) / 64).max() < 5 * np.sqrt(len(ids) / 64)


def test_known_values_never_change():
    """Splits, samples and folds of saved models depend on these."""
    assert keys.mix(np.array([0, 1, 1 << 40], dtype=np.uint64), 0).tolist() == [
        5197578548964807871,
        11385487063155714807,
        9586660650435035791,
    ]
    assert keys.seed_for(0, "validation") == 2052526778456578306


@given(UINT64, st.integers(0, 1000))
def test_purposes_have_seeds_of_their_own(seed, number):
    seeds = [
        keys.seed_for(seed, "validation"),
        keys.seed_for(seed, "rows", number),
        keys.seed_for(seed, "rows", number + 1),
    ]
    seeds += [keys.seed_for(seed, "a purpose of many more than eight letters"), keys.seed_for(seed, number)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= value < 2**64 for value in seeds)


def test_chosen_takes_about_its_share_independently_of_other_seeds():
    ids = np.arange(100_000, dtype=np.uint64)
    first, second = keys.chosen(ids, keys.seed_for(1, "a"), 0.3), keys.chosen(ids, keys.seed_for(1, "b"), 0.5)
    assert abs(first.mean() - 0.3) < 0.01
    assert abs((first & second).mean() - 0.15) < 0.01
    assert keys.chosen(ids, 1, 1.0).all()
    assert not keys.chosen(ids, 1, 0.0).any()
