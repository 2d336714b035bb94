"""Real data as people have it: with an index, a row number, codes, another encoding, a repeated header, a leaking column.

Each case ends with the honest model, the one of the clean files, or with a line that says what is wrong.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline.errors import UserError

ROWS, ROUNDS = 8_000, 10


@pytest.fixture(scope="module")
def flights(data: Path) -> pandas.DataFrame:
    """January's first flights with a known delay, and whether they were late; sorted by that, as exports often are."""
    columns = ["arr_delay", "sched_dep_time", "carrier", "origin", "dest", "distance", "flight"]
    table = pq.ParquetFile(data / "nycflights13" / "month=1" / "flights.parquet").read(columns=columns)
    frame = table.to_pandas().dropna(subset=["arr_delay"]).head(ROWS)
    frame["late"] = (frame["arr_delay"] > 15).astype(int)
    return frame.sort_values("late", kind="stable").reset_index(drop=True)


@pytest.fixture
def train(make_cluster: Any, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Trains on a source, with further settings; gives the summary."""

    def run(source: Path, *settings: str, out: str = "model") -> dict[str, Any]:
        table = {
            "data": {"source": str(source), "target": "late", "validation": {"share": 0.3}},
            "training": {"rounds": ROUNDS},
            "output": {"model": str(tmp_path / out), "report": False},
        }
        return pipeline.train(make_cluster(1, 2), pipeline.Job.parse(table, settings=settings)).summary

    return run


@pytest.fixture
def honest(flights: pandas.DataFrame, train: Callable[..., dict[str, Any]], tmp_path: Path) -> dict[str, Any]:
    """The model of the clean file."""
    source = tmp_path / "clean.csv"
    flights.drop(columns="arr_delay").to_csv(source, index=False)
    return train(source, out="honest")


def kinds(summary: dict[str, Any]) -> set[str]:
    return {note["kind"] for note in summary["notes"] if isinstance(note, dict)}


def test_a_csv_with_its_index_and_the_target_sorted(
    flights: pandas.DataFrame, train: Callable[..., dict[str, Any]], honest: dict[str, Any], tmp_path: Path
) -> None:
    source = tmp_path / "with_index.csv"
    flights.drop(columns="arr_delay").to_csv(source)
    found = train(source)
    assert kinds(found) == {"unnamed_column"}
    assert found["sha256"] == honest["sha256"]


def test_a_row_number_of_sorted_rows(
    flights: pandas.DataFrame, train: Callable[..., dict[str, Any]], honest: dict[str, Any], tmp_path: Path
) -> None:
    source = tmp_path / "numbered.csv"
    flights.drop(columns="arr_delay").assign(number=range(1, len(flights) + 1)).to_csv(source, index=False)
    found = train(source)
    assert "row_number" in kinds(found)
    assert found["metrics"] == honest["metrics"]
    kept = train(source, "preprocess.columns.number.kind=number", out="kept")
    assert kept["metrics"]["validation"]["auc"] > 0.99  # what everybody would have believed


def test_a_column_that_is_known_only_afterwards(
    flights: pandas.DataFrame, train: Callable[..., dict[str, Any]], honest: dict[str, Any], tmp_path: Path
) -> None:
    source = tmp_path / "leaking.csv"
    flights.to_csv(source, index=False)
    (finding,) = [note for note in train(source)["notes"] if isinstance(note, dict)]
    assert (finding["kind"], finding["column"]) == ("explains_target", "arr_delay")
    assert "data.exclude" in finding["message"]
    with pytest.raises(UserError, match="arr_delay"):
        train(source, "data.strict=true", out="strict")
    assert train(source, 'data.exclude=["arr_delay"]', out="without")["sha256"] == honest["sha256"]


def test_ids_come_back_as_they_were(
    flights: pandas.DataFrame, train: Callable[..., dict[str, Any]], make_cluster: Any, tmp_path: Path
) -> None:
    source = tmp_path / "ids.csv"
    ids = [f"{number:08d}" for number in range(len(flights))]
    flights.drop(columns="arr_delay").assign(booking=ids).to_csv(source, index=False)
    found = train(source, 'data.id=["booking"]')
    pipeline.predict(make_cluster(1, 2), pipeline.Model.load(found["model"]), str(source), out=tmp_path / "predictions")
    assert pq.read_table(tmp_path / "predictions").column("booking").to_pylist() == ids


def test_latin_1(
    flights: pandas.DataFrame, train: Callable[..., dict[str, Any]], honest: dict[str, Any], tmp_path: Path
) -> None:
    source = tmp_path / "latin.csv"
    cities = flights["origin"].map({"EWR": "Nêwark", "JFK": "Jamaïca", "LGA": "LaGuardía"})
    flights.drop(columns="arr_delay").assign(origin=cities).to_csv(source, index=False, encoding="latin-1")
    with pytest.raises(UserError, match=r"data\.csv\.encoding"):
        train(source, out="refused")
    found = train(source, "data.csv.encoding=latin-1")
    assert found["metrics"]["train"]["auc"] == pytest.approx(honest["metrics"]["train"]["auc"], abs=0.01)


def test_files_joined_with_their_headers(
    flights: pandas.DataFrame, train: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    source = tmp_path / "joined.csv"
    text = flights.drop(columns="arr_delay").head(1_000).to_csv(index=False)
    source.write_text(text + text, encoding="utf-8")
    with pytest.raises(UserError, match=r"joined\.csv.*1002.*header|joined\.csv.*header.*1002"):
        train(source)
