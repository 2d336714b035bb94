"""Evaluates SQL expressions of one row's columns in a DuckDB session without access to anything else.

There are three barriers.  The session: no files, network, extensions or settings (`enable_external_access`,
`lock_configuration`), one thread, bounded memory, UTC.  The tree: DuckDB's own parser (`json_serialize_sql`) gives the
parts of an expression, and only constants, plain column names, casts, comparisons, CASE and scalar functions whose
result depends on their arguments alone are allowed; so no windows, subqueries, aggregates, `unnest`, `random()` or
`now()`.  The cost: functions whose results stay small (`sql_bounds`), texts of bounded size, and a time limit for each
fragment.

Errors never hold cell values: DuckDB's text is passed on for parse and bind errors only.
DuckDB is imported when the first expression is parsed, not before.
"""

import contextlib
import functools
import json
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.names import listed, nearest
from pipeline.config.suggestions import closest
from pipeline.data.schema import sql_bounds
from pipeline.data.schema.sql_bounds import Bound
from pipeline.errors import DataError, JobError

VECTOR_ROWS = 2_048  # rows that DuckDB evaluates at once
# DuckDB's own SQL macros that are scalar, deterministic and of plain arguments; all other macros are refused.
_MACROS = frozenset({"nullif", "if", "fdiv", "fmod", "split_part", "days_in_month", "date_add"})
_CLASSES = frozenset(
    {
        "COLUMN_REF",
        "CONSTANT",
        "FUNCTION",
        "OPERATOR",
        "COMPARISON",
        "CONJUNCTION",
        "CASE",
        "CAST",
        "BETWEEN",
        "TYPE",
        "COLLATE",
    }
)
_REFUSED = {
    "WINDOW": "window functions see other rows",
    "SUBQUERY": "subqueries are refused",
    "STAR": "* and COLUMNS are refused: name the columns",
    "LAMBDA": "lambdas are refused",
    "PARAMETER": "parameters are refused",
    "POSITIONAL_REFERENCE": "#1 is refused: name the column",
}
_EXPECTED = "expected one SQL expression of a row's columns, e.g. arr_delay > 15"
_SESSION = threading.local()
_MEMORY_LIMIT = "1GB"  # of one thread's session; an expression streams over its fragment and needs little


@dataclass(frozen=True)
class Limits:
    """What one expression may take for one fragment."""

    slice_nbytes: int = 1 << 28  # of text made at once
    result_nbytes: int = 1 << 30
    seconds: float = 120.0  # 64 MiB take about a second


LIMITS = Limits()


@dataclass(frozen=True)
class Expression:
    """An expression that has passed the checks."""

    field: str  # where the user wrote it, e.g. data.derive.late
    sql: str  # as DuckDB renders it: one expression, no comments
    names: tuple[str, ...]  # the columns it uses, as written
    largest: Bound  # of the longest text that it may make
    together: Bound  # of all its texts, which are in memory at once for DuckDB's vectors of rows


@functools.lru_cache(maxsize=1024)
def parse(field: str, text: str) -> Expression:
    """The expression in `text`; JobError with DuckDB's message, or with the refused part."""
    sql_bounds.check_text(field, text)
    try:
        tree = json.loads(_scalar("SELECT json_serialize_sql(?::VARCHAR)", f"SELECT {text}\n"))
    except RecursionError:
        raise JobError(f"{field}: {sql_bounds.TOO_DEEP}") from None
    if tree["error"] and tree["error_type"] != "parser":
        raise JobError(f"{field}: {_EXPECTED}")
    if tree["error"]:
        raise JobError(f"{field}: {_one_line(tree['error_message'])}")
    root = _only_expression(field, tree)
    nodes = sql_bounds.nodes(field, root)
    names = dict.fromkeys(name for node, _ in nodes for name in _check(field, node))
    largest, together = sql_bounds.bounds_of(field, nodes)
    sql = _scalar("SELECT json_deserialize_sql(?::JSON)", json.dumps(tree))
    return Expression(field, sql.removeprefix("SELECT "), tuple(names), largest, together)


def resolve(expression: Expression, columns: Iterable[str]) -> dict[str, str]:
    """For each name in the expression its column: the same name, or else the same name ignoring case.

    JobError for an unknown name (with the nearest), and for two that differ only in case.
    """
    known = list(columns)
    exact = set(known)
    meant: dict[str, str] = {}
    for name in expression.names:
        if name in exact:
            meant[name] = name
            continue
        alike = [column for column in known if column.lower() == name.lower()]
        if len(alike) != 1:
            near = alike or nearest(name, known)
            hint = f"; did you mean {listed(near, 'or')}?" if near else ""
            raise JobError(f"{expression.field}: no column {name}{hint}")
        meant[name] = alike[0]
    used = set(meant.values())
    if len({column.lower() for column in used}) < len(used):
        raise JobError(
            f"{expression.field}: uses columns whose names differ only in case, which SQL does not distinguish"
        )
    return meant


