"""Generates plain numeric rows, like those of a physics experiment: float32 features, a binary label, a nonlinear
signal.
"""

import numpy as np
import pyarrow as pa

WORLD, ROWS = 4, 5  # purposes of random streams, combined with the seed
STEPS = np.array([0.0, 1.0865, 2.1731], dtype=np.float32)  # the few values of a tagger's output


def make_numeric(seed: int, index: int, rows: int, features: int) -> pa.Table:
    """`rows` of `label` (int8, 0 or 1) and f00, f01, ... (float32, none missing).

    A third of the features is normal, a third heavy-tailed and positive, the rest uniform angles; every seventh has
    three values only.  The label depends on the first eight through products, distances and thresholds, and weakly
    on the others; the best possible AUC is about 0.85.
    """
    rng = np.random.default_rng((seed, ROWS, index))
    columns = [_feature(rng, number, rows) for number in range(features)]
    chance = 1 / (1 + np.exp(-_signal(seed, columns)))
    label = (rng.random(rows, dtype=np.float32) < chance).astype(np.int8)
    return pa.table({"label": label} | {f"f{number:02d}": column for number, column in enumerate(columns)})


def _feature(rng: np.random.Generator, number: int, rows: int) -> np.ndarray:
    """(rows,) float32, of a distribution that depends on the feature's number."""
    if number % 7 == 6:
        return STEPS[rng.integers(0, 3, rows)]
    if number % 3 == 0:
        return rng.standard_normal(rows, dtype=np.float32)
    if number % 3 == 1:
        return np.exp(np.float32(0.5) * rng.standard_normal(rows, dtype=np.float32))
    return (rng.random(rows, dtype=np.float32) - np.float32(0.5)) * np.float32(2 * np.pi)


def _signal(seed: int, columns: list[np.ndarray]) -> np.ndarray:
    """(rows,) float32 log odds."""
    a, b, c, d, e, f, g, h = columns[:8]
    pull = np.random.default_rng((seed, WORLD)).normal(0, 0.15, len(columns)).astype(np.float32)
    signal = np.float32(0.9) * a * np.cos(c) - np.float32(0.8) * np.hypot(b - e, d)
    signal += np.float32(0.7) * np.sin(f) * h + np.float32(0.9) * (g > 1) * (d > 0) + np.float32(1.1) * (b * e > 1.2)
    for weight, column in zip(pull, columns, strict=True):
        signal += weight * np.tanh(column)
    return signal - np.float32(0.25)
