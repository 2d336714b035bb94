"""Columns of every kind that files hold, made of a seed: what Hypothesis chooses is the kind, not each value."""

import datetime
import decimal
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tests.any_input.effort import SECRET

Make = Callable[[np.random.Generator, int], Any]
INT64 = np.iinfo(np.int64)
HOSTILE = (
    "", " ", "'", '"', '""', "'; DROP TABLE fragment; --", 'x" OR 1=1', "NULL", "null", "NaN", "nan", "None", "?",
    "a,b", "a\tb", "a\nb", "\r\n", "\\", "{}", "[", "*", "ß", "ÄÖÜ", "İ", "é", "é", "日本語", "🤖", "\u202e", "\u2028", "\x00",
    "\x1b[31m", "0", "1", "1.0", "-0", "1e999", "inf", "True", "false", "2020-01-01", "ﷺ", " leading", "trailing ",
    "=SUM(A1)", "$$x$$", "</script>", "%s", "{0}", "f0", "label", "__index_level_x__",
)  # fmt: skip


def _pick(values: Any) -> Make:
    return lambda rng, rows: [values[place] for place in rng.integers(0, len(values), rows)]


def _numpy(draw: Callable[[np.random.Generator, int], np.ndarray], dtype: Any) -> Make:
    return lambda rng, rows: pa.array(draw(rng, rows).astype(dtype))


def _any_of(dtype: Any) -> Make:
    """Any value of an integer type, its ends more often."""
    ends = np.iinfo(dtype)

    def make(rng: np.random.Generator, rows: int) -> pa.Array:
        values = rng.integers(ends.min, ends.max, rows, dtype=dtype, endpoint=True)
        return pa.array(
            np.where(rng.random(rows) < 0.2, rng.choice(np.array([ends.min, ends.max], dtype), rows), values)
        )

    return make


def _typed(make: Make, kind: pa.DataType) -> Make:
    return lambda rng, rows: pa.array(make(rng, rows), kind)


def _cast(make: Make, kind: pa.DataType) -> Make:
    return lambda rng, rows: pa.array(make(rng, rows)).cast(kind)


def _times(low: int, high: int, kind: pa.DataType) -> Make:
    def make(rng: np.random.Generator, rows: int) -> pa.Array:
        ticks = rng.integers(low, high, rows, endpoint=True)
        width = pa.int32() if kind in (pa.date32(), pa.time32("s"), pa.time32("ms")) else pa.int64()
        return pa.array(ticks, width).cast(kind)

    return make


def _many(rng: np.random.Generator, rows: int) -> list[str]:
    return [f"{SECRET} {number}" for number in rng.integers(0, 10 * rows + 1, rows)]


