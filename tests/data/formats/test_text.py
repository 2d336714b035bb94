"""CSV and LIBSVM: the same rows and types however the text is cut."""

import bz2
import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_svmlight_file

from pipeline.config.job import CsvOptions
from pipeline.data.formats import text
from pipeline.data.formats.csv import join
from pipeline.data.reading import count_rows, read_fragment
from pipeline.data.schema.hints import ColumnHints
from pipeline.data.source import Source, open_source
from pipeline.errors import SourceError
from pipeline.events.findings import findings

ADULT = [
    "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation",
    "relationship", "race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country",
    "income",
]  # fmt: skip


def read(source: Source) -> pa.Table:
    tables = [read_fragment(source, fragment) for fragment in source.fragments]
    for fragment, table in zip(source.fragments, tables, strict=True):
        assert fragment.rows in (None, table.num_rows)
        assert table.schema.equals(source.schema)
    return pa.concat_tables(tables)


def test_adult(data: Path) -> None:
    options = CsvOptions(header=False, columns=ADULT)
    source = open_source(str(data / "adult/adult.data"), format="csv", csv=options)
    assert source.rows == 32_561
    assert len(source.fragments) > 2
    table = read(source)
    assert table["age"].type == pa.int64()
    assert set(table["income"].to_pylist()) == {"<=50K", ">50K"}  # no blanks around values
    assert table["workclass"].null_count == 1836  # written ?, as the data set's documentation counts them
    assert open_source(str(data / "adult/adult.test"), format="csv", csv=options).rows == 16_281


def test_covertype_gzip(data: Path) -> None:
    source = open_source(str(data / "covertype"))
    table = read(source)
    assert (table.num_rows, table.num_columns) == (92_962, 55)
    want = np.loadtxt(data / "covertype/covertype.csv.gz", delimiter=",", skiprows=1, max_rows=500)
    assert np.array_equal(np.column_stack([column.to_numpy() for column in table.slice(0, 500).columns]), want)


def test_compressed_texts_are_the_same(tmp_path: Path) -> None:
    lines = b"a,b\n" + b"".join(b"%d,x%d\n" % (i, i % 7) for i in range(5000))
    (tmp_path / "t.csv").write_bytes(lines)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "t.csv.bz2").write_bytes(bz2.compress(lines))
    tables = [read(open_source(str(tmp_path / f"t.csv{ending}"))) for ending in ("", ".gz", ".bz2")]
    assert tables[0].num_rows == 5000
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])
    assert open_source(str(tmp_path / "t.csv"), fragment_nbytes=1000).rows == 5000


VALUES = st.sampled_from(
    ["1", "-2", "3.5", "", "NA", "x y", "true", "2020-01-01", "2020-01-01 10:00:00", "10:20:30", "007", str(2**63)]
)


