"""Describes how large a job is: the numbers that its time and memory depend on."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.efficiency.cost import Workload
from pipeline.efficiency.traffic import Growth

SAMPLE_NBYTES = 1 << 30  # of the cuts' sample: it is on one worker while they are made
LEAST_SAMPLE_ROWS = 16_384
TIME_PARTS = 4  # features that a column of times becomes, about


@dataclass(frozen=True)
class JobSize:
    """A job's data and rounds, as far as metadata show them, or as a run has found them."""

    rows: int  # training and validation
    validation_rows: int
    numbers: int  # columns that are read, without texts
    texts: int  # columns of texts
    features: int  # that are made of them
    bins: int  # of all features together
    files: int
    fragment_nbytes: tuple[int, ...]  # decoded, of each fragment
    text_nbytes: int  # of CSV and LIBSVM, decompressed; 0: none of the sources is text
    rounds: int  # at most
    trees: int  # of a round
    depth: int  # 0: no limit
    growth: Literal["depthwise", "lossguide"] = "depthwise"
    max_leaves: int = 0  # 0: no limit
    column_share: float = 1.0
    metrics: int = 1  # measured in each round on the validation rows
    sample_rows: int = 262_144  # that the cuts are made of
    derived: bool = False  # whether SQL expressions derive columns or filter rows
    report: bool = True
    device: Literal["cpu", "cuda"] = "cpu"

    @property
    def train_rows(self) -> int:
        return self.rows - self.validation_rows

    @property
    def fragments(self) -> int:
        return len(self.fragment_nbytes)

    @property
    def columns(self) -> int:
        return self.numbers + self.texts

    @property
    def nbytes(self) -> int:
        """Of all rows, decoded."""
        return sum(self.fragment_nbytes)

    def scaled(self, rows: float = 1.0, features: float = 1.0, depth: int = 0) -> "JobSize":
        """The same job with so many times the rows or the features, or with so much more depth."""
        return dataclasses.replace(
            self,
            rows=round(self.rows * rows),
            validation_rows=round(self.validation_rows * rows),
            sample_rows=self.sample_rows,
            numbers=round(self.numbers * features),
            texts=round(self.texts * features),
            features=round(self.features * features),
            bins=round(self.bins * features),
            text_nbytes=round(self.text_nbytes * rows * features),
            fragment_nbytes=tuple(round(nbytes * rows * features) for nbytes in self.fragment_nbytes),
            depth=self.depth + depth if self.depth else 0,
        )

    def workload(self, rows: Sequence[int]) -> Workload:
        """The rounds of workers that hold so many training rows each."""
        return Workload(
            rows=tuple(rows),
            features=max(1, self.features),
            bins=max(1, self.bins),
            depth=self.depth,
            growth=self.growth,
            max_leaves=self.max_leaves,
            trees_per_round=self.trees,
            column_share=self.column_share,
            device=self.device,
            rounds=(0, max(1, self.rounds)),
        )

    def growth_of_trees(self) -> Growth:
        return self.workload((self.train_rows,)).tree_growth

    def to_dict(self) -> dict[str, Any]:
        """A dict of JSON values."""
        return {**dataclasses.asdict(self), "fragment_nbytes": list(self.fragment_nbytes)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "JobSize":
        """The inverse of `to_dict`."""
        return cls(**{**values, "fragment_nbytes": tuple(values["fragment_nbytes"])})


@dataclass(frozen=True)
class SizeFacts:
    """What a run, or a probe, has shown of such a job's size, and metadata do not tell."""

    features: int
    bins: int
    trees: int
    kept: float  # share of the rows that filters and missing labels leave
    held: float | None  # share of these that validate; None: not known

    def applied_to(self, size: JobSize) -> JobSize:
        """The size that metadata show, with these facts."""
        rows = round(size.rows * self.kept)
        held = size.validation_rows / max(1, size.rows) if self.held is None else self.held
        return dataclasses.replace(
            size,
            rows=rows,
            validation_rows=round(rows * held),
            features=self.features,
            bins=self.bins,
            trees=self.trees,
        )


def bounded_sample(rows: int, columns: int) -> int:
    """The rows to sample: as asked, but of wide tables no more than fit `SAMPLE_NBYTES` at four bytes a value.

    >>> bounded_sample(262_144, 28), bounded_sample(262_144, 10_000)
    (262144, 26843)
    """
    return min(rows, max(LEAST_SAMPLE_ROWS, SAMPLE_NBYTES // (4 * max(1, columns))))
