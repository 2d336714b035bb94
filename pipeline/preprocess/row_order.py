"""Orders the rows of a block: rows that trees send the same way lie next to each other in memory.

XGBoost's kernels on the CPU visit the rows of a tree's nodes one node after the other.  In source order the rows of a
node are scattered, and each visit is a cache miss.  So each block is sorted by a key: one bit after the other, the
highest first, that says in which half of a feature's values a row lies (then in which half of that half).  Which feature
gives the next bit is found on a sample: the one that explains the label best, given the bits before.  The trees of the
training are others, but rows that agree on the features of most gain mostly meet in their nodes, too.

The order depends on the sample alone, and the model on the order no more than on the layout of the rows over workers
(docs/architecture.md, decision 4).
`python -m benchmarks.row_order` compares orders.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.config.encoding import ENCODING

BITS = 10  # of the key: two bytes, which NumPy sorts by radix
SAMPLE_ROWS = 32_768
SAMPLE_VALUES = 1 << 20  # the key of many features is found on fewer rows
LEAST_SAMPLE_ROWS = 2_048
MOST_FEATURES = 64  # that are tried for the second bit and those below: those that explain most with the first
MOST_CLASSES = 8  # the most frequent ones count

Codes = npt.NDArray[np.unsignedinteger]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RowOrder:
    """A key over bin codes, by which rows are sorted."""

    features: tuple[int, ...]  # that it is made of
    bits: npt.NDArray[np.uint16]  # (features of the key, codes): the bits of the key that a code of that feature sets

    def keys(self, codes: Codes) -> npt.NDArray[np.uint16]:
        """Returns the key (rows,) of each row of codes (rows, features)."""
        found = np.zeros(len(codes), np.uint16)
        for feature, bits in zip(self.features, self.bits, strict=True):
            found |= bits[codes[:, feature]]
        return found

    def positions(self, codes: Codes) -> npt.NDArray[np.intp]:
        """Returns the positions (rows,) of the rows of codes (rows, features) in their new order: by key, those of one
        key as they come.
        """
        return np.argsort(self.keys(codes), kind="stable")


def sample_rows(features: int) -> int:
    """Returns how many rows the key is found on."""
    return min(SAMPLE_ROWS, max(LEAST_SAMPLE_ROWS, SAMPLE_VALUES // max(1, features)))


def fit_row_order(
    codes: Codes,
    label: npt.NDArray[np.float32],
    weight: npt.NDArray[np.float32] | None,
    levels: Sequence[int | None],
    classes: int = 0,
) -> RowOrder:
    """Finds the key on a sample: each bit lowers the squared error of the label most, as a split of all keys so far.

    `codes`: (rows, features).  `label`: (rows,).  `weight`: (rows,) or None.  `levels`: per feature the number of its
    categories, None for a numeric one.  `classes`: 0 where the label is a number or one of two classes.
    """
    mass = np.ones(len(label)) if weight is None else weight.astype(np.float64)
    if not mass.any():  # few rows of many have a weight, and none of these was drawn
        return RowOrder((), np.zeros((0, ENCODING.codes), np.uint16))
    outputs = _outputs(label, mass, classes)
    features = [_Halves(codes[:, feature], mass, outputs[0], count) for feature, count in enumerate(levels)]
    keys, tried = np.zeros(len(label), np.intp), list(range(len(levels)))
    chosen: dict[int, npt.NDArray[np.uint16]] = {}
    explained = 0.0
    for bit in reversed(range(BITS)):
        found = [
            (_explained(2 * keys + features[number].bit[codes[:, number]], mass, outputs), number) for number in tried
        ]
        found.sort(key=lambda one: (-one[0], one[1]))
        if not found or found[0][0] <= explained * (1 + 1e-12):
            break
        explained, best = found[0]
        tried = [number for _, number in found[:MOST_FEATURES]]
        upper = features[best].bit
        chosen.setdefault(best, np.zeros(ENCODING.codes, np.uint16))[upper] |= np.uint16(1 << bit)
        keys = 2 * keys + upper[codes[:, best]]
        features[best].halve()
    table = np.stack(list(chosen.values())) if chosen else np.zeros((0, ENCODING.codes), np.uint16)
    return RowOrder(tuple(chosen), table)


def _outputs(label: npt.NDArray[np.float32], mass: Floats, classes: int) -> list[Floats]:
    """Returns what the key is to explain, each (rows,), weighted and with a mean of 0: the label, or each frequent class."""
    columns = [label.astype(np.float64)]
    if classes:
        frequent = np.argsort(-np.bincount(label.astype(np.intp), mass, classes), kind="stable")[:MOST_CLASSES]
        columns = [(label == number).astype(np.float64) for number in frequent]
    return [mass * (column - np.average(column, weights=mass)) for column in columns]


class _Halves:
    """One feature's codes in parts, halved again and again by weight: missing values lie below all numbers, categories in
    the order of their mean label.
    """

    def __init__(self, codes: Codes, mass: Floats, output: Floats, levels: int | None) -> None:
        by_code = np.bincount(codes, mass, ENCODING.codes)
        if levels is None:
            self._order = np.roll(np.arange(ENCODING.codes), 1)
        else:
            sums = np.bincount(codes, output, ENCODING.codes)
            means = np.divide(sums, by_code, out=np.zeros_like(sums), where=by_code > 0)
            self._order = np.argsort(means, kind="stable")
        self._mass = by_code[self._order]
        self._part = np.zeros(ENCODING.codes, np.intp)  # of each code, in order
        self.bit = self._bit()  # (codes,) bool: whether a code is in the upper half of its part

    def halve(self) -> None:
        """Halves every part."""
        self._part = 2 * self._part + self.bit[self._order]
        self.bit = self._bit()

    def _bit(self) -> npt.NDArray[np.bool_]:
        of_part = np.bincount(self._part, self._mass)
        below = np.cumsum(of_part) - of_part
        middle = np.cumsum(self._mass) - self._mass / 2 - below[self._part]
        bit = np.empty(ENCODING.codes, np.bool_)
        bit[self._order] = middle >= of_part[self._part] / 2
        return bit


def _explained(keys: npt.NDArray[np.intp], mass: Floats, outputs: Sequence[Floats]) -> float:
    """Returns by how much the squared error is lower with a mean for each key (rows,)."""
    weight = np.maximum(np.bincount(keys, mass), np.finfo(np.float64).tiny)
    return float(sum((np.bincount(keys, output) ** 2 / weight).sum() for output in outputs))
