"""Synthetic data: the same rows whatever makes them, whole or not at all, with a signal to learn."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import xgboost as xgb
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from pipeline.data.synthetic import generator
from pipeline.errors import JobError, OutputError, PipelineError
from pipeline.events.types import Event, FragmentDone


@given(rows=st.integers(1, 10_000), files=st.none() | st.integers(1, 50))
def test_plan_covers_every_row_once(rows, files):
    chunks = generator.plan_chunks("flights", rows, seed=0, files=files)
    assert sum(chunk.rows for chunk in chunks) == rows
    assert all(chunk.rows > 0 for chunk in chunks)
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    starts = np.cumsum([0] + [chunk.rows for chunk in chunks[:-1]])
    assert [chunk.first_row for chunk in chunks] == starts.tolist()


@pytest.mark.parametrize("kind", ["flights", "numeric"])
def test_a_file_depends_on_seed_and_chunk_alone(kind, tmp_path):
    chunks = generator.plan_chunks(kind, 3_000, seed=7, files=3)
    alone = generator.make_table(chunks[1])
    written = generator.generate(tmp_path / "out", rows=3_000, seed=7, files=3, kind=kind)
    assert pq.read_table(written.files[1]).equals(alone)
    assert not alone.equals(generator.make_table(chunks[0]))
    other_seed = generator.plan_chunks(kind, 3_000, seed=8, files=3)[1]
    assert not alone.equals(generator.make_table(other_seed))


def test_the_same_bytes_twice(tmp_path):
    first = generator.generate(tmp_path / "a", rows=2_000, files=2)
    second = generator.generate(tmp_path / "b", rows=2_000, files=2)
    assert [path.read_bytes() for path in first.files] == [path.read_bytes() for path in second.files]
    assert first.rows == 2_000
    assert first.nbytes == sum(path.stat().st_size for path in first.files)


def test_events_count_the_files(tmp_path):
    events: list[Event] = []
    generator.generate(tmp_path / "out", rows=1_000, files=4, listen=events.append)
    done = [event for event in events if isinstance(event, FragmentDone)]
    assert [event.done for event in done] == [1, 2, 3, 4]
    assert sum(event.rows for event in done) == 1_000


def test_flights_look_like_flights():
    table = generator.make_table(generator.plan_chunks("flights", 50_000, seed=0)[0])
    late = pc.mean(pc.greater(table["arr_delay"], 15).cast(pa.float64())).as_py()
    assert 0.1 < late < 0.3
    assert table["arr_delay"].null_count > 0
    assert table["temperature"].null_count > 0
    assert pc.count_distinct(table["dest"]).as_py() > 254  # more than native categories take
    assert pc.count_distinct(table["tailnum"]).as_py() > 5_000
    assert pc.min(table["distance"]).as_py() > 0
    assert pc.max(table["scheduled"]).as_py() > pc.min(table["scheduled"]).as_py()


def test_files_of_flights_follow_each_other():
    first, second = (generator.make_table(chunk) for chunk in generator.plan_chunks("flights", 20_000, seed=0, files=2))
    assert pc.max(first["scheduled"]).as_py().date() <= pc.min(second["scheduled"]).as_py().date()


def test_one_day_has_one_weather_in_all_files():
    """The first file ends and the second begins within the same day."""
    first, second = (generator.make_table(chunk) for chunk in generator.plan_chunks("flights", 2_000, seed=0, files=2))
    hub = first["origin"][0].as_py()
    temperatures = {
        value
        for table in (first, second)
        for value in table.filter(pc.equal(table["origin"], hub))["temperature"].drop_null().to_pylist()
    }
    assert len(temperatures) == 1


@pytest.mark.parametrize(("kind", "least"), [("flights", 0.64), ("numeric", 0.68)])
def test_there_is_a_signal_and_noise(kind, least):
    train, test = (generator.make_table(c).to_pandas() for c in generator.plan_chunks(kind, 40_000, seed=0, files=2))
    if kind == "flights":
        train, test = (
            frame.assign(label=frame.arr_delay > 15, hour=frame.scheduled.dt.hour) for frame in (train, test)
        )
        features = ["hour", "distance", "temperature", "wind", "visibility", "precipitation"]
    else:
        features = [name for name in train if name != "label"]
    params = {"objective": "binary:logistic", "max_depth": 4, "nthread": 1}  # more threads would wait for busy cores
    booster = xgb.train(params, xgb.QuantileDMatrix(train[features], train["label"]), 40)
    auc = roc_auc_score(test["label"], booster.predict(xgb.DMatrix(test[features])))
    assert least < auc < 0.95


def test_numeric_columns_are_float32():
    table = generator.make_table(generator.plan_chunks("numeric", 1_000, seed=0, features=10)[0])
    assert table.column_names == ["label"] + [f"f{number:02d}" for number in range(10)]
    assert all(table[name].type == pa.float32() for name in table.column_names[1:])
    assert all(table[name].null_count == 0 for name in table.column_names)


def test_an_existing_folder_stays(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("kept")
    with pytest.raises(OutputError, match="exists already"):
        generator.generate(tmp_path / "out", rows=10)
    with pytest.raises(OutputError, match="something else"):
        generator.generate(tmp_path / "out", rows=10, overwrite=True)
    assert (tmp_path / "out" / "precious").read_text() == "kept"
    (tmp_path / "out" / "precious").unlink()
    for files in (2, 1):
        generator.generate(tmp_path / "out", rows=10, files=files, overwrite=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "part-00000.parquet"]


def test_nothing_half_written_stays(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OutputError, match="No space left"):
        generator.generate(tmp_path / "out", rows=10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"rows": 0}, {"files": 0}, {"seed": -1}, {"kind": "birds"}, {"features": 2}])
def test_wrong_requests_name_the_number(wrong, tmp_path):
    with pytest.raises(JobError, match=next(iter(wrong))):
        generator.generate(tmp_path / "out", **{"rows": 10, **wrong})
    assert issubclass(JobError, PipelineError)
    assert list(tmp_path.iterdir()) == []
