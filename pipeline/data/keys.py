"""Computes row ids, and the hash that everything random is keyed on.

A row id is `(fragment << 40) | position`, where position is the row's place in its fragment before any filter.
It depends on the files alone, so everything that is drawn from it is the same for any number of workers.

The functions take and return uint64 arrays of any array namespace (NumPy, CuPy, array-api-strict) and never
modify their input.
"""

from typing import Any

POSITION_BITS = 40
_MASK = (1 << 64) - 1
# splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014
_GAMMA = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB


def row_ids(fragment: int, positions: Any) -> Any:
    """uint64 ids, same shape as `positions` (uint64 places in the fragment)."""
    return positions | (fragment << POSITION_BITS)


def place_of(row_id: int) -> str:
    """The fragment and position of a row id as text, for errors."""
    fragment, position = row_id >> POSITION_BITS, row_id & ((1 << POSITION_BITS) - 1)
    return f"row id {row_id} (fragment {fragment}, row {position})"


def mix(keys: Any, seed: int) -> Any:
    """uint64 hash of each key (uint64 array) under a seed: uniform, the same on every machine."""
    z = keys ^ _scramble(seed & _MASK)
    z ^= z >> 30
    z *= _FIRST
    z ^= z >> 27
    z *= _SECOND
    z ^= z >> 31
    return z


def seed_for(seed: int, *purpose: int | str) -> int:
    """A 64-bit seed for one purpose, e.g. `seed_for(seed, "validation")` or `seed_for(seed, "rows", round)`.

    Two drawings that share a seed would choose the same rows; purposes keep them independent.
    """
    state = _scramble(seed & _MASK)
    for part in purpose:
        number = int.from_bytes(part.encode(), "little") if isinstance(part, str) else part
        while True:
            state = _scramble(state ^ (number & _MASK))
            number >>= 64
            if number in (0, -1):
                break
    return state


def chosen(keys: Any, seed: int, share: float) -> Any:
    """Boolean array: True for about `share` of the keys (0 to 1)."""
    hashes = mix(keys, seed)
    if share >= 1:
        return hashes == hashes
    return hashes < int(share * 2.0**64)


def _scramble(number: int) -> int:
    """The same hash of one Python int."""
    z = (number + _GAMMA) & _MASK
    z = ((z ^ (z >> 30)) * _FIRST) & _MASK
    z = ((z ^ (z >> 27)) * _SECOND) & _MASK
    return z ^ (z >> 31)
