"""Expressions that would take memory or time without end are refused, or stopped; plain ones are not."""

import subprocess
import sys

import pyarrow as pa
import pytest

from pipeline.data.schema import expressions, sql_bounds
from pipeline.data.schema.expressions import Limits, evaluate, parse
from pipeline.errors import DataError, JobError

TABLE = pa.table({"s": ["abc", "d,e"], "x": [1.5, 2.5], "n": [1, 2]})
COLUMNS = {name: TABLE.column(name) for name in TABLE.column_names}

ATTACKS = [
    ("repeat(s, 100000000)", "100,000,000 is more than 1,000"),
    ("repeat('a', 100000000)", "100,000,000 is more than 1,000"),
    (" || ".join(["s"] * 190), "times as long"),
    ("repeat(s, n)", "whole number, written there"),
    ("repeat(repeat(repeat('abc', 1000), 1000), 1000)", "constants in it"),
    ("lpad(s, 2000000000, 'x')", "more than 1,000"),
    ("rpad(s, 2000000000, 'x')", "more than 1,000"),
    ("format('{:>2000000000}', x)", "more than 1,000"),
    ("format('{:{}}', x, 2000000000)", "width has to be a number"),
    ("format(s, x)", "format has to be a text"),
    ("printf('%2000000000d', n)", "more than 1,000"),
    ("printf('%.2000000000f', x)", "more than 1,000"),
    ("printf('%*d', 2000000000, n)", "width has to be a number"),
    ("replace(replace('aaaa', 'a', repeat('a', 1000)), 'a', s)", "replacement has to be a text"),
    (f"replace(replace(replace(s, 'a', '{'a' * 900}'), 'a', '{'a' * 900}'), 'a', '{'a' * 900}')", "constants in it"),
    (f"regexp_replace(s, 'x*', '{'y' * 900}', 'g')", "constants in it"),
    (f"regexp_replace(s, '.*', '{chr(92)}0' || s, 'g')", "replacement has to be a text"),
    ("strftime(DATE '2020-01-01', repeat('%A', 1000))", "constants in it"),
    ("levenshtein(lpad('a', 1000, 'a'), lpad('b', 1000, 'b'))", "needs a column"),
    ("len(range(1000000000))", "range is refused"),
    ("len(generate_series(1, 1000000000))", "generate_series is refused"),
    ("list_sum(range(1000000000))", "list_sum is refused"),
    ("len([1, 2, 3])", "list_value is refused"),
    ("array_resize([1], 1000000000)", "array_resize is refused"),
    ("string_agg(s)", "string_agg is refused"),
    ("bar(x, 0, 1, 1000000000)", "bar is refused"),
    ("to_base(1, 2, 1000000000)", "to_base is refused"),
    ("len(bitstring('1', 1000000000))", "bitstring is refused"),
    ("damerau_levenshtein(s, s)", "damerau_levenshtein is refused"),
    ("string_split(s, '')[1]", "string_split is refused"),
    ("json_extract_string(s, '$..*')", "without *"),
    ("x::INTEGER[100000]", "type array is refused"),
    ("s::BIT", "type bit is refused"),
    ("s::BLOB", "type blob is refused"),
    (" + ".join(["x"] * 400), "200 deep"),
    ("abs(" * 400 + "x" + ")" * 400, "200 deep"),
    ("CASE WHEN x > 0 THEN " * 400 + "1" + " END" * 400, "200 deep"),
    (" + ".join(["x"] * 5000), ""),  # DuckDB's own limit
    (f"s = '{'a' * 200_000}'", "at most 100,000"),
]