def evaluate(
    expression: Expression, columns: dict[str, pa.ChunkedArray], rows: int, limits: Limits = LIMITS
) -> pa.ChunkedArray:
    """The expression's value for each of `rows` rows; `columns` holds (at least) the columns it uses.

    Floats, decimals and huge integers come as float64 with missing for NaN.  JobError where the expression does not
    fit the columns' types, DataError where it fails on a value, takes too long or makes too much text.
    """
    used = resolve(expression, columns)
    inputs = {column: _for_sql(columns[column]) for column in used.values()}
    table = pa.table(inputs) if inputs else pa.table({"row": pa.nulls(rows, pa.int8())})
    deadline = time.monotonic() + limits.seconds
    parts: list[pa.ChunkedArray] = []
    nbytes = 0
    pending = [table]
    while pending:
        part = pending.pop()
        most = _most_nbytes(expression, part)
        if most > limits.slice_nbytes and part.num_rows > 1:
            half = part.num_rows // 2
            pending += [part.slice(half), part.slice(0, half)]
            continue
        if most <= limits.result_nbytes:
            parts.append(_run(expression, part, deadline, limits))
            nbytes += parts[-1].nbytes
        if max(most, nbytes) > limits.result_nbytes:
            raise DataError(
                f"{expression.field}: makes more than {limits.result_nbytes:,} bytes of text of a fragment: shorten its "
                "texts, or take a smaller data.fragment_mib"
            )
    return parts[0] if len(parts) == 1 else pa.chunked_array([chunk for part in parts for chunk in part.chunks])


def _most_nbytes(expression: Expression, table: pa.Table) -> float:
    """The most bytes of text that evaluating the expression for these rows may take: the result, or intermediate texts."""
    texts = [
        column for column in table.columns if pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    ]
    nbytes = sum(column.nbytes for column in texts)
    longest = sum(pc.max(pc.binary_length(column)).as_py() or 0 for column in texts)
    at_once = min(table.num_rows, VECTOR_ROWS)
    result = expression.largest.times * nbytes + expression.largest.plus * table.num_rows
    return max(result, expression.together.times * min(nbytes, longest * at_once) + expression.together.plus * at_once)


@contextlib.contextmanager
def _time_limit(session: Any, seconds: float) -> Iterator[None]:
    """Interrupts the session's query after `seconds`."""
    timer = threading.Timer(max(0.0, seconds), session.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # a thread that still has the session when the process ends makes DuckDB print what it leaks


def _run(expression: Expression, table: pa.Table, deadline: float, limits: Limits) -> pa.ChunkedArray:
    import duckdb

    session, rows = thread_session(), table.num_rows
    session.register("fragment", table)
    try:
        with _time_limit(session, deadline - time.monotonic()):
            result = session.sql(f'SELECT ({expression.sql}) AS "value" FROM "fragment"').to_arrow_table()
    except duckdb.InterruptException:
        raise DataError(
            f"{expression.field}: takes more than {limits.seconds:g} s for a fragment: simplify it, or take a smaller "
            "data.fragment_mib"
        ) from None
    except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException) as error:
        raise JobError(f"{expression.field}: {_one_line(str(error))}") from None
    except duckdb.Error as error:
        raise _failure(expression.field, error, rows) from None
    finally:
        session.unregister("fragment")
    if result.num_rows != rows:
        raise JobError(
            f"{expression.field}: gave {result.num_rows} rows for {rows}; an expression has one value per row"
        )
    return _from_sql(expression.field, result.column(0))


def thread_session() -> Any:
    """This thread's DuckDB session, created on first use."""
    session = getattr(_SESSION, "duckdb", None)
    if session is None:
        import duckdb

        session = duckdb.connect(":memory:", config={"threads": 1, "memory_limit": _MEMORY_LIMIT})
        session.execute("SET TimeZone = 'UTC'")
        session.execute("SET python_enable_replacements = false")
        session.execute("SET enable_external_access = false")
        session.execute("SET lock_configuration = true")
        _SESSION.duckdb = session
    return session


def _scalar(query: str, argument: str) -> str:
    """The single text that a query returns; fetched completely, so that the session is free again."""
    return str(thread_session().execute(query, [argument]).fetchall()[0][0])