@given(
    rows=st.lists(st.tuples(VALUES, st.sampled_from(["1", "2"]), st.sampled_from(["", "0.5"])), min_size=1),
    target=st.integers(8, 200),
    quoted=st.booleans(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_rows_and_types_do_not_depend_on_the_cut(
    tmp_path: Path, rows: list[tuple[str, str, str]], target: int, quoted: bool
) -> None:
    path = tmp_path / "t.csv"
    lines = [",".join((f'"{a}"' if quoted and a else a, b, c)) for a, b, c in rows]
    path.write_text("a,b,c\n" + "\n".join(lines) + "\n")
    whole, cut = open_source(str(path)), open_source(str(path), fragment_nbytes=target)
    assert len(whole.fragments) == 1
    assert whole.schema.equals(cut.schema)
    assert whole.notes == cut.notes
    assert read(whole).equals(read(cut))
    assert read(cut)["b"].to_pylist() == [int(b) for _, b, _ in rows]


KINDS = [
    pa.null(), pa.bool_(), pa.int64(), pa.float64(), pa.string(), pa.date32(), pa.timestamp("s"), pa.timestamp("ns"),
    pa.timestamp("s", "UTC"), pa.timestamp("ns", "UTC"),
]  # fmt: skip


@given(st.sampled_from(KINDS), st.sampled_from(KINDS), st.sampled_from(KINDS))
@settings(max_examples=500)
def test_joined_types_do_not_depend_on_order(a: pa.DataType, b: pa.DataType, c: pa.DataType) -> None:
    assert join(a, b) == join(b, a)
    assert join(join(a, b), c) == join(a, join(b, c))


def test_whole_numbers_that_become_fractions_far_into_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "1,1\n" * 20_000 + "1.5,x\n")
    source = open_source(str(path), fragment_nbytes=10_000)
    assert source.schema.types == [pa.float64(), pa.string()]
    assert read(source)["b"].to_pylist()[-2:] == ["1", "x"]


def test_files_may_differ(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a,b\n1,2\n")
    (tmp_path / "2.csv").write_text("b,c,a\n2.5,z,3\n")
    source = open_source(str(tmp_path))
    assert read(source).to_pydict() == {"a": [1, 3], "b": [2.0, 2.5], "c": [None, "z"]}
    assert {item.column: item.read_as for item in source.drift} == {"b": "double", "c": "string"}


def test_options(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xef\xbb\xbf# made by hand\nname;value\n# more\n'x'; -\nb;2\n\n#b;3\n c ;4\n")
    source = open_source(str(path), csv=CsvOptions(separator=";", comment="#", missing=["-"]))
    assert source.schema.names == ["name", "value"]
    assert read(source).to_pydict() == {"name": ["'x'", "b", "c"], "value": [None, 2, 4]}
    (tmp_path / "t.tsv").write_text("a\tb\n1\t2\n")
    assert read(open_source(str(tmp_path / "t.tsv"))).to_pydict() == {"a": [1], "b": [2]}


def test_newlines_in_quotes(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "".join(f'{i},"x\ny, ""{i}"""\n' for i in range(500)))
    source = open_source(str(path), csv=CsvOptions(newlines_in_quotes=True), fragment_nbytes=1000)
    assert len(source.fragments) == 1
    assert read(source)["b"].to_pylist() == [f'x\ny, "{i}"' for i in range(500)]


def test_blocks_of_quoted_text_end_with_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "".join(f'{i},"x\n\ny {i}"\n' for i in range(300)))
    whole = read(open_source(str(path), csv=CsvOptions(newlines_in_quotes=True)))
    monkeypatch.setattr(text, "BLOCK_NBYTES", 64)
    assert read(open_source(str(path), csv=CsvOptions(newlines_in_quotes=True))).equals(whole.combine_chunks())
    assert whole.num_rows == 300


def test_counting_where_types_were_known(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "1,x\n" * 3000)
    source = open_source(
        str(path), hints=ColumnHints(types=pa.schema([("a", pa.float64()), ("b", pa.string())])), fragment_nbytes=2000
    )
    assert source.rows is None
    counted = count_rows(source)
    assert counted.rows == 3000
    assert counted.fingerprint == open_source(str(path)).fingerprint
    assert [f.rows for f in counted.fragments] == [
        f.rows for f in open_source(str(path), fragment_nbytes=2000).fragments
    ]


def test_rank_equals_scikit_learn(data: Path) -> None:
    source = open_source(str(data / "rank/rank.train"), format="libsvm")
    table = read(source)
    matrix, labels = load_svmlight_file(str(data / "rank/rank.train"), dtype=np.float32)
    want = np.full(matrix.shape, np.nan, dtype=np.float32)
    entries = matrix.tocoo()
    want[entries.row, entries.col] = entries.data
    have = np.column_stack([table[f"f{index + 1}"].to_numpy() for index in range(matrix.shape[1])])
    assert np.array_equal(have, want, equal_nan=True)
    assert np.array_equal(table["label"].to_numpy(), labels)
    sizes = np.loadtxt(data / "rank/rank.train.query", dtype=int)
    assert np.array_equal(table["query"].to_numpy(), np.repeat(np.arange(sizes.size), sizes))


def test_fragments_of_ranking_files_hold_whole_queries(data: Path) -> None:
    source = open_source(str(data / "rank"), format="libsvm")
    assert len(source.fragments) > 2
    queries = [set(read_fragment(source, item, ["query"])["query"].to_pylist()) for item in source.fragments]
    assert sum(map(len, queries)) == len(set.union(*queries)) == 251


def test_libsvm_with_qid_comments_and_index_zero(tmp_path: Path) -> None:
    path = tmp_path / "t.svm"
    path.write_text("1 qid:7 0:0.5 3:1e2 # seen\n\n0 qid:7 2:-1\n2  qid:9\n")
    assert read(open_source(str(path))).to_pandas().to_csv(index=False) == (
        "query,label,f0,f1,f2,f3\n7,1.0,0.5,,,100.0\n7,0.0,,,-1.0,\n9,2.0,,,,\n"
    )
    wide = open_source(str(path), hints=ColumnHints(types=pa.schema([("f5", pa.float32()), ("x", pa.float32())])))
    assert wide.schema.names[-2:] == ["f3", "f5"]
    assert np.isnan(read(wide)["f5"].to_numpy()).all()


def test_libsvm_sizes_that_do_not_add_up(tmp_path: Path) -> None:
    (tmp_path / "t.svm").write_text("1 1:1\n0 1:2\n")
    (tmp_path / "t.svm.query").write_text("3\n")
    with pytest.raises(SourceError, match=r"t\.svm\.query: its groups add up to 3 rows, the file has 2"):
        open_source(str(tmp_path / "t.svm"))


def test_libsvm_files_of_which_one_counts_from_0_and_another_from_1_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.svm").write_text("1 0:1 1:1 2:1\n")
    (tmp_path / "b.svm").write_text("1 1:1 2:1 3:1\n")
    message = r"b\.svm: its indices begin at 1, those of .*a\.svm at 0, and go one further: it counts from 1; .* 0:nan"
    with pytest.raises(SourceError, match=message):
        open_source(str(tmp_path))
    (tmp_path / "b.svm").write_text("1 1:1 2:1\n")
    (found,) = findings(open_source(str(tmp_path)).notes)
    assert found.message.startswith(f"{tmp_path}/b.svm: its indices begin at 1, those of {tmp_path}/a.svm at 0")
    (tmp_path / "b.svm").write_text("1 1:1 2:1 3:1\n0 0:nan\n")
    assert open_source(str(tmp_path)).notes == ()


@pytest.mark.parametrize(("known", "text", "shifted"), [(0, "1:1 3:1", True), (1, "0:1 1:1", True), (0, "1:1", False)])
def test_libsvm_files_that_count_otherwise_than_a_model_are_a_finding(
    tmp_path: Path, known: int, text: str, shifted: bool
) -> None:
    (tmp_path / "a.svm").write_text(f"1 {text}\n")
    types = pa.schema([(f"f{index}", pa.float32()) for index in range(known, 3)])
    assert len(findings(open_source(str(tmp_path), hints=ColumnHints(types=types)).notes)) == shifted