@pytest.mark.parametrize(("text", "message"), ATTACKS, ids=lambda value: value[:40])
def test_refused_by_the_tree_alone(text: str, message: str) -> None:
    with pytest.raises(JobError) as caught:
        parse("data.derive.new", text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("repeat(s, 2)", ["abcabc", "d,ed,e"]),
        ("lpad(n::VARCHAR, 5, '0')", ["00001", "00002"]),
        ("printf('%05.1f|%s', x, s)", ["001.5|abc", "002.5|d,e"]),
        ("format('{:03d}', n)", ["001", "002"]),
        ("replace(replace(s, ',', ''), 'd', 'dd')", ["abc", "dde"]),
        ("regexp_replace(s, '[^a-z]', '', 'g')", ["abc", "de"]),
        ("s LIKE '%b%' OR s SIMILAR TO 'd.*'", [True, True]),
        ("s[1:2] || split_part(s, ',', 2)", ["ab", "d,e"]),
        ("concat_ws('-', s, n)", ["abc-1", "d,e-2"]),
        ("levenshtein(s, 'abd')", [1, 3]),
        ("strftime(TIMESTAMP '2020-01-02', '%Y-%m') || s", ["2020-01abc", "2020-01d,e"]),
        ("hour(TIMESTAMP '2020-01-02 03:00:00' + INTERVAL 2 HOURS)", [5, 5]),
        ("json_extract_string('{\"a\": 1}', '$.a')", ["1", "1"]),
        (" + ".join(["x"] * 150), [225.0, 375.0]),
        ("n IN (" + ", ".join(map(str, range(2, 3000))) + ")", [False, True]),
        ("CASE " + " ".join(f"WHEN s = 'k{i}' THEN 'value {i}'" for i in range(500)) + " ELSE s END", ["abc", "d,e"]),
        ("x IS NOT DISTINCT FROM 1.5 AND CAST(x AS DECIMAL(10, 2)) > 1", [True, False]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_plain_expressions_stay_allowed(text: str, expected: list[object]) -> None:
    assert evaluate(parse("f", text), COLUMNS, TABLE.num_rows).to_pylist() == expected


def test_every_function_that_is_allowed_exists() -> None:
    allowed, known = expressions.functions()
    assert sql_bounds.ALLOWED - known - allowed <= {"!"}
    assert len(allowed) > 150
    assert not {
        name for name in allowed if name.startswith(("list", "array", "struct", "map", "__internal", "variant", "st_"))
    }


def test_long_texts_are_made_in_parts_and_only_so_many() -> None:
    """A fragment that fits whole gives the same in parts; a result that is too long is an error before memory is full."""
    rows = 1_000
    columns = {"s": pa.chunked_array([[f"{row:05d}" for row in range(rows)]])}
    expression = parse("data.derive.long", "repeat(s, 100)")
    whole = evaluate(expression, columns, rows)
    parts = evaluate(expression, columns, rows, Limits(slice_nbytes=20_000))
    assert parts.num_chunks > 10
    assert parts.equals(whole)
    with pytest.raises(DataError, match=r"data\.derive\.long: makes more than 100,000 bytes"):
        evaluate(expression, columns, rows, Limits(slice_nbytes=20_000, result_nbytes=100_000))


def test_a_fragment_has_a_time_limit() -> None:
    columns = {"n": pa.chunked_array([pa.array(range(200_000))])}
    slow = "md5(" * 60 + "n::VARCHAR" + ")" * 60  # some seconds
    with pytest.raises(DataError, match=r"data\.derive\.slow: takes more than 0\.05 s"):
        evaluate(parse("data.derive.slow", slow), columns, 200_000, Limits(seconds=0.05))
    assert evaluate(parse("f", "n + 1"), columns, 200_000)[0].as_py() == 1  # the session is as before


MEMORY = """
import resource, sys
import pyarrow as pa
from pipeline.data.schema import expressions
from pipeline.errors import PipelineError
from tests.data.schema.test_sql_bounds import ATTACKS

limits = expressions.Limits(slice_nbytes=4 << 20, result_nbytes=16 << 20)
rows = 5_000
columns = {"s": pa.chunked_array([["x" * 100] * rows]), "x": pa.chunked_array([[1.5] * rows]), "n": pa.chunked_array([[1] * rows])}
run = lambda text: expressions.evaluate(expressions.parse("f", text), columns, rows, limits)
run("s || n")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for text in [*(text for text, _ in ATTACKS), "repeat(s, 1000)", "bin(hex(bin(s)))", " || ".join(["s"] * 40),
             "regexp_replace(s, 'x', '%s', 'g')" % ("y" * 300)]:
    try:
        run(text)
        sys.exit(f"not stopped: {text[:50]}")
    except PipelineError:
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_stays_bounded() -> None:
    """Of all attacks together, and of what is stopped by its result alone."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 200 << 10  # KiB
