"""Derives new columns and a row filter from each fragment's raw columns.

The user's function comes first (`function`, the user's own code), then the SQL columns (`derive`, which may use each
other), then the filter (`where`).  A derived column may have a raw column's name: it replaces it, and inside its own
expression the name means the raw column.
"""

import functools
import hashlib
import importlib
import os
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.data.schema.expressions import Expression, evaluate, parse, resolve
from pipeline.errors import DataError, JobError


@dataclass(frozen=True)
class Derivation:
    """The user's derivations of the raw columns."""

    derive: tuple[tuple[str, str], ...] = ()  # (name, SQL expression of a row's columns)
    where: str | None = None  # SQL condition: the rows that train and evaluate
    function: str | None = None  # module:name of a pure pa.Table -> pa.Table, applied first
    allow_code: bool = False  # the user said --allow-code: without it `function` is refused

    def __bool__(self) -> bool:
        return bool(self.derive or self.where or self.function)


NO_DERIVATION = Derivation()


@dataclass(frozen=True)
class DerivedSchema:
    """The columns after the derivation, and their inputs."""

    schema: pa.Schema
    raw: tuple[str, ...]  # the columns before the derivation, in order
    inputs: dict[str, frozenset[str]] = field(default_factory=dict)  # derived -> raw columns, transitively
    uses: dict[str, frozenset[str]] = field(default_factory=dict)  # derived -> raw and derived columns, transitively
    where: frozenset[str] = frozenset()  # raw columns that `where` needs
    required: frozenset[str] = frozenset()  # raw columns without which `function` fails

    def raw_inputs(self, names: Collection[str]) -> frozenset[str]:
        """The raw columns to read so that `names` (raw or derived) can be computed; always includes those `function`
        requires.
        """
        return self.required.union(*(self.inputs.get(name, frozenset({name})) for name in names))


@dataclass(frozen=True)
class _Step:
    """An SQL expression and its columns."""

    name: str
    expression: Expression
    columns: tuple[tuple[str, bool], ...]  # (column, whether it is a derived one)


def check(
    derivation: Derivation, schema: pa.Schema, *, only: Collection[str] | None = None, where: bool = True
) -> DerivedSchema:
    """Applies the derivation to a source's schema; evaluates empty tables only.

    With `only`, only the derived columns that those columns need are made (prediction: the target's inputs
    may be missing), and with `where=False` no filter.  JobError names the field and holds DuckDB's message.
    """
    functional = _Function.probe(derivation, schema)
    steps, condition = _steps(derivation, tuple(functional.schema.names), _wanted(only), where)
    columns = dict(zip(functional.schema.names, functional.schema.empty_table().columns, strict=True))
    uses: dict[str, frozenset[str]] = dict(functional.inputs)
    inputs: dict[str, frozenset[str]] = dict(functional.inputs)
    made: dict[str, pa.ChunkedArray] = {}
    for step in steps:
        made[step.name] = _evaluate(step, columns, made, 0)
        inputs[step.name] = _union(step, inputs)
        uses[step.name] = _union(step, uses) | {name for name, _ in step.columns}
    filtered: frozenset[str] = frozenset()
    if condition is not None:
        kind = _evaluate(condition, columns, made, 0).type
        if not pa.types.is_boolean(kind):
            raise JobError(f"data.where: gives {kind}; expected true or false, e.g. arr_delay > 15")
        filtered = _union(condition, inputs)
    result = pa.schema([pa.field(name, column.type) for name, column in (columns | made).items()])
    return DerivedSchema(result, tuple(schema.names), inputs, uses, filtered, functional.required)


def apply(
    derivation: Derivation, table: pa.Table, *, only: Collection[str] | None = None, where: bool = True
) -> tuple[pa.Table, np.ndarray]:
    """(the table with the derived columns, the positions of its rows in `table` (int64)).

    With `only`, the result has those columns and no others are computed.  DataError where an expression fails on
    a value; it never holds the value.
    """
    rows = table.num_rows
    if derivation.function is not None:
        table = _call(derivation, table)
    wanted = _wanted(only)
    steps, condition = _steps(derivation, tuple(table.column_names), wanted, where)
    columns = dict(zip(table.column_names, table.columns, strict=True))
    made: dict[str, pa.ChunkedArray] = {}
    for step in steps:
        made[step.name] = _evaluate(step, columns, made, rows)
    positions = np.arange(rows, dtype=np.int64)
    mask = None if condition is None else _evaluate(condition, columns, made, rows)
    columns |= made
    result = pa.table({name: column for name, column in columns.items() if wanted is None or name in wanted})
    if mask is None:
        return result, positions
    keep = mask.combine_chunks().fill_null(False).to_numpy(zero_copy_only=False)
    if keep.all():
        return result, positions
    return result.filter(pa.array(keep)), positions[keep]


def function_sha256(derivation: Derivation) -> str | None:
    """The hash of the file that `function` is written in; None without a function."""
    if derivation.function is None:
        return None
    module = derivation.function.partition(":")[0]
    _load(derivation)
    origin = getattr(sys.modules[module], "__file__", None)
    if origin is None:
        raise JobError(f"data.function: {module} is not written in a file")
    return hashlib.sha256(Path(origin).read_bytes()).hexdigest()


def _wanted(only: Collection[str] | None) -> frozenset[str] | None:
    return None if only is None else frozenset(only)


