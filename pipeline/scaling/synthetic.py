"""Generates synthetic training rows on the worker that keeps them: any size, no transfer, the same rows for any layout.

Rows are made in chunks of 65,536 by (seed, number of the chunk), as bin codes: uniform over the bins, which is what
quantile cuts make of any continuous feature.  The label follows from products and thresholds of the first features,
weakly from the others, and from noise, so that trees find splits at every depth.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.config.encoding import ENCODING
from pipeline.preprocess.bins import Cuts
from pipeline.preprocess.block import Block

CHUNK_ROWS = 65_536
ROWS, WORLD = 6, 7  # purposes of random streams, combined with the seed


@dataclass(frozen=True)
class Synthetic:
    """A training on synthetic rows, without files."""

    rows: int  # strong scaling: of all workers together; weak: of each
    features: int
    depth: int = 6
    classes: int = 2  # 2: binary:logistic, more: multi:softprob
    bins: int = ENCODING.most_bins  # of each feature
    seed: int = 0
    growth: str = "depthwise"
    max_leaves: int = 0

    @property
    def objective(self) -> str:
        return "binary:logistic" if self.classes == 2 else "multi:softprob"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"f{number}" for number in range(self.features))

    def __str__(self) -> str:
        task = "binary" if self.classes == 2 else f"{self.classes} classes"
        return f"synthetic, {self.rows:,} rows x {self.features} features, depth {self.depth}, {task}"


def cuts_of(data: Synthetic) -> Cuts:
    """The same cut points for every feature and layout: evenly spaced in 0 to 1."""
    points = (np.arange(1, data.bins) / data.bins).astype(np.float32)
    return Cuts(points=(points,) * data.features, levels=(None,) * data.features)


def make_blocks(data: Synthetic, first: int, stop: int) -> list[Block]:
    """The rows `first` to `stop` (excluded) of the endless table, as blocks of a chunk each."""
    numbers = range(first // CHUNK_ROWS, -(-stop // CHUNK_ROWS))
    return [
        _block(data, number, max(first, number * CHUNK_ROWS), min(stop, (number + 1) * CHUNK_ROWS))
        for number in numbers
    ]


def _block(data: Synthetic, number: int, first: int, stop: int) -> Block:
    """The rows `first` to `stop` of the endless table, which are in chunk `number`."""
    rng = np.random.default_rng((data.seed, ROWS, number))
    codes = rng.integers(0, data.bins, (CHUNK_ROWS, data.features), dtype=ENCODING.dtype)
    label = _label(data, codes, rng)
    part = slice(first - number * CHUNK_ROWS, stop - number * CHUNK_ROWS)
    return Block(
        fragment=number,
        codes=codes[part].copy(),  # not a view, which would keep the whole chunk alive
        label=label[part].copy(),
        weight=None,
        group=None,
        row_ids=np.arange(first, stop, dtype=np.uint64),
        use=None,
    )


def _label(data: Synthetic, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(rows,) float32 class numbers of codes (rows, features)."""
    signal = _signal(data, codes)
    if data.classes == 2:
        return (rng.random(len(codes), dtype=np.float32) < 1 / (1 + np.exp(-signal))).astype(np.float32)
    noisy = signal + rng.logistic(size=len(codes)).astype(np.float32)
    borders = np.linspace(-2.5, 2.5, data.classes - 1, dtype=np.float32)
    return np.searchsorted(borders, noisy).astype(np.float32)


def _signal(data: Synthetic, codes: np.ndarray) -> np.ndarray:
    """(rows,) float32 log odds, about -4 to 4."""
    scale = np.float32(2 / data.bins)

    def value(feature: int) -> np.ndarray:  # -1 to 1
        return codes[:, feature % data.features] * scale - np.float32(1)

    signal = 2 * value(0) * value(1) + 1.5 * (value(2) > 0.3) * value(3) - 1.5 * np.abs(value(4)) + 0.75
    pulls = np.random.default_rng((data.seed, WORLD)).normal(0, 1 / np.sqrt(data.features), data.features)
    return np.asarray(signal + (codes * scale - np.float32(1)) @ pulls.astype(np.float32), dtype=np.float32)
