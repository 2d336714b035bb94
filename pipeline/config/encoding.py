"""Defines how the value of a feature is held from preprocessing to the trainer's matrix: as the number of its bin.

Everything that depends on the width of that number is asked here: the limits of the job, the arrays and files of codes,
the estimates of memory, and the number of bins that XGBoost gets.
"""

from dataclasses import dataclass

SENTINEL_BINS = 2  # bins that XGBoost has beyond those of the values: `reference` in preprocess/bins.py


@dataclass(frozen=True)
class Encoding:
    """Codes that are unsigned integers of `bits` bits; the highest one stands for a missing value."""

    bits: int

    @property
    def dtype(self) -> str:
        """Returns NumPy's name of the type of a code."""
        return f"uint{self.bits}"

    @property
    def nbytes(self) -> int:
        """Returns the bytes of a code."""
        return self.bits // 8

    @property
    def codes(self) -> int:
        """Returns the number of different codes, with the one for missing; XGBoost's max_bin."""
        return int(2**self.bits)

    @property
    def missing(self) -> int:
        """Returns the code of a missing value."""
        return self.codes - 1

    @property
    def max_bin(self) -> int:
        """Returns the most bins of a feature that a job may ask for."""
        return self.missing

    @property
    def most_bins(self) -> int:
        """Returns the most bins of a numeric feature: with the sentinels they fit a code on a GPU, too."""
        return self.missing - SENTINEL_BINS

    @property
    def most_levels(self) -> int:
        """Returns the most levels of a categorical feature."""
        return self.missing - 1


ENCODING = Encoding(bits=8)  # a byte for each value: the rows take a quarter of what they take as float32
