"""Chooses the rows that take part in a round: by a hash of row id, round and seed, independent of worker and order."""

from types import ModuleType
from typing import Any

import numpy as np

from pipeline.data.keys import mix, seed_for


def row_keys(row_ids: Any, seed: int) -> Any:
    """Returns uint64 keys of rows (or of queries, by their first row): the part of the hash that all rounds share."""
    return mix(row_ids, seed_for(seed, "row_sample"))


def chosen_mask(keys: Any, round_number: int, seed: int, share: float, xp: ModuleType = np) -> Any:
    """Returns a boolean (rows,) mask: the rows of one round, about `share` of them; `keys`: from `row_keys`.

    One odd multiplier per round, of which the upper bits are compared (multiply-shift hashing): a few operations per
    row, because this runs before every round.
    """
    if share >= 1:
        return xp.ones(keys.shape, dtype=xp.bool)
    multiplier = seed_for(seed, "row_sample", round_number) | 1
    return keys * multiplier < int(share * 2.0**64)
