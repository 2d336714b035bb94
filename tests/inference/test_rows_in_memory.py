"""What a model makes of rows in memory: of every kind the same, in this process and on the cluster."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dask.array import from_array
from dask.dataframe import from_pandas

from pipeline.data import partitions
from pipeline.errors import DataError, UserError
from pipeline.inference import predict
from pipeline.inference.evaluate import evaluate
from pipeline.model.artifact import Model
from pipeline.model.manifest import NamedType
from pipeline.model.schema import to_table
from tests.models import flights

MakeModel = Callable[..., Model]
ROW = {"distance": 900.0, "minutes": 100, "carrier": "AA"}
FURTHER = {"tags": ["a", "b"], "nested": {"a": 1}, "object": object()}


def outcome(made: Callable[[], np.ndarray]) -> Any:
    """The predictions, or the error's text."""
    try:
        return made().tolist()
    except UserError as error:
        return str(error)


ROWS: dict[str, list[dict[str, Any]]] = {
    "one": [ROW],
    "several": [ROW, {**ROW, "carrier": "UA"}, {**ROW, "minutes": 80.5}],
    "missing values": [{**ROW, "distance": None}, {**ROW, "carrier": None, "minutes": float("nan")}],
    "a key that some lack": [ROW, {"minutes": 100, "carrier": "AA"}],
    "a key that all lack": [{"distance": 900.0, "carrier": "AA"}],
    "a misspelt key": [{"distance": 900.0, "Minutes": 100, "carrier": "AA"}],
    "further keys": [{**ROW, **FURTHER}],
    "all missing": [dict.fromkeys(ROW)],
    "text for a number": [{**ROW, "minutes": "100"}],
    "numbers for a text": [{**ROW, "carrier": 7}],
    "several types": [ROW, {**ROW, "minutes": "100"}],
    "no row": [],
}


@pytest.mark.parametrize("kind", ROWS)
def test_rows_of_json_are_predicted_as_a_frame_of_them(make_model: MakeModel, kind: str) -> None:
    model, rows = make_model("binary"), ROWS[kind]
    frame = pd.DataFrame(rows, dtype=object)
    expected = outcome(lambda: model.predict(frame))
    found = outcome(lambda: model.predict(rows))
    if kind == "several types":  # both refused, each in its own words
        assert "column 'minutes'" in found
        assert "minutes" in expected
    else:
        assert found == expected
    assert isinstance(found, str) == (
        kind in ("a key that all lack", "a misspelt key", "text for a number", "numbers for a text", "several types", "no row")
    )  # fmt: skip
    if len(rows) == 1:
        assert outcome(lambda: model.predict(rows[0])) == found
        assert isinstance(found, str) or model.predict_class(rows[0]).shape == (1,)


