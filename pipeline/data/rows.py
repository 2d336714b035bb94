"""One fragment as rows ready for use: features, label, weight, group, and who trains or validates."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa

from pipeline.data.derive import Derivation
from pipeline.data.roles import Roles
from pipeline.data.target import Target

TRAIN = 0
VALIDATION = 1


@dataclass(frozen=True)
class Split:
    """How rows are held out for validation."""

    kind: Literal["none", "share", "values", "time", "all_validation"] = "none"
    share: float = 0.0  # kind share: of the rows (ranking: of the queries)
    seed: int = 0  # kind share: of the hash
    column: str | None = None  # kinds values and time
    values: tuple[str | int | float | bool, ...] = ()  # kind values: these validate
    threshold: int | float | None = None  # kind time: rows at or after it validate (times: microseconds since 1970)


@dataclass(frozen=True)
class RowPlan:
    """What `load_rows` needs to know besides the fragment."""

    roles: Roles
    derivation: Derivation = Derivation()
    target: Target | None = None  # None: labels are not wanted
    split: Split | None = None  # None: no use codes
    seed: int = 0
    purpose: Literal["training", "prediction"] = "training"  # evaluation reads as training does


@dataclass(frozen=True)
class Rows:
    """The rows of one fragment that are used; every array has one entry per row of `table`."""

    fragment: int
    table: pa.Table  # the features only, in the order of roles.features
    row_ids: np.ndarray  # uint64
    label: np.ndarray | None  # float32: the class index for classification
    weight: np.ndarray | None  # float32
    group: np.ndarray | None  # int64: the query's key, the same in every fragment
    fold_key: np.ndarray  # uint64: the row id; for ranking the row id of the query's first row
    use: np.ndarray | None  # uint8: TRAIN or VALIDATION
    ids: pa.Table | None = None  # at prediction: the id columns
    dropped: dict[str, int] = field(default_factory=dict)  # reason -> rows left out