def _decimals(digits: int, scale: int) -> Make:
    def make(rng: np.random.Generator, rows: int) -> pa.Array:
        kind = pa.decimal128(digits, scale) if digits <= 38 else pa.decimal256(digits, scale)
        context = decimal.Context(prec=80)
        top = 10**digits - 1
        whole = [int(part) * top // 10**6 for part in rng.integers(-(10**6), 10**6, rows)]
        return pa.array([context.scaleb(decimal.Decimal(value), -scale) for value in whole], kind)

    return make


_normal = _numpy(lambda rng, rows: rng.normal(size=rows), np.float64)
_few = _pick((f"{SECRET} a", f"{SECRET} b", f"{SECRET} c"))

NUMBERS: dict[str, Make] = {
    "normal": _normal,
    "weights": _numpy(lambda rng, rows: rng.uniform(0.1, 9, rows), np.float64),
    "queries": _numpy(lambda rng, rows: np.sort(rng.integers(0, max(1, rows // 6), rows)), np.int64),
    "float32": _numpy(lambda rng, rows: rng.normal(size=rows) * 1e3, np.float32),
    "float16": _numpy(lambda rng, rows: rng.normal(size=rows), np.float16),
    "counts": _numpy(lambda rng, rows: rng.integers(0, 9, rows), np.int64),
    "flags": lambda rng, rows: pa.array(rng.random(rows) < 0.5),
    "zero or one": _numpy(lambda rng, rows: rng.integers(0, 2, rows), np.int8),
    "constant": lambda rng, rows: pa.array(np.full(rows, rng.choice([0.0, -1.5, 1e30]))),
    **{np.dtype(kind).name: _any_of(kind) for kind in (np.int8, np.uint8, np.int16, np.int32, np.uint32)},
    "int64": _any_of(np.int64),
    "uint64": _any_of(np.uint64),
    "beyond 2^53": _numpy(lambda rng, rows: 2**53 + rng.integers(-2, 4, rows), np.int64),
    "identifiers": _numpy(lambda rng, rows: 1_580_000_000_000_000_000 + rng.integers(0, 3, rows), np.int64),
    "beyond int64": _numpy(lambda rng, rows: rng.integers(2**63, 2**63 + 3, rows, dtype=np.uint64), np.uint64),
    "signed zeros": lambda rng, rows: pa.array(rng.choice([0.0, -0.0, 1.0], rows)),
    "subnormal": lambda rng, rows: pa.array(rng.choice([5e-324, -5e-324, 1e-40, 0.0, 1e-320], rows)),
    "large": lambda rng, rows: pa.array(rng.uniform(-3.4e38, 3.4e38, rows)),
    "close": lambda rng, rows: pa.array(1e9 + rng.normal(size=rows)),
    "decimal": _decimals(12, 2),
    "wide decimal": _decimals(38, 10),
    "wider decimal": _decimals(76, 0),
    "row number": _numpy(lambda rng, rows: np.arange(rows) + rng.integers(0, 9), np.int64),
    "row number, one missing": lambda rng, rows: pa.array(
        np.where(np.arange(rows) == rows // 2, np.nan, np.arange(rows))
    ),
    "clock": _numpy(lambda rng, rows: 1_700_000_000 + np.cumsum(rng.integers(1, 900, rows)), np.int64),
    "runs": _numpy(lambda rng, rows: np.sort(rng.integers(0, 3, rows)), np.int64),  # encoded when the table is made
}
HOSTILE_NUMBERS: dict[str, Make] = {  # what is refused unless it is clipped or left out
    "infinite": lambda rng, rows: pa.array(rng.choice([np.inf, -np.inf, 1.0, np.nan], rows)),
    "beyond float32": lambda rng, rows: pa.array(rng.choice([1e300, -1e39, 0.5], rows)),
    "largest": lambda rng, rows: pa.array(rng.choice([np.finfo(np.float64).max, np.finfo(np.float32).max], rows)),
}
TEXTS: dict[str, Make] = {
    "few": _typed(_few, pa.string()),
    "many": _typed(_many, pa.string()),
    "hostile": _typed(_pick(HOSTILE), pa.string()),
    "numerals": _typed(_pick(("5", "5.0", "1e3", "-7", " 8", "nan", "inf", "1e999", "0x10", "")), pa.string()),
    "empty": _typed(_pick(("",)), pa.string()),
    "long": _typed(_pick((SECRET * 3_000, "x" * 30_000)), pa.string()),
    "large text": _typed(_many, pa.large_string()),
    "text view": _typed(_few, pa.string()),  # a view when the table is made
    "dictionary": _cast(_few, pa.dictionary(pa.int8(), pa.string())),
    "dictionary of numbers": lambda rng, rows: pa.array(rng.integers(1, 4, rows)).dictionary_encode(),
    "texts of times": _typed(_pick(("2020-01-01", "2021-06-01 10:00:00", "1999-12-31")), pa.string()),
}
TIMES: dict[str, Make] = {
    "day": _times(15_000, 15_400, pa.date32()),
    "any day": _times(-(2**31), 2**31 - 1, pa.date32()),
    "any day of 64 bits": _times(INT64.min // 86_400_000 + 1, INT64.max // 86_400_000 - 1, pa.int64()),
    "second": _times(1_300_000_000, 1_301_000_000, pa.timestamp("s")),
    "any second": _times(INT64.min // 1_000 + 1, INT64.max // 1_000, pa.timestamp("s")),
    "extreme second": _times(INT64.min + 1, INT64.max, pa.timestamp("s")),
    "any millisecond": _times(INT64.min + 1, INT64.max, pa.timestamp("ms")),
    "any microsecond": _times(INT64.min + 1, INT64.max, pa.timestamp("us")),
    "any nanosecond": _times(INT64.min + 1, INT64.max, pa.timestamp("ns")),
    "zone": _times(-(10**9), 10**9, pa.timestamp("ms", "Europe/Berlin")),
    "same second": _times(1_300_000_000, 1_300_000_000, pa.timestamp("s", "UTC")),
    "date64": _cast(_pick((datetime.date(1, 1, 1), datetime.date(9999, 12, 31))), pa.date64()),
}
OTHERS: dict[str, Make] = {  # what no feature can be made of
    "nothing": lambda rng, rows: pa.nulls(rows),
    "bytes": _typed(_pick((b"a", b"\xff\x00")), pa.binary()),
    "list": _typed(_pick(([1], [2, 3], None)), pa.list_(pa.int64())),
    "struct": _typed(_pick(({"a": 1}, None)), pa.struct([("a", pa.int64())])),
    "time of day": _times(0, 86_399, pa.time32("s")),
    "duration": _times(0, 10**12, pa.duration("us")),
    "fixed bytes": _typed(_pick((b"ab", b"cd")), pa.binary(2)),
}
KINDS: dict[str, Make] = {**NUMBERS, **HOSTILE_NUMBERS, **TEXTS, **TIMES, **OTHERS}

TARGETS: dict[str, Make] = {  # what people predict, and what cannot be predicted
    "two texts": _pick(("no", "yes")),
    "three texts": _pick(("low", "mid", "high")),
    "hostile texts": _pick(("", " ", "a\nb", "'; --", "🤖")),
    "flags": KINDS["flags"],
    "zero or one": KINDS["zero or one"],
    "numbers": _normal,
    "grades": _numpy(lambda rng, rows: rng.integers(0, 4, rows), np.int16),
    "shares": _numpy(lambda rng, rows: rng.random(rows), np.float64),
    "positive": _numpy(lambda rng, rows: np.exp(rng.normal(size=rows)), np.float32),
    "large": KINDS["large"],
    "close": KINDS["close"],
    "beyond 2^53": KINDS["beyond 2^53"],
    "two identifiers": _numpy(lambda rng, rows: 2**60 + rng.integers(0, 2, rows), np.int64),
    "decimal": KINDS["decimal"],
    "wide decimal": KINDS["wide decimal"],
    "signed zeros": KINDS["signed zeros"],
    "halves": lambda rng, rows: pa.array(rng.choice([0.1, 0.2, 0.30000000000000004, 0.3], rows)),
    "dictionary": _cast(_pick(("p", "q")), pa.dictionary(pa.int16(), pa.string())),
    "a class of one row": lambda rng, rows: np.where(np.arange(rows) == rng.integers(0, max(1, rows)), "rare", "usual"),
    "several classes of one row": lambda rng, rows: np.where(
        rng.random(rows) < 0.1, np.arange(rows).astype(str), "usual"
    ),
    "nearly constant": lambda rng, rows: pa.array(
        np.where(np.arange(rows) == 0, 1.5, 0.25)
    ),  # so are most training parts
    "tiny": _numpy(lambda rng, rows: rng.normal(size=rows) * 1e-6, np.float64),
    "large grades": _numpy(lambda rng, rows: rng.choice([0, 1, 40], rows), np.int64),
    "fractional grades": _numpy(lambda rng, rows: rng.choice([0, 0.5, 1], rows), np.float64),
}


def make_column(kind: str, rows: int, seed: int, missing: float, *, target: bool = False) -> pa.Array:
    """(rows) of a kind, a share of them missing; the same for the same arguments."""
    rng = np.random.default_rng(seed)
    made = (TARGETS if target and kind in TARGETS else KINDS)[kind](rng, rows)
    array = made if isinstance(made, pa.Array) else pa.array(made)
    if not missing or pa.types.is_null(array.type):
        return array
    present = pa.array(rng.random(rows) >= missing)
    if pa.types.is_dictionary(array.type) or pa.types.is_nested(array.type):
        places = pc.if_else(present, pa.array(np.arange(rows)), pa.scalar(None, pa.int64()))
        return array.take(places)
    return pc.if_else(present, array, pa.scalar(None, array.type))
