"""The rows of one fragment once it is read: the rows that are used, and the arrays that describe them."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class Rows:
    """The rows of one fragment that are used; every array has one entry per row of `table`."""

    fragment: int
    table: pa.Table  # the features only, in the order of roles.features
    row_ids: np.ndarray  # uint64
    label: np.ndarray | None  # float32: the class index for classification; may be read-only
    weight: np.ndarray | None  # float32; may be read-only
    group: np.ndarray | None  # int64: the query's key, the same in every fragment
    fold_key: np.ndarray  # uint64: the row id; for ranking the row id of the query's first row
    use: np.ndarray | None  # uint8: TRAIN or VALIDATION
    ids: pa.Table | None = None  # at prediction: the id columns
    dropped: dict[str, int] = field(default_factory=dict)  # reason -> rows left out
