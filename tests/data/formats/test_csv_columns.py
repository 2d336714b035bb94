"""What CSV columns are taken for: ids stay texts, odd values are found, columns without a name are left out."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.config.job import CsvOptions, Job
from pipeline.data.describe import describe
from pipeline.data.opened_sources import open_inputs
from pipeline.data.reading import read_fragment
from pipeline.data.schema.hints import ColumnHints
from pipeline.data.source import Source, open_source
from pipeline.errors import SourceError
from pipeline.events.findings import Finding, findings, text_of

SECRET = "s3cret"


def read(source: Source) -> pa.Table:
    return pa.concat_tables([read_fragment(source, fragment) for fragment in source.fragments])


def write(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


IDS = {
    "leading zeros": ["00123", "7", "42"],
    "signed": ["-05", "1", "2"],
    "twenty digits": ["12345678901234567890", "12345678901234567891", "1"],
    "from 2^63": [str(2**63), "1", "2"],
    "hexadecimal": ["0x1F", "1", "2"],
    "quoted, with blanks": ['" 007 "', "1", "2"],
}


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("nbytes", [1, 1 << 20])
def test_ids_of_digits_stay_texts(tmp_path: Path, kind: str, nbytes: int) -> None:
    write(tmp_path, "1.csv", "id,x", *(f"{value},1" for value in IDS[kind]))
    write(tmp_path, "2.csv", "id,x", "5,2")
    table = read(open_source(str(tmp_path), fragment_nbytes=nbytes))
    assert table["id"].to_pylist() == [*(value.strip('" ') for value in IDS[kind]), "5"]
    assert table["x"].type == pa.int64()


@pytest.mark.parametrize("values", [["0", "10", "-1"], ["0.5", "00.25"], ["1e300", "12345678901234567890.5"]])
def test_numbers_stay_numbers(tmp_path: Path, values: list[str]) -> None:
    table = read(open_source(str(write(tmp_path, "t.csv", "a,t", *(f"{value},05:30" for value in values)))))
    assert table["a"].to_pylist() == [float(value) for value in values]


def test_whole_numbers_beyond_int64_among_fractions_are_numbers(tmp_path: Path) -> None:
    write(tmp_path, "1.csv", "a", "12345678901234567890")
    write(tmp_path, "2.csv", "a", "1.5")
    assert read(open_source(str(tmp_path)))["a"].to_pylist() == [12345678901234567890.0, 1.5]


def test_leading_zeros_are_numbers_where_the_job_says_so(tmp_path: Path) -> None:
    write(tmp_path, "t.csv", "zip,y,big", *(f"0{number},{number % 2},{2**63}" for number in range(10, 40)))
    table = {"data": {"source": str(tmp_path), "target": "y"}}
    inputs = open_inputs(Job.parse(table))
    assert inputs.training.schema.field("zip").type == pa.string()
    assert any("leading zeros: zip (first at line 2 of" in text_of(note) for note in inputs.notes)
    numbers = Job.parse({**table, "preprocess": {"columns": {"z*": {"kind": "number"}, "big": {"kind": "number"}}}})
    inputs = open_inputs(numbers)
    assert [inputs.training.schema.field(name).type for name in ("zip", "big")] == [pa.int64(), pa.float64()]
    assert inputs.notes == ()
    assert {item.name: item.type for item in describe(numbers).columns}["zip"] == "int64"


def test_a_model_reads_its_columns_as_its_manifest_says(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", "id,zip,code", f"007,01234,{2**64}", "8,2,3")
    types = pa.schema([("id", pa.int64()), ("zip", pa.int64()), ("code", pa.string())])
    table = read(open_source(str(path), hints=ColumnHints(types=types)))
    assert table.to_pydict() == {"id": [7, 8], "zip": [1234, 2], "code": [str(2**64), "3"]}
    copied = open_source(str(path), hints=ColumnHints(types=types, copied=frozenset({"id"})))
    assert read(copied)["id"].to_pylist() == ["007", "8"]
    fixed = ColumnHints(types=pa.schema([("id", pa.string())]), copied=frozenset({"id"}))
    assert read(open_source(str(write(tmp_path, "2.csv", "id", "8")), hints=fixed))["id"].to_pylist() == ["8"]


@pytest.mark.parametrize("values", [["01", "02"], ["99999999999999999999"], ["1", "1e3"]])
def test_names_of_folders_are_texts_where_a_number_would_lose_digits(tmp_path: Path, values: list[str]) -> None:
    for value in values:
        write(tmp_path, f"k={value}/t.csv", "x", "1")
    assert read(open_source(str(tmp_path)))["k"].to_pylist() == sorted(values)
    if len(values[0]) == 2:
        numbers = open_source(str(tmp_path), hints=ColumnHints(types=pa.schema([("k", pa.int64())])))
        assert read(numbers)["k"].to_pylist() == [1, 2]


ODD = {
    "oops": (SECRET, ",", "data.csv.missing"),
    "dash": ("-", ",", "data.csv.missing"),
    "None": ("None", ",", "data.csv.missing"),
    "thousands": ('"1,234"', ",", "data.csv.missing"),
    "currency": ("$12.50", ",", "data.csv.missing"),
    "decimal comma": ("1,5", ";", "data.csv.missing"),
}


def lines_with(value: str, separator: str, numbers: str = "0.5") -> list[str]:
    """A header and 400 rows of which the last has the value."""
    return [f"x{separator}y", *[f"{numbers}{separator}{row % 2}" for row in range(399)], f"{value}{separator}1"]


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("nbytes", [1 << 20, 500])
def test_one_odd_value_among_numbers_is_a_finding(tmp_path: Path, kind: str, nbytes: int) -> None:
    value, separator, setting = ODD[kind]
    path = write(tmp_path, "t.csv", *lines_with(value, separator))
    (found,) = findings(open_source(str(path), csv=CsvOptions(separator=separator), fragment_nbytes=nbytes).notes)
    assert found.message.startswith(
        f"x is text because of 1 of 400 values (not a number), first at line 401 of {path}: "
    )
    assert (found.column, found.count, found.where, found.setting) == ("x", 1, f"line 401 of {path}", setting)
    assert value == "-" or value.strip('"') not in found.message
    table: dict[str, Any] = {"data": {"source": str(path), "target": "y", "csv": {"separator": separator}}}
    assert findings(open_inputs(Job.parse(table)).notes) == [found]
    for kind in ("category", "drop"):
        settled = Job.parse({**table, "preprocess": {"columns": {"x": {"kind": kind}}}})
        assert not findings(open_inputs(settled).notes)
    number = Job.parse({**table, "preprocess": {"columns": {"x": {"kind": "number"}}}})
    with pytest.raises(
        SourceError, match=rf"{path}: line 401: column 'x' holds a value that is no number, as 1 of"
    ) as e:
        open_inputs(number)
    assert SECRET not in str(e.value)
    described = describe(Job.parse(table))
    assert found in described.notes
    assert found.message in str(described)


def test_the_line_of_an_odd_value_is_that_of_the_file(tmp_path: Path) -> None:
    lines = ["# made by hand", "", 'x,"y"', *["1,a"] * 30, "", '"2","a', 'b"', *["3,c"] * 20, f"{SECRET},d"]
    options = CsvOptions(comment="#", newlines_in_quotes=True)
    path = write(tmp_path, "t.csv", *lines)
    (found,) = findings(open_source(str(path), csv=options).notes)
    assert found.where == f"line {len(lines)} of {path}"
    write(tmp_path, "a.csv", "x,y", *["1,e"] * 99)
    (found,) = findings(open_source(str(tmp_path), csv=options).notes)
    assert (found.count, found.where) == (1, f"line {len(lines)} of {path}")


def test_times_with_one_odd_value_are_a_finding_and_texts_are_none(tmp_path: Path) -> None:
    path = write(
        tmp_path, "t.csv", "t,word,code", *(f"2024-01-{day:02},w{day},A{day}" for day in range(1, 31)), "later,7,8"
    )
    found = findings(open_source(str(path)).notes)
    assert [item.column for item in found] == ["t"]
    assert "1 of 31 values (not a time), first at line 32 of" in found[0].message


def test_decimal_commas_are_numbers_where_the_job_says_so(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", "x;y", *(f"{row},{row % 7};1" for row in range(50)), "3;1")
    (found,) = findings(open_source(str(path), csv=CsvOptions(separator=";")).notes)
    assert found.setting == "data.csv.decimal"
    assert "because of 50 of 51 values (numbers with a decimal comma), first at line 2 of" in found.message
    source = open_source(str(path), csv=CsvOptions(separator=";", decimal=","))
    assert source.notes == ()
    assert read(source)["x"].to_pylist()[:2] == [0.0, 1.1]
    path = write(tmp_path, "2.csv", "x;y", *["0.5;1"] * 20)
    (found,) = findings(open_source(str(path), csv=CsvOptions(separator=";", decimal=",")).notes)
    assert "numbers with a decimal point), first at line 2 of" in found.message


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("nbytes", [100, 1 << 20])
def test_a_header_among_the_rows_is_refused(tmp_path: Path, end: str, nbytes: int) -> None:
    lines = ["x,late", *["1,true"] * 40, "x,late", *["2,false"] * 40]
    path = tmp_path / "t.csv"
    path.write_bytes(end.join(lines).encode())
    with pytest.raises(SourceError, match=rf"{path}: line 42: the header again"):
        open_source(str(path), fragment_nbytes=nbytes)
    types = pa.schema([("x", pa.float64()), ("late", pa.bool_())])
    known = open_source(str(path), hints=ColumnHints(types=types), fragment_nbytes=nbytes)
    with pytest.raises(SourceError, match=r"line 42: the header again"):
        read(known)


def test_a_model_trained_on_whole_numbers_reads_what_pandas_writes_of_them_with_one_missing(tmp_path: Path) -> None:
    types = pa.schema([("a", pa.int64()), ("b", pa.int64()), ("t", pa.timestamp("s")), ("d", pa.date32())])
    path = write(
        tmp_path,
        "t.csv",
        "a,b,t,d",
        "1.0,1,2024-01-01 10:00:00.5,2024-01-01 10:00:00",
        ",2,2024-01-01,2024-01-02",
        "3.5,3,,",
    )
    table = read(open_source(str(path), hints=ColumnHints(types=types)))
    assert (table["a"].to_pylist(), table["b"].to_pylist()) == ([1.0, None, 3.5], [1, 2, 3])
    assert table.schema.types == [pa.float64(), pa.int64(), pa.timestamp("ns"), pa.timestamp("s")]


def test_validation_files_may_hold_fractions_where_training_files_hold_whole_numbers(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", "x,y", *(f"{row},{row % 2}" for row in range(20)))
    write(tmp_path, "held.csv", "x,y", "1.0,1.0", ",0.0", "3.5,")
    data = {"source": str(tmp_path / "train.csv"), "target": "y", "validation": {"source": str(tmp_path / "held.csv")}}
    validation = open_inputs(Job.parse({"data": data})).validation
    assert validation is not None
    assert read(validation)["x"].to_pylist() == [1.0, None, 3.5]


@pytest.mark.parametrize("head", [",x,y", '"",x,y', " ,x,y"])
def test_a_column_without_a_name_is_left_out(tmp_path: Path, head: str) -> None:
    path = write(tmp_path, "t.csv", head, "0,1,2", "1,3,4")
    source = open_source(str(path))
    assert read(source).to_pydict() == {"x": [1, 3], "y": [2, 4]}
    (found,) = source.notes
    assert isinstance(found, Finding)
    assert found.message.startswith(f"{path}: column 1 has no name in the header and is left out; ")
    used = Job.parse({"data": {"source": str(path), "target": "y", "id": ["column 1"]}})
    inputs = open_inputs(used)
    assert (inputs.roles.id, inputs.notes) == (("column 1",), ())
    assert read(inputs.training)["column 1"].to_pylist() == [0, 1]
    named = open_source(str(path), csv=CsvOptions(columns=["row", "x", "y"]))
    assert read(named).column_names == ["row", "x", "y"]
    model = open_source(str(path), hints=ColumnHints(types=pa.schema([("x", pa.float64()), ("y", pa.float64())])))
    assert model.schema.names == ["x", "y"]


@pytest.mark.parametrize("head", ["x,y,", "x,y"])
def test_lines_that_end_with_a_separator(tmp_path: Path, head: str) -> None:
    source = open_source(str(write(tmp_path, "t.csv", head, "1,2,", "3,4,")), fragment_nbytes=4)
    assert read(source).to_pydict() == {"x": [1, 3], "y": [2, 4]}
    assert [text_of(note).partition(": ")[2][:20] for note in source.notes] == ["column 3 has no name"]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "gb18030", "utf-8"])
@pytest.mark.parametrize("nbytes", [20, 1 << 20])
def test_encodings(tmp_path: Path, encoding: str, nbytes: int) -> None:
    text = "größe;ü\n" + "".join(f"é{row};{row}\n" for row in range(100))
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    source = open_source(
        str(tmp_path / "t.csv"), csv=CsvOptions(encoding=encoding, separator=";"), fragment_nbytes=nbytes
    )
    assert read(source).to_pydict() == {"größe": [f"é{row}" for row in range(100)], "ü": list(range(100))}


def test_bytes_that_are_not_of_the_encoding(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"a,b\n1,x\n2,\xe9\n")
    with pytest.raises(SourceError, match=r"t\.csv: line 3: not UTF-8 text; convert .* or set data\.csv\.encoding"):
        open_source(str(tmp_path))
    with pytest.raises(SourceError, match=r"t\.csv: line 3: not ascii text; set data\.csv\.encoding"):
        open_source(str(tmp_path), csv=CsvOptions(encoding="ascii"))
    assert read(open_source(str(tmp_path), csv=CsvOptions(encoding="latin-1")))["b"].to_pylist() == ["x", "é"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-7", "cp037", "iso2022_jp", "nope", "base64"])
def test_encodings_that_cannot_be_read_in_parts_are_refused(encoding: str) -> None:
    with pytest.raises(ValueError, match=r"convert them to UTF-8|unknown encoding"):
        CsvOptions(encoding=encoding)


def test_files_without_a_header_have_names(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", ",".join(map(str, range(42))))
    source = open_source(str(path), csv=CsvOptions(header=False))
    assert source.schema.names == [f"c{place}" for place in range(1, 43)]
    assert read(source).num_rows == 1


@pytest.mark.parametrize("content", [b"a,b\r1,2\r", b"a,b\r1,2"])
def test_line_ends_of_cr_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(SourceError, match=r"t\.csv: its line ends are CR alone"):
        open_source(str(tmp_path))


def test_a_file_name_that_is_no_utf_8(tmp_path: Path) -> None:
    (tmp_path / "caf\udce9.csv").write_text("a\n1\n")
    with pytest.raises(SourceError, match=r"caf\\xe9\.csv: the name is not UTF-8") as caught:
        open_source(str(tmp_path))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["odd", "word"])
def test_large_blocks_of_texts_are_not_counted_through(tmp_path: Path, name: str) -> None:
    rows = 5_000
    values = {"odd": ["x", *map(str, range(rows - 1))], "word": [f"w{row}" for row in range(rows)]}
    found = findings(open_source(str(write(tmp_path, "t.csv", name, *values[name]))).notes)
    assert [(item.count, item.where) for item in found] == (
        [(1, f"line 2 of {tmp_path}/t.csv")] if name == "odd" else []
    )


def test_true_and_1_are_text_wherever_blocks_are_cut(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", "a,b", "true,1", "1,true")
    for nbytes in (1, 1 << 20):
        assert open_source(str(path), fragment_nbytes=nbytes).schema.types == [pa.string()] * 2
    types = pa.schema([("a", pa.bool_()), ("b", pa.bool_())])
    assert read(open_source(str(path), hints=ColumnHints(types=types))).to_pydict() == {
        "a": [True, True],
        "b": [True, True],
    }