@functools.lru_cache(maxsize=1)
def functions() -> tuple[frozenset[str], frozenset[str]]:
    """Names of the functions that may be used (scalar, CONSISTENT in every overload, never an aggregate), and of all."""
    rows = thread_session().execute("SELECT function_name, function_type, stability FROM duckdb_functions()").fetchall()
    scalar = {name for name, kind, stability in rows if kind == "scalar" and stability == "CONSISTENT"}
    others = {name for name, kind, stability in rows if kind == "scalar" and stability != "CONSISTENT"}
    others |= {name for name, kind, _ in rows if kind in ("aggregate", "window")}
    return (frozenset(scalar - others) | _MACROS) & sql_bounds.ALLOWED, frozenset(name for name, _, _ in rows)


@functools.lru_cache(maxsize=1)
def _types() -> frozenset[str]:
    """Names of all types, in lower case."""
    return frozenset(
        str(name).lower() for (name,) in thread_session().execute("SELECT type_name FROM duckdb_types()").fetchall()
    )


def _only_expression(field: str, tree: Any) -> Any:
    """The one expression of a parsed `SELECT ...`; JobError if the text contains anything else."""
    statements = tree["statements"]
    node = statements[0]["node"] if len(statements) == 1 else {}
    clauses = ("modifiers", "where_clause", "group_expressions", "group_sets", "having", "sample", "qualify")
    plain = (
        node.get("type") == "SELECT_NODE"
        and len(node["select_list"]) == 1
        and node["from_table"]["type"] == "EMPTY"
        and not node["cte_map"]["map"]
        and not any(node[clause] for clause in clauses)
        and node["aggregate_handling"] == "STANDARD_HANDLING"
        and not node["select_list"][0]["alias"]
    )
    if not plain:
        raise JobError(f"{field}: {_EXPECTED}")
    return node["select_list"][0]


def _check(field: str, node: Any) -> Iterator[str]:
    """The column name in a node, if it is a column; JobError for a node that is refused."""
    kind = node["class"]
    if kind not in _CLASSES:
        raise JobError(f"{field}: {_REFUSED.get(kind, f'{kind.lower()} is refused')}")
    if kind == "COLUMN_REF":
        if len(node["column_names"]) != 1:
            raise JobError(
                f"{field}: {'.'.join(node['column_names'])}: plain column names only; quote a name that holds a dot"
            )
        yield node["column_names"][0]
    if kind == "FUNCTION":
        _check_function(field, node)
    if kind == "OPERATOR" and node["type"] in ("GROUPING_FUNCTION", "OPERATOR_UNNEST"):
        raise JobError(f"{field}: {node['type'].lower()} is refused")
    if kind == "TYPE":
        sql_bounds.check_type(field, node, _types())


def _check_function(field: str, node: Any) -> None:
    name = node["function_name"]
    if node["schema"] or node["catalog"]:
        raise JobError(f"{field}: {name}: write functions without a schema, as {name}(...)")
    allowed, known = functions()
    if name not in known and name not in allowed:
        near = closest(name, allowed)
        raise JobError(f"{field}: no function {name}" + (f"; did you mean {near}?" if near else ""))
    if node["distinct"] or node["filter"] or node["order_bys"]["orders"] or name not in allowed:
        why = "only functions of one row's numbers, texts and times that always give the same result, and a small one"
        raise JobError(f"{field}: the function {name} is refused: {why}")


def _for_sql(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as input for DuckDB: texts for dictionaries, no NaN (`NaN > 15` is true there)."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    if pa.types.is_decimal256(column.type):
        column = column.cast(pa.float64())
    return _without_nan(column)


def _without_nan(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column with missing values for NaN; unchanged if it has none."""
    if not pa.types.is_floating(column.type):
        return column
    is_nan = pc.is_nan(column)
    if not pc.any(is_nan).as_py():
        return column
    return pc.if_else(is_nan, pa.scalar(None, column.type), column)


def _from_sql(field: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A result as a column of the data: JobError for types that cannot be a column."""
    kind = column.type
    if pa.types.is_decimal(kind):
        return column.cast(pa.float64())
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    if pa.types.is_floating(kind):
        return _without_nan(column)
    plain = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_string, pa.types.is_date, pa.types.is_timestamp)
    if not any(test(kind) for test in plain):
        raise JobError(f"{field}: gives {kind}; expected a number, text, boolean, date or timestamp")
    return column


def _failure(field: str, error: Exception, rows: int) -> DataError | JobError:
    """An error without DuckDB's text, which may hold cell values."""
    kind = type(error).__name__.removesuffix("Exception").lower()
    if rows == 0:
        return JobError(f"{field}: cannot be evaluated ({kind} error)")
    return DataError(f"{field}: fails on a value of the data ({kind} error); TRY_CAST or CASE can make it missing")


def _one_line(message: str) -> str:
    """The first paragraph of DuckDB's message, without the query's text."""
    lines = message.split("\nLINE ")[0].split("\n\n")[0].splitlines()
    return " ".join(line.strip() for line in lines if line.strip())
