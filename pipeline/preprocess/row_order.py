"""Orders the rows of a block: rows that trees send the same way lie next to each other in memory.

XGBoost's kernels on the CPU visit the rows of a tree's nodes one node after the other.  In source order the rows of a
node are scattered, and each visit is a cache miss.  So each block is sorted by the leaf of a small symmetric tree (one
feature and border for all nodes of a level; also called oblivious), which is grown on a sample.  The trees of the
training are others, but rows that agree on the features of most gain mostly meet in their nodes, too.

The order depends on the sample alone, and the model does not depend on the order: sums of gradients are exact.
`python -m benchmarks.row_order` compares orders.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.config.encoding import ENCODING

LEVELS = 10  # of the tree; a leaf's number takes two bytes, which NumPy sorts by radix
BORDERS = 32  # parts of a feature, of equal weight, between which a level may split
SAMPLE_ROWS = 32_768
SAMPLE_VALUES = 1 << 20  # the tree of many features is grown on fewer rows
LEAST_SAMPLE_ROWS = 2_048
MOST_FEATURES = 64  # that the second level and those below try: those of most gain in the first
MOST_CLASSES = 8  # the most frequent ones count

Codes = npt.NDArray[np.unsignedinteger]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RowOrder:
    """A symmetric tree over bin codes."""

    features: tuple[int, ...]  # that it asks
    bits: npt.NDArray[np.uint16]  # (features asked, codes): what a code of that feature adds to the number of the leaf

    def leaves(self, codes: Codes) -> npt.NDArray[np.uint16]:
        """Returns the leaf (rows,) of each row of codes (rows, features)."""
        found = np.zeros(len(codes), np.uint16)
        for feature, bits in zip(self.features, self.bits, strict=True):
            found |= bits[codes[:, feature]]
        return found

    def positions(self, codes: Codes) -> npt.NDArray[np.intp]:
        """Returns the positions (rows,) of the rows of codes (rows, features) in their new order: by leaf, within a
        leaf as they come.
        """
        return np.argsort(self.leaves(codes), kind="stable")


def sample_rows(features: int) -> int:
    """Returns how many rows the tree is grown on."""
    return min(SAMPLE_ROWS, max(LEAST_SAMPLE_ROWS, SAMPLE_VALUES // max(1, features)))


def fit_row_order(
    codes: Codes,
    label: npt.NDArray[np.float32],
    weight: npt.NDArray[np.float32] | None,
    levels: Sequence[int | None],
    classes: int = 0,
) -> RowOrder:
    """Grows the tree on a sample: each level takes the split that lowers the squared error of the label most.

    `codes`: (rows, features).  `label`: (rows,).  `weight`: (rows,) or None.  `levels`: per feature the number of its
    categories, None for a numeric one.  `classes`: 0 where the label is a number or one of two classes.
    """
    mass = np.ones(len(label)) if weight is None else weight.astype(np.float64)
    outputs = _outputs(label, mass, classes)
    # Gain is counted in parts: of equal weight, in the order of the values, or of the mean label for categories.
    parts = [_parts(codes[:, feature], mass, outputs[0], count) for feature, count in enumerate(levels)]
    of_rows = [part[codes[:, feature]] for feature, part in enumerate(parts)]
    leaf, tried = np.zeros(len(label), np.intp), list(range(len(levels)))
    bits: dict[int, npt.NDArray[np.uint16]] = {}
    for level in range(LEVELS):
        gains = [_best(leaf * BORDERS + of_rows[feature], 1 << level, mass, outputs) for feature in tried]
        gain, border, feature = max(
            (gain, -border, -feature) for (gain, border), feature in zip(gains, tried, strict=True)
        )
        if level == 0:
            by_gain = sorted(zip(gains, tried, strict=True), key=lambda found: -found[0][0])
            tried = sorted(feature for _, feature in by_gain[:MOST_FEATURES])
        if gain <= 0:
            break
        border, feature = -border, -feature
        above = parts[feature] > border
        own = bits.setdefault(feature, np.zeros(ENCODING.codes, np.uint16))
        own |= above.astype(np.uint16) << np.uint16(LEVELS - 1 - level)
        leaf = 2 * leaf + above[codes[:, feature]]
    table = np.stack(list(bits.values())) if bits else np.zeros((0, ENCODING.codes), np.uint16)
    return RowOrder(tuple(bits), table)


def _outputs(label: npt.NDArray[np.float32], mass: Floats, classes: int) -> list[Floats]:
    """Returns what the tree explains, each (rows,), weighted and with a mean of 0: the label, or each frequent class."""
    columns = [label.astype(np.float64)]
    if classes:
        frequent = np.argsort(-np.bincount(label.astype(np.intp), mass, classes), kind="stable")[:MOST_CLASSES]
        columns = [(label == number).astype(np.float64) for number in frequent]
    return [mass * (column - np.average(column, weights=mass)) for column in columns]


def _parts(codes: Codes, mass: Floats, output: Floats, levels: int | None) -> npt.NDArray[np.uint8]:
    """Returns the part (codes,) of each code of a feature; missing values lie below all numbers."""
    by_code = np.bincount(codes, mass, ENCODING.codes)
    if levels is None:
        order = np.roll(np.arange(ENCODING.codes), 1)
    else:
        sums = np.bincount(codes, output, ENCODING.codes)
        means = np.divide(sums, by_code, out=np.zeros_like(sums), where=by_code > 0)
        order = np.argsort(means, kind="stable")
    ordered = by_code[order]
    middle = (np.cumsum(ordered) - ordered / 2) / ordered.sum()
    parts = np.empty(ENCODING.codes, np.uint8)
    parts[order] = np.minimum((middle * BORDERS).astype(np.uint8), BORDERS - 1)
    return parts


def _best(cells: npt.NDArray[np.intp], leaves: int, mass: Floats, outputs: Sequence[Floats]) -> tuple[float, int]:
    """Returns the gain of a feature's best split of all leaves at once, and the part below its border.

    `cells`: (rows,) leaf and part of each row.
    """

    def below(values: Floats) -> Floats:
        return np.cumsum(np.bincount(cells, values, leaves * BORDERS).reshape(leaves, BORDERS), axis=1)

    weight, tiny = below(mass), np.finfo(np.float64).tiny
    total = weight[:, -1:]
    gains = np.zeros(BORDERS)
    for output in outputs:
        left = below(output)
        whole = left[:, -1:]
        parted = left**2 / np.maximum(weight, tiny) + (whole - left) ** 2 / np.maximum(total - weight, tiny)
        gains += (parted - whole**2 / np.maximum(total, tiny)).sum(axis=0)
    border = int(np.argmax(gains[:-1]))
    return float(gains[border]), border
