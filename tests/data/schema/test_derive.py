"""Derived columns: order, lineage, the filter, and the user's own function."""

import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipeline.data.schema.derive import Derivation, apply, check, function_sha256
from pipeline.errors import DataError, JobError

TABLE = pa.table({"a": [1, 2, 3, None], "b": [10.0, 20.0, 30.0, 40.0], "text": ["u", "v", "u", None]})


def test_columns_may_use_each_other_in_any_order_of_writing():
    derivation = Derivation(derive=(("late", "total > 20"), ("total", "a + b"), ("alone", "upper(text)")))
    derived = check(derivation, TABLE.schema)
    assert derived.schema.names == ["a", "b", "text", "total", "late", "alone"]
    assert derived.schema.field("late").type == pa.bool_()
    assert derived.inputs == {"total": {"a", "b"}, "late": {"a", "b"}, "alone": {"text"}}
    assert derived.uses["late"] == {"a", "b", "total"}
    table, positions = apply(derivation, TABLE)
    assert table.schema.equals(derived.schema)
    assert table.column("late").to_pylist() == [False, True, True, None]
    assert positions.tolist() == [0, 1, 2, 3]


def test_only_what_is_wanted_is_computed_and_read():
    derivation = Derivation(derive=(("late", "missing_here > 20"), ("total", "a + b"), ("twice", "total * 2")))
    derived = check(derivation, TABLE.schema, only={"twice", "text"}, where=False)
    assert derived.raw_inputs(["twice", "text"]) == {"a", "b", "text"}
    table, _ = apply(derivation, TABLE, only={"twice", "text"}, where=False)
    assert table.column_names == ["text", "twice"]
    with pytest.raises(JobError, match=r"data\.derive\.late: no column missing_here"):
        check(derivation, TABLE.schema)


def test_where_keeps_positions_and_drops_what_is_missing():
    derivation = Derivation(derive=(("total", "a + b"),), where="total > 15")
    assert check(derivation, TABLE.schema).where == {"a", "b"}
    table, positions = apply(derivation, TABLE)
    assert positions.tolist() == [1, 2]
    assert table.column("text").to_pylist() == ["v", "u"]
    table, positions = apply(derivation, TABLE, where=False)
    assert table.num_rows == 4
    with pytest.raises(JobError, match=r"data\.where: gives int64; expected true or false"):
        check(Derivation(where="a + 1"), TABLE.schema)


def test_a_derived_column_may_replace_a_raw_one():
    derivation = Derivation(derive=(("text", "upper(text)"), ("both", "text || '!'")))
    derived = check(derivation, TABLE.schema)
    assert derived.schema.names == ["a", "b", "text", "both"]
    assert derived.inputs == {"text": {"text"}, "both": {"text"}}
    table, _ = apply(derivation, TABLE)
    assert table.column("both").to_pylist() == ["U!", "V!", "U!", None]


def test_circles_are_refused():
    with pytest.raises(JobError, match="x -> y -> x: columns are made of each other"):
        check(Derivation(derive=(("x", "y + 1"), ("y", "x + 1"))), TABLE.schema)


def test_nan_is_missing_between_steps_too():
    table = pa.table({"x": [float("nan"), 4.0]})
    derivation = Derivation(derive=(("same", "x * 1"), ("big", "same > 3")))
    assert apply(derivation, table)[0].column("big").to_pylist() == [None, True]


def test_an_empty_fragment_has_the_same_types():
    derivation = Derivation(derive=(("total", "a / b"), ("name", "upper(text)")), where="a > 0")
    table, positions = apply(derivation, TABLE.slice(0, 0))
    assert table.schema.equals(check(derivation, TABLE.schema).schema)
    assert len(positions) == 0


FUNCTION = """
import pyarrow as pa
import pyarrow.compute as pc

def add(table: pa.Table) -> pa.Table:
    table = table.append_column("double", pc.multiply(table.column("a"), 2))
    if "b" in table.column_names:
        table = table.append_column("target", pc.greater(table.column("b"), 15.0))
    return table

def shorter(table): return table.slice(0, 1) if len(table) else table
def open_type(table): return table.append_column("n", pa.nulls(len(table)))
def no_table(table): return 3
def fails(table):
    if len(table): raise ValueError("secret cell value")
    return table
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "my_functions.py").write_text(FUNCTION)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "my_functions"
    sys.modules.pop("my_functions", None)


def test_a_function_runs_only_when_allowed_and_comes_first(module):
    derivation = Derivation(derive=(("more", "double + 1"),), function=f"{module}:add")
    with pytest.raises(JobError, match="--allow-code"):
        check(derivation, TABLE.schema)
    with pytest.raises(JobError, match="--allow-code"):
        apply(derivation, TABLE)
    allowed = Derivation(derivation.derive, None, derivation.function, allow_code=True)
    derived = check(allowed, TABLE.schema)
    assert derived.required == {"a"}
    assert derived.inputs["target"] == {"a", "b"}
    assert derived.inputs["more"] == {"a"}
    assert derived.uses["more"] == {"a", "double"}
    assert derived.raw_inputs(["text"]) == {"a", "text"}
    assert apply(allowed, TABLE)[0].column("more").to_pylist() == [3, 5, 7, None]
    without_target = check(allowed, TABLE.schema.remove(1))
    assert "target" not in without_target.schema.names
    assert len(function_sha256(allowed)) == 64


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("shorter", DataError, "made 1 rows of 4; use data.where"),
        ("open_type", JobError, "column n is of type null"),
        ("no_table", JobError, "gave a int, expected a pyarrow.Table"),
        ("fails", DataError, r"failed on a fragment \(ValueError\)$"),
        ("nothing", JobError, "no attribute 'nothing'"),
    ],
)
def test_what_a_function_must_not_do(module, name, kind, message):
    derivation = Derivation(function=f"{module}:{name}", allow_code=True)

    def use():
        check(derivation, TABLE.schema)
        apply(derivation, TABLE)

    with pytest.raises(kind, match=message):
        use()


def test_a_missing_module_is_named():
    with pytest.raises(JobError, match="no_such_module"):
        check(Derivation(function="no_such_module:f", allow_code=True), TABLE.schema)


def test_flights_and_taxi(data):
    """The two derivations of the issue, on the real files, against Arrow's own arithmetic."""
    from pipeline.data.reading import read_fragment
    from pipeline.data.source import open_source

    flights = open_source(str(data / "nycflights13"))
    table = read_fragment(flights, flights.fragments[0])
    late, _ = apply(Derivation(derive=(("late", "arr_delay > 15"),)), table, only={"late"})
    assert late.column("late").equals(pc.greater(table.column("arr_delay"), 15))

    taxi = open_source(str(data / "green_taxi"))
    table = read_fragment(taxi, taxi.fragments[0])
    text = "date_diff('second', lpep_pickup_datetime, lpep_dropoff_datetime) / 60.0"
    minutes, _ = apply(Derivation(derive=(("minutes", text),)), table, only={"minutes"})
    start, stop = (table.column(f"lpep_{name}_datetime").to_numpy() for name in ("pickup", "dropoff"))
    expected = (stop - start).astype("timedelta64[s]").astype(float) / 60
    assert np.allclose(minutes.column("minutes").to_numpy(), expected)
