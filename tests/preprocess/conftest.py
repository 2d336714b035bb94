"""Array namespaces that every transformation has to work with, and rows made by hand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import array_api_strict
import numpy as np
import pyarrow as pa
import pytest

from pipeline.data.fragment_rows import Rows
from pipeline.data.schema.target import Target


@dataclass(frozen=True)
class Namespace:
    """An array namespace, how to make its arrays and how to look at them."""

    xp: Any
    make: Callable[[Any], Any]
    show: Callable[[Any], np.ndarray]


def _read_only(values: Any) -> np.ndarray:
    array = np.array(values)
    array.flags.writeable = False
    return array


def _cupy() -> Namespace:
    import cupy

    return Namespace(cupy, cupy.asarray, cupy.asnumpy)


@pytest.fixture(params=["numpy", "read-only numpy", "strict", pytest.param("cupy", marks=pytest.mark.gpu)])
def space(request: pytest.FixtureRequest) -> Namespace:
    """NumPy, NumPy that cannot be written to, array-api-strict, and CuPy where there is a GPU."""
    if request.param == "cupy":
        return _cupy()
    if request.param == "strict":
        return Namespace(array_api_strict, array_api_strict.asarray, np.asarray)
    return Namespace(np, np.array if request.param == "numpy" else _read_only, np.asarray)


BINARY = Target("y", "binary", "binary:logistic", ("no", "yes"))


def rows_of(
    columns: Mapping[str, Any] | pa.Table,
    label: Any = None,
    fragment: int = 0,
    weight: Any = None,
    use: Any = None,
    dropped: Mapping[str, int] | None = None,
) -> Rows:
    """One fragment's rows; labels alternate unless they are given."""
    table = columns if isinstance(columns, pa.Table) else pa.table(dict(columns))
    ids = np.arange(table.num_rows, dtype=np.uint64) | np.uint64(fragment << 40)
    labels = np.arange(table.num_rows) % 2 if label is None else label
    return Rows(
        fragment=fragment,
        table=table,
        row_ids=ids,
        label=np.asarray(labels, dtype=np.float32),
        weight=None if weight is None else np.asarray(weight, dtype=np.float32),
        group=None,
        fold_key=ids,
        use=None if use is None else np.asarray(use, dtype=np.uint8),
        dropped=dict(dropped or {}),
    )


@pytest.fixture(scope="session")
def make_rows() -> Callable[..., Rows]:
    return rows_of


@pytest.fixture(scope="session")
def binary() -> Target:
    return BINARY