@functools.lru_cache(maxsize=256)
def _steps(
    derivation: Derivation, names: tuple[str, ...], only: frozenset[str] | None, where: bool
) -> tuple[tuple[_Step, ...], _Step | None]:
    """The derived columns, each after those it uses, and the filter; from column names alone."""
    derive = dict(derivation.derive)
    order: dict[str, _Step] = {}
    above: list[str] = []

    def visit(name: str) -> None:
        if name in order:
            return
        if name in above:
            circle = " -> ".join([*above[above.index(name) :], name])
            raise JobError(f"data.derive: {circle}: columns are made of each other")
        above.append(name)
        step = _step(name, derive[name], f"data.derive.{name}", names, derive)
        for column, derived in step.columns:
            if derived:
                visit(column)
        above.pop()
        order[name] = step

    for name in derive:
        if only is None or name in only:
            visit(name)
    condition = None
    if where and derivation.where is not None:
        condition = _step("", derivation.where, "data.where", names, derive)
        for column, derived in condition.columns:
            if derived:
                visit(column)
    return tuple(order.values()), condition


def _step(name: str, text: str, field_path: str, names: tuple[str, ...], derive: dict[str, str]) -> _Step:
    """One expression with its columns resolved; its own name means the raw column."""
    expression = parse(field_path, text)
    others = [other for other in derive if other != name]
    meant = resolve(expression, dict.fromkeys([*names, *others]))
    columns = tuple((column, column in derive and column != name) for column in dict.fromkeys(meant.values()))
    return _Step(name, expression, columns)


def _evaluate(
    step: _Step, columns: dict[str, pa.ChunkedArray], made: dict[str, pa.ChunkedArray], rows: int
) -> pa.ChunkedArray:
    inputs = {name: made[name] if derived else columns[name] for name, derived in step.columns}
    return evaluate(step.expression, inputs, rows)


def _union(step: _Step, known: dict[str, frozenset[str]]) -> frozenset[str]:
    """The inputs of a step's columns: derived columns by their own inputs, raw columns by themselves."""
    return frozenset[str]().union(*(known.get(name, frozenset({name})) for name, _ in step.columns))


@dataclass(frozen=True)
class _Function:
    """The schema and inputs of the user's function, found by calling it with empty tables."""

    schema: pa.Schema
    inputs: dict[str, frozenset[str]]  # its new columns -> the raw columns without which they are missing
    required: frozenset[str]  # raw columns without which it fails

    @classmethod
    def probe(cls, derivation: Derivation, schema: pa.Schema) -> "_Function":
        """Calls the function without each raw column in turn: a new column missing then was made from that column."""
        if derivation.function is None:
            return cls(schema, {}, frozenset())
        made = _function_schema(derivation, schema)
        required: set[str] = set()
        inputs: dict[str, set[str]] = {name: set() for name in made.names if name not in schema.names}
        for index, name in enumerate(schema.names):
            try:
                without = set(_load(derivation)(schema.remove(index).empty_table()).column_names)
            except Exception:  # the user's code may raise anything: then it needs the column
                required.add(name)
                without = set()
            for new, made_of in inputs.items():
                if new not in without:
                    made_of.add(name)
        return cls(made, {name: frozenset(made_of) for name, made_of in inputs.items()}, frozenset(required))


@functools.lru_cache(maxsize=16)
def _function_schema(derivation: Derivation, schema: pa.Schema) -> pa.Schema:
    """The schema of the function's result; JobError if it fails on an empty table or leaves a type open."""
    function = _load(derivation)
    try:
        result = function(schema.empty_table())
    except Exception as error:  # the user's code may raise anything
        raise JobError(f"data.function {derivation.function} fails on an empty table: {error}") from error
    if not isinstance(result, pa.Table):
        raise JobError(f"data.function {derivation.function} gave a {type(result).__name__}, expected a pyarrow.Table")
    for column in result.schema:
        given = schema.field(column.name).type if column.name in schema.names else None
        if (pa.types.is_null(column.type) and given != pa.null()) or pa.types.is_nested(column.type):
            raise JobError(
                f"data.function {derivation.function}: column {column.name} is of type {column.type}; give it a plain one"
            )
    return result.schema


def _call(derivation: Derivation, table: pa.Table) -> pa.Table:
    """The function's result on a fragment; DataError (with the error's type, never its text) where it fails."""
    name = derivation.function
    schema = _function_schema(derivation, table.schema)
    try:
        result = _load(derivation)(table)
    except Exception as error:  # any error of the user's code; its text may hold row data, so it is not passed on
        raise DataError(f"data.function {name} failed on a fragment ({type(error).__name__})") from None
    if result.num_rows != table.num_rows:
        raise DataError(
            f"data.function {name} made {result.num_rows} rows of {table.num_rows}; use data.where to leave rows out"
        )
    if result.schema.equals(schema):
        return result
    try:
        return result.select(schema.names).cast(schema)
    except (KeyError, pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise DataError(
            f"data.function {name} gave other columns or types on a fragment than on an empty table"
        ) from None


def _load(derivation: Derivation) -> Callable[[pa.Table], pa.Table]:
    """The user's function, imported by name; also searched in the current folder, as `python -m` does."""
    if not derivation.allow_code:
        raise JobError(f"data.function = {derivation.function!r} runs your own code: pass --allow-code to allow it")
    module, _, name = str(derivation.function).partition(":")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise JobError(f"data.function = {derivation.function!r}: {error}") from None
    if not callable(function):
        raise JobError(f"data.function = {derivation.function!r} is not a function")
    checked: Callable[[pa.Table], pa.Table] = function
    return checked
