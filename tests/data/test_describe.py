"""What `describe` says about real data."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipeline.config.job import Job
from pipeline.data.describe import describe
from pipeline.data.source import open_source
from pipeline.errors import DataError, SourceError


def test_flights(data: Path) -> None:
    found = describe(open_source(str(data / "nycflights13")), "month")
    columns = {column.name: column for column in found.columns}
    assert found.rows == 336_776
    assert (columns["arr_delay"].missing, columns["arr_delay"].minimum, columns["arr_delay"].maximum) == (
        9430,
        -86,
        1272,
    )
    assert columns["tailnum"].distinct == 4043
    assert sum(rows for _, rows in found.balance) == found.rows
    assert len(found.balance) == 12
    assert "month (target)" in str(found)
    with pytest.raises(DataError, match="did you mean arr_delay"):
        describe(open_source(str(data / "nycflights13")), "arr_dealy")


def test_drift_and_json(data: Path) -> None:
    found = describe(open_source(str(data / "green_taxi")))
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert {item["column"] for item in record["drift"]} >= {"VendorID", "ehail_fee"}
    assert "differs between files" in str(found)
    times = next(column for column in record["columns"] if column["name"] == "lpep_pickup_datetime")
    assert times["distinct"] is None
    assert times["minimum"].startswith("2008-12-31T")


def test_nan_counts_as_missing_and_infinity_is_shown() -> None:
    table = pa.table(
        {"x": [float("nan"), None, float("inf"), -1.5], "d": pc.cast(pa.array([1, 2, 2, None]), pa.decimal128(22, 2))}
    )
    found = describe(open_source(table), "d")
    record = found.to_dict()
    json.dumps(record, allow_nan=False)
    assert record["columns"][0] == {
        "name": "x", "type": "double", "missing": 2, "distinct": 2, "minimum": -1.5, "maximum": "inf"
    }  # fmt: skip
    assert record["balance"] == [{"value": 2.0, "rows": 2}, {"value": 1.0, "rows": 1}]


def test_a_job_says_how_the_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "people.data").write_text("39;yes\n50;no\n?;no\n")
    csv = {"header": False, "columns": ["age", "rich"], "separator": ";"}
    data = {"source": str(tmp_path / "people.data"), "format": "csv", "target": "rich", "csv": csv}
    found = describe(Job.parse({"data": data}).data)
    assert [(column.name, column.missing) for column in found.columns] == [("age", 1), ("rich", 0)]
    assert found.balance == (("no", 2), ("yes", 1))
    derived = {**data, "target": "old", "derive": {"old": "age > 40"}}
    assert describe(Job.parse({"data": derived}).data).target is None


def test_a_model_folder_is_named_with_what_opens_it(tmp_path: Path) -> None:
    for name in ("manifest.json", "model.ubj", "metrics.json"):
        (tmp_path / name).write_text("{}")
    for source in (str(tmp_path), [str(tmp_path)]):
        with pytest.raises(SourceError, match=r"a model folder, no data: open it with pipeline\.Model\.load"):
            describe(source)


def test_a_folder_of_model_folders_is_none(tmp_path: Path) -> None:
    (tmp_path / "late").mkdir()
    for name in ("manifest.json", "model.ubj"):
        (tmp_path / "late" / name).write_text("{}")
    with pytest.raises(SourceError, match=r"holds a model folder, .*/late, and no data: open that with"):
        describe(str(tmp_path))
