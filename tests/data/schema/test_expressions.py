"""What SQL expressions may do, and what they are refused."""

import subprocess
import sys
import threading

import pyarrow as pa
import pytest

from pipeline.data.schema.expressions import evaluate, parse
from pipeline.errors import DataError, JobError

NAN = float("nan")
TABLE = pa.table(
    {
        "delay": pa.array([10, 20, None], pa.int64()),
        "ratio": pa.array([NAN, 20.0, 3.0]),
        "code": ["x", "y", "12"],
        "level": pa.array(["p", "q", "p"]).dictionary_encode(),
        "moment": pa.array([0, 3_600_000_000, None], pa.timestamp("us", tz="America/New_York")),
        "Select": [1, 2, 3],
        "a.b": [1, 2, 3],
    }
)
COLUMNS = {name: TABLE.column(name) for name in TABLE.column_names}


def value(text):
    return evaluate(parse("data.derive.new", text), COLUMNS, TABLE.num_rows)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("delay > 15", [False, True, None]),
        ("DELAY > 15", [False, True, None]),
        ("ratio > 15", [None, True, False]),  # DuckDB alone says that NaN > 15
        ("ratio / 0 - ratio / 0", [None, None, None]),  # NaN in a result is missing too
        ("delay / 4", [2.5, 5.0, None]),
        ("delay * 1.5", [15.0, 30.0, None]),
        ("CAST(delay AS HUGEINT) * 2", [20.0, 40.0, None]),
        ("hour(moment)", [0, 1, None]),  # UTC, wherever it runs
        ("level || '!'", ["p!", "q!", "p!"]),
        ("TRY_CAST(code AS INTEGER)", [None, None, 12]),
        ("CASE WHEN delay > 15 THEN 'late' ELSE 'fine' END", ["fine", "late", "fine"]),
        ("coalesce(delay, 0) + nullif(delay, 10)", [None, 40, None]),
        ("code IN ('x', 'y') AND NOT delay IS NULL", [True, True, False]),
        ("delay BETWEEN 5 AND 15", [True, False, None]),
        ('"Select" + "a.b"', [2, 4, 6]),
        ("delay -- the delay", [10, 20, None]),
        ("1", [1, 1, 1]),
    ],
)
def test_values(text, expected):
    assert value(text).to_pylist() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("arr_dely > 15", "no column arr_dely"),
        ("delya > 15", "did you mean delay?"),
        ("delay >", "syntax error"),
        ("code > delay", "Cannot compare values of type VARCHAR and type BIGINT"),
        ("upper(delay, 2)", "No function matches"),
        ("uppr(code)", "no function uppr; did you mean upper?"),
        ("delay::nonsense", "nonsense does not exist"),
        ("", "selection list"),
        ("random()", "random is refused"),
        ("now()", "now is refused"),
        ("current_date", "no column current_date"),
        ("sleep_ms(1000)", "sleep_ms is refused"),
        ("sum(delay)", "sum is refused"),
        ("count(*)", "is refused"),
        ("unnest([1, 2])", "unnest is refused"),
        ("getvariable('x')", "getvariable is refused"),
        ("nextval('x')", "nextval is refused"),
        ("row_number() OVER ()", "window functions see other rows"),
        ("(SELECT 1)", "subqueries are refused"),
        ("delay IN (SELECT 1)", "subqueries are refused"),
        ("(SELECT content FROM read_text('/etc/hostname'))", "subqueries are refused"),
        ("read_text('/etc/hostname')", "read_text is refused"),
        ("COLUMNS(*)", "name the columns"),
        ("*", "name the columns"),
        ("#1", "#1 is refused"),
        ("?", "parameters are refused"),
        ("list_transform([1], x -> x)", "list_transform is refused"),
        ("delay FROM '/etc/hostname'", "expected one SQL expression"),
        ("delay; DROP TABLE fragment", "expected one SQL expression"),
        ("delay) FROM fragment; SELECT (1", "syntax error"),
        ("delay LIMIT 1", "expected one SQL expression"),
        ("delay ORDER BY 1", "expected one SQL expression"),
        ("delay GROUP BY ALL", "expected one SQL expression"),
        ("delay WHERE true", "expected one SQL expression"),
        ("delay UNION SELECT 1", "expected one SQL expression"),
        ("delay USING SAMPLE 1", "expected one SQL expression"),
        ("delay, code", "expected one SQL expression"),
        ("DISTINCT delay", "expected one SQL expression"),
        ("delay AS other", "expected one SQL expression"),
        ("main.upper(code)", "without a schema"),
        ("fragment.delay", "plain column names only"),
        ("[delay]", "list_value is refused"),
        ("NULL", "expected a number, text"),
    ],
)
def test_refused_in_one_line_that_names_the_field(text, message):
    with pytest.raises(JobError) as caught:
        value(text)
    assert str(caught.value).startswith("data.derive.new: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_error_on_a_value_never_holds_the_value():
    with pytest.raises(DataError, match="conversion error") as caught:
        value("CAST(code AS INTEGER)")
    assert "'x'" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_that_differ_only_in_case_cannot_be_used_together():
    columns = {"a": TABLE.column("delay"), "A": TABLE.column("ratio")}
    assert evaluate(parse("f", "A + 0"), columns, 3).to_pylist() == [None, 20.0, 3.0]
    with pytest.raises(JobError, match="differ only in case"):
        evaluate(parse("f", "a + A"), columns, 3)


def test_columns_may_have_the_names_that_the_query_uses():
    columns = {name: TABLE.column("delay") for name in ("fragment", "value", "row")}
    for name in columns:
        assert evaluate(parse("f", f"{name} + 1"), columns, 3).to_pylist() == [11, 21, None]


def test_the_session_is_locked():
    from pipeline.data.schema import expressions

    value("delay")
    session = expressions.thread_session()
    for statement in (
        "SELECT * FROM read_text('/etc/hostname')",
        "COPY (SELECT 1) TO '/tmp/never.csv'",
        "ATTACH '/tmp/never.db'",
        "INSTALL httpfs",
        "SET memory_limit = '100GB'",
        "SET enable_external_access = true",
        "SELECT * FROM TABLE",
    ):
        with pytest.raises(Exception, match=r"(?i)permission|disabled|locked|does not exist|parser"):
            session.execute(statement)


def test_each_thread_has_its_own_session_and_keeps_it():
    from pipeline.data.schema import expressions

    seen = []
    thread = threading.Thread(target=lambda: (value("delay"), seen.append(expressions.thread_session())))
    thread.start()
    thread.join()
    assert seen[0] is not expressions.thread_session()
    assert expressions.thread_session() is expressions.thread_session()


def test_duckdb_is_imported_only_when_an_expression_is_there():
    code = "import sys, pipeline.data.rows, pipeline.data.schema.target_inference; sys.exit('duckdb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_thread_has_the_session_once_an_expression_is_done() -> None:
    """When the process ends, DuckDB would print what it leaks."""
    before = set(threading.enumerate())
    for _ in range(50):
        evaluate(parse("f", "a + 1"), {"a": pa.chunked_array([[1, 2]])}, 2)
        assert set(threading.enumerate()) <= before
