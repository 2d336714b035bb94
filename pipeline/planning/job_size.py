"""Describes how large a job is: the numbers that its time and memory depend on."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.efficiency.cost import Workload

SAMPLE_NBYTES = 1 << 30  # of the cuts' sample: it is on one worker while they are made
LEAST_SAMPLE_ROWS = 16_384
TIME_PARTS = 4  # features that a column of times becomes, about


@dataclass(frozen=True)
class JobSize:
    """A job's data and rounds, as far as metadata show them, or as a run has found them."""

    rows: int  # training and validation
    validation_rows: int
    numeric_columns: int  # columns that are read, without texts
    text_columns: int  # columns of texts
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
        return self.numeric_columns + self.text_columns

    @property
    def nbytes(self) -> int:
        """Of all rows, decoded."""
        return sum(self.fragment_nbytes)

    def scaled(self, rows: int = 1, features: int = 1, more_depth: int = 0) -> "JobSize":
        """The same job with so many times the rows (in fragments of the same size) or the features, or so much deeper."""
        return dataclasses.replace(
            self,
            rows=self.rows * rows,
            validation_rows=self.validation_rows * rows,
            numeric_columns=self.numeric_columns * features,
            text_columns=self.text_columns * features,
            features=self.features * features,
            bins=self.bins * features,
            text_nbytes=self.text_nbytes * rows * features,
            fragment_nbytes=tuple(nbytes * features for nbytes in self.fragment_nbytes) * rows,
            depth=self.depth + more_depth if self.depth else 0,
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
    kept_share: float  # of the rows in the metadata, that filters and missing labels leave
    validation_share: float | None  # of these; None: not known
    missing: bool  # whether a value is missing

    def applied_to(self, size: JobSize) -> JobSize:
        """The size that metadata show, with these facts."""
        rows = round(size.rows * self.kept_share)
        share = self.validation_share
        held = size.validation_rows / max(1, size.rows) if share is None else share
        return dataclasses.replace(
            size,
            rows=rows,
            validation_rows=round(rows * held),
            features=self.features,
            bins=self.bins,
            trees=self.trees,
        )


def trees_of_a_round(params: Mapping[str, Any], classes: int = 0, quantiles: int = 0) -> int:
    """The trees that a round adds: one for each class or quantile, times `num_parallel_tree`; one tree for all of them
    with `multi_strategy = "multi_output_tree"`.  Values that are no numbers are refused elsewhere.

    >>> trees_of_a_round({}), trees_of_a_round({"num_parallel_tree": 4}, classes=3), trees_of_a_round({}, quantiles=2)
    (1, 12, 2)
    """
    together = params.get("multi_strategy") == "multi_output_tree"
    outputs = 1 if together else max(1, classes if classes > 2 else 0, quantiles)
    return outputs * max(1, whole(params.get("num_parallel_tree"), 1))


def whole(value: Any, default: int) -> int:
    """A parameter as a whole number, also of a text; `default` where it is none: it is refused elsewhere."""
    text = str(value)
    return int(text) if text.isdecimal() and len(text) <= 9 else default


def shares_of_columns(params: Mapping[str, Any]) -> float:
    """The share of the features that a split is chosen from: XGBoost multiplies its three parameters."""
    shares = [params.get(name, 1) for name in ("colsample_bynode", "colsample_bylevel", "colsample_bytree")]
    return math.prod(float(one) if isinstance(one, (int, float)) and 0 < one <= 1 else 1.0 for one in shares)


def bounded_sample(rows: int, columns: int) -> int:
    """The rows to sample: as asked, but of wide tables no more than fit `SAMPLE_NBYTES` at four bytes a value.

    >>> bounded_sample(262_144, 28), bounded_sample(262_144, 10_000)
    (262144, 26843)
    """
    return min(rows, max(LEAST_SAMPLE_ROWS, SAMPLE_NBYTES // (4 * max(1, columns))))
