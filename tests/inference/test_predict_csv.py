"""From CSV files to a model, to predictions and metrics of other CSV files: columns mean the same in all of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline.config.job import Job
from pipeline.errors import DataError, JobError
from pipeline.events.types import Note

ROWS = 400


def write(path: Path, *, ids: str = "{:05}", x: str = "{}", zips: str = "{:05}", odd: str = "") -> Path:
    """Rows whose target follows x and the zip code; with an unnamed column in front."""
    rng = np.random.default_rng(0)
    lines = [",id,zip,x,n,y"]
    for row in range(ROWS):
        number, area = int(rng.integers(0, 50)), int(rng.integers(1, 9))
        shown = odd if odd and row == ROWS - 1 else row % 7
        lines.append(
            f"{row},{ids.format(row)},{zips.format(area)},{x.format(number)},{shown},{int(number + 5 * area > 45)}"
        )
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def model(client: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("csv")
    job = {
        "data": {"source": str(write(folder / "t.csv", odd="oops")), "target": "y", "id": ["id"]},
        "preprocess": {"columns": {"x": {"kind": "number"}}},
        "training": {"rounds": 5},
        "output": {"model": str(folder / "model"), "report": False},
    }
    heard: list[Any] = []
    trained = pipeline.train(client, Job.parse(job), listen=heard.append)
    notes = [event.message for event in heard if isinstance(event, Note)]
    assert any(note.startswith("n is text because of 1 of 400 values") and "line 401 of" in note for note in notes)
    assert any("column 1 has no name in the header and is left out" in note for note in notes)
    kinds = [note["kind"] for note in trained.summary["notes"] if isinstance(note, dict)]
    assert sorted(kinds) == ["mixed_column", "unnamed_column"]
    return pipeline.Model.load(trained.model.path)


def predicted(client: Any, model: Any, path: Path) -> tuple[Any, list[str]]:
    heard: list[Any] = []
    pipeline.predict(client, model, str(path), out=path.parent / "out", overwrite=True, listen=heard.append)
    return pq.read_table(path.parent / "out"), [event.message for event in heard if isinstance(event, Note)]


def test_ids_come_back_as_they_were_written_and_zip_codes_are_texts(client: Any, model: Any, tmp_path: Path) -> None:
    types = {column.name: column.type for column in model.manifest.columns}
    assert (types["id"], types["zip"], types["x"], types["n"]) == ("string", "string", "int64", "string")
    table, notes = predicted(client, model, write(tmp_path / "t.csv"))
    assert table["id"].to_pylist() == [f"{row:05}" for row in range(ROWS)]
    assert ["column 1 has no name" in note for note in notes] == [True]
    plain, _ = predicted(client, model, write(tmp_path / "t.csv", ids="{}"))
    assert plain["id"].to_pylist() == [str(row) for row in range(ROWS)]
    assert plain["probability"].equals(table["probability"])


def test_a_model_of_whole_numbers_predicts_and_evaluates_what_pandas_writes(
    client: Any, model: Any, tmp_path: Path
) -> None:
    whole, floats = write(tmp_path / "a.csv"), write(tmp_path / "b.csv", x="{}.0")
    first, _ = predicted(client, model, whole)
    second, _ = predicted(client, model, floats)
    assert first["probability"].equals(second["probability"])
    assert pipeline.evaluate(client, model, str(whole)) == pipeline.evaluate(client, model, str(floats))
    floats.write_text(floats.read_text().replace(".0,", ".5,").replace(".5,", ",", 1))
    assert len(predicted(client, model, floats)[0]) == ROWS


def test_ids_that_lose_nothing_as_texts_are_texts_also_where_they_were_numbers(
    client: Any, model: Any, tmp_path: Path
) -> None:
    path = write(tmp_path / "t.csv", ids="{}")
    job = {
        "data": {"source": str(path), "target": "y", "id": ["id"]},
        "training": {"rounds": 1},
        "output": {"model": str(tmp_path / "model"), "report": False},
    }
    numbers = pipeline.train(client, Job.parse(job)).model
    assert {column.name: column.type for column in numbers.manifest.columns}["id"] == "int64"
    assert predicted(client, numbers, path)[0]["id"].to_pylist() == list(range(ROWS))
    assert predicted(client, numbers, write(path))[0]["id"].to_pylist() == [f"{row:05}" for row in range(ROWS)]
    long = write(path, ids="{:020}")
    assert predicted(client, numbers, long)[0]["id"].to_pylist() == [f"{row:020}" for row in range(ROWS)]


def test_files_that_are_written_otherwise_than_the_training_s(client: Any, model: Any, tmp_path: Path) -> None:
    """`csv` says how; without it the message names the field to set."""
    plain, other = write(tmp_path / "t.csv"), tmp_path / "other.csv"
    other.write_text(plain.read_text().replace(",", ";"))
    expected, _ = predicted(client, model, plain)
    pipeline.predict(client, model, str(other), out=tmp_path / "other", csv={"separator": ";"})
    assert pq.read_table(tmp_path / "other").equals(expected)
    measured = pipeline.evaluate(client, model, str(other), csv={"separator": ";"})
    assert measured == pipeline.evaluate(client, model, str(plain))
    with pytest.raises(DataError, match=r"the only column is .*: is data\.csv\.separator = ';' meant\?"):
        pipeline.evaluate(client, model, str(other))
    with pytest.raises(JobError, match=r"csv: data\.csv\.separator"):
        pipeline.evaluate(client, model, str(other), csv={"separator": ";;"})
