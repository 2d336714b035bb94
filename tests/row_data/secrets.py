"""Values that differ from everything else a program prints, one kind for each kind of column."""

import re

import numpy as np
import pyarrow as pa

ROWS = 300
TEXT = "Zq7Secret"
WHOLE = 7_310_521_000  # and the next few hundred
FRACTION = 84_205_500.5  # give or take some hundred
DAY = "1931-02-03"
_SHOWN = re.compile(r"zq7secret|(?<!\d)731052|(?<!\d)84205|1931-|1931/|\(1931, |-1228\d{6}", re.I)
_JOINTS = re.compile(r"(?<=\d)[.,_](?=\d)")


def found_in(text: str) -> list[str]:
    """The secrets that a text gives away, also as 7,310,521,004 or 8.42055e+07, with the text around them."""
    flat = _JOINTS.sub("", text)
    return [flat[max(0, match.start() - 60) : match.end() + 30] for match in _SHOWN.finditer(flat)]


def good(rows: int = ROWS) -> pa.Table:
    """Every cell a secret, and nothing wrong with any."""
    rng = np.random.default_rng(0)
    number = np.arange(rows)
    signal = rng.normal(size=rows)
    return pa.table(
        {
            "x": signal * 90 + FRACTION,
            "whole": number + WHOLE,
            "carrier": pa.array([f"{TEXT}-{i % 5}" for i in number]),
            "name": pa.array([f"{TEXT} of row {i}" for i in number]),
            "day": pa.array([f"{DAY}T{i % 24:02d}:05:06" for i in number]).cast(pa.timestamp("s")),
            "written": pa.array([f"{DAY} {i % 24:02d}:05:06" for i in number]),
            "query": number // 10 + WHOLE,
            "weight": np.full(rows, FRACTION),
            "grade": number % 3,
            "value": signal * 90 + FRACTION,
            "label": pa.array(np.where(signal > 0, f"{TEXT} yes", f"{TEXT} no")),
            "kind": pa.array([f"{TEXT} {'abc'[i % 3]}" for i in number]),
        }
    )


def put(table: pa.Table, **columns: object) -> pa.Table:
    """The table with columns replaced or added; values may be an array, a list, or a function of the old ones."""
    for name, values in columns.items():
        if callable(values):
            values = values(table.column(name).to_pylist())
        values = values if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(values)
        if name in table.column_names:
            table = table.set_column(table.schema.get_field_index(name), name, values)
        else:
            table = table.append_column(name, values)
    return table


def at(place: int, value: object) -> object:
    """For `put`: the old values with one of them replaced."""
    return lambda values: [value if index == place else old for index, old in enumerate(values)]