def test_what_is_no_rows_is_refused_with_what_to_do(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model("binary")
    frame = flights(5).to_pandas()
    for data, message in (
        (str(tmp_path), r"give what is in the file, or its name to pipeline.predict"),
        (tmp_path, "the name to pipeline.predict"),
        (from_pandas(frame, npartitions=1), "pipeline.predict, or what compute"),
        (frame["distance"], r"frame.iloc\[\[0\]\]"),
        (np.zeros(3), r"reshape\(1, -1\)"),
        (None, "from a NoneType"),
    ):
        with pytest.raises(DataError, match=message):
            model.predict(data)


def test_arrays_have_names_or_the_model_s_order(make_model: MakeModel, client: Any, tmp_path: Path) -> None:
    """Of a model of numbers alone; on the cluster an array of the wanted columns needs no names either."""
    model = make_model("binary")
    table = flights(40, seed=2).set_column(4, "carrier", pa.array([None] * 40, pa.string()))
    frame = table.select(["distance", "minutes"]).to_pandas().assign(carrier=np.nan, flight=table["flight"].to_pandas())
    expected = model.predict(table)
    order = ["distance", "minutes", "carrier"]
    array = frame[order].to_numpy()
    assert [column.name for column in model.manifest.needed] == order
    assert np.array_equal(model.predict(array), expected)  # NaN in every row
    with pytest.raises(DataError, match="column 'carrier' is double"):
        model.predict(np.where(np.isnan(array), 1.0, array))
    objects = frame[order].astype(object).where(frame[order].notna(), None).to_numpy()
    assert np.array_equal(model.predict(objects), expected)
    backwards = objects[:, ::-1]
    assert np.array_equal(model.predict(backwards, names=order[::-1]), expected)
    ids = np.column_stack([objects, frame["flight"].to_numpy().astype(object)])
    predict.predict(client, model, ids, names=[*order, "flight"], out=tmp_path / "out")
    assert np.array_equal(pq.read_table(tmp_path / "out")["probability"].to_numpy(), expected)


def test_arrays_are_evaluated_and_predicted_on_the_cluster(make_model: MakeModel, client: Any, tmp_path: Path) -> None:
    model = make_model("binary")
    names = [column.name for column in model.manifest.named(model.manifest.roles.predict)]
    table = flights(60, seed=2).select(names)
    objects = table.to_pandas().astype(object).to_numpy()
    with pytest.raises(UserError, match="object"):
        predict.predict(client, model, from_array(objects, chunks=(20, 2)), out=tmp_path / "dask")
    predict.predict(client, model, objects, out=tmp_path / "numpy")
    assert np.array_equal(pq.read_table(tmp_path / "numpy")["probability"].to_numpy(), model.predict(table))
    with pytest.raises(UserError, match="give names="):
        evaluate(client, model, objects)


def test_a_column_without_any_value_fits_on_the_cluster_too(make_model: MakeModel, client: Any, tmp_path: Path) -> None:
    model = make_model("binary")
    frame = flights(20, seed=3).to_pandas().assign(carrier=None)
    predict.predict(client, model, frame, out=tmp_path / "out")
    assert np.array_equal(pq.read_table(tmp_path / "out")["probability"].to_numpy(), model.predict(frame))


def test_a_named_index_is_a_column_at_prediction(make_model: MakeModel, client: Any, tmp_path: Path) -> None:
    model = make_model("binary")
    frame = flights(30, seed=3).to_pandas()
    expected = model.predict(frame)
    indexed = frame.set_index(["carrier", "flight"])
    assert np.array_equal(model.predict(indexed), expected)
    predict.predict(client, model, indexed, out=tmp_path / "out")
    made = pq.read_table(tmp_path / "out")
    assert made["flight"].to_pylist() == frame["flight"].to_list()
    assert np.array_equal(made["probability"].to_numpy(), expected)
    by_flight = from_pandas(frame.set_index("flight"), npartitions=2)
    predict.predict(client, model, by_flight, out=tmp_path / "dask")
    assert pq.read_table(tmp_path / "dask")["flight"].to_pylist() == frame["flight"].to_list()


def test_further_columns_of_objects_are_not_converted(make_model: MakeModel, client: Any, tmp_path: Path) -> None:
    model = make_model("binary")
    frame = flights(20, seed=3).to_pandas()
    odd = frame.assign(odd=[object(), {"a": 1}] * 10)
    assert np.array_equal(model.predict(odd), model.predict(frame))
    assert predict.predict(client, model, odd, out=tmp_path / "out").rows == 20
    assert evaluate(None, model, odd) == evaluate(None, model, frame)


def test_numbers_may_be_of_other_types_than_in_training(make_model: MakeModel, client: Any, tmp_path: Path) -> None:
    """What pandas makes of integers with one missing value, and integers for floats."""
    model = make_model("binary")
    table = flights(20, seed=3)
    whole = table.set_column(3, "minutes", table["minutes"].cast(pa.int64(), safe=False))
    expected = model.predict(whole)
    for kind in ("float32", "Int64", "int32", object):
        frame = whole.to_pandas().astype({"minutes": kind})
        assert np.array_equal(model.predict(frame), expected)
        predict.predict(client, model, frame, out=tmp_path / "out", overwrite=True)
        assert np.array_equal(pq.read_table(tmp_path / "out")["probability"].to_numpy(), expected)


def test_times_in_memory_need_the_zone_of_training() -> None:
    day = datetime.datetime(2020, 1, 1)
    aware = day.replace(tzinfo=datetime.UTC)
    for trained, right, wrong in (("timestamp[us, tz=UTC]", aware, day), ("timestamp[us]", day, aware)):
        columns = [NamedType("t", trained)]
        for data in ({"t": wrong}, [{"t": wrong}], pd.DataFrame({"t": [wrong]})):
            with pytest.raises(DataError, match="times with and without a zone cannot be compared"):
                to_table(data, columns)
        assert to_table({"t": right}, columns).num_rows == 1


def test_partitions_are_counted_on_the_client_that_was_given(
    make_model: MakeModel, make_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not in this process, where the client is not Dask's default one."""
    from distributed import Client

    count, used = partitions.count, []

    def watched(held: Any) -> list[int]:
        used.append(Client.current())
        return count(held)

    monkeypatch.setattr(partitions, "count", watched)
    frame = from_pandas(flights(50).to_pandas(), npartitions=2)
    with Client(make_cluster(2, 1).scheduler.address, set_as_default=False) as client:
        predict.predict(client, make_model("binary"), frame, out=tmp_path / "out")
    assert used == [client]


def test_a_dask_frame_is_evaluated_without_a_cluster(make_model: MakeModel) -> None:
    model, table = make_model("binary"), flights(300, seed=9)
    assert evaluate(None, model, from_pandas(table.to_pandas(), npartitions=3)) == evaluate(None, model, table)


NOTHING = {
    "NaN": pa.array([float("nan")] * 40),
    "null double": pa.nulls(40, pa.float64()),
    "null time": pa.nulls(40, pa.timestamp("us", "UTC")),
    "both": pa.array([None, float("nan")] * 20),
}


@pytest.mark.parametrize("kind", NOTHING)
def test_a_column_without_any_value_fits_whatever_its_type(
    make_model: MakeModel, client: Any, tmp_path: Path, kind: str
) -> None:
    model, table = make_model("binary"), flights(40, seed=3)
    place = table.schema.get_field_index("carrier")
    given = table.set_column(place, "carrier", NOTHING[kind])
    expected = model.predict(table.set_column(place, "carrier", pa.nulls(40, pa.string())))
    assert np.array_equal(model.predict(given), expected)
    pq.write_table(given, tmp_path / "given.parquet", row_group_size=10)
    for name, data in {"file": str(tmp_path / "given.parquet"), "memory": given}.items():
        predict.predict(client, model, data, out=tmp_path / name)
        assert np.array_equal(pq.read_table(tmp_path / name)["probability"].to_numpy(), expected)
        assert evaluate(client, model, data) == evaluate(None, model, given)
    one = pd.DataFrame([{"distance": 100.0, "minutes": 30.0, "carrier": float("nan")}])
    assert np.array_equal(model.predict(one), model.predict(one.assign(carrier=None)))


def test_one_value_of_another_type_is_refused(make_model: MakeModel, client: Any, tmp_path: Path) -> None:
    model, table = make_model("binary"), flights(40, seed=3)
    values = pa.array([float("nan")] * 39 + [1.0])
    given = table.set_column(table.schema.get_field_index("carrier"), "carrier", values)
    pq.write_table(given, tmp_path / "given.parquet", row_group_size=10)
    refused = "column 'carrier' is double, the model was trained on string"
    with pytest.raises(UserError, match=refused):
        model.predict(given)
    for data in (given, str(tmp_path / "given.parquet")):
        with pytest.raises(UserError, match=refused):
            predict.predict(client, model, data, out=tmp_path / "out")
        with pytest.raises(UserError, match=refused):
            evaluate(None, model, data)
