"""Dates as text: found by their levels, with the setting that reads them."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import pipeline
from pipeline.config.job import Job
from pipeline.preprocess.text_dates import text_dates

DAYS = [datetime.datetime(2020, 1, 1, 7, 5, 9) + datetime.timedelta(days=day) for day in range(300)]


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("%Y-%m-%d", None),
        ("%Y-%m-%d %H:%M:%S", None),
        ("%Y-%m-%dT%H:%M:%S.%f", None),
        ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S%z"),
        ("%d.%m.%Y", "%d.%m.%Y"),
        ("%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M"),
        ("%d/%m/%Y", "%d/%m/%Y"),
        ("%m/%d/%Y", "%m/%d/%Y"),
        ("%d-%b-%Y", "%d-%b-%Y"),
    ],
)
def test_dates_are_found_by_their_form(written: str, form: str | None) -> None:
    texts = [f"{day:{written}}" for day in DAYS]
    found = text_dates(pa.array(texts, pa.large_string()))
    assert found is not None
    assert (found.format, found.share, found.looked_at, found.all_read) == (form, 1.0, 300, form is None)
    if found.all_read:
        assert pa.array(texts).cast(pa.timestamp("us")).null_count == 0  # as kind = "time" does
    most = text_dates(pa.array(texts[:96] + ["unknown", "-", "never", "?"], pa.large_string()))
    assert most is not None
    assert (most.format, most.share, most.all_read) == (form, 0.96, False)
    assert text_dates(pa.array(texts[:90] + [f"v{i}" for i in range(10)], pa.large_string())) is None
    assert text_dates(pa.array(texts[:19], pa.large_string())) is None


@pytest.mark.parametrize(
    "texts",
    [
        [f"1.{i}.3" for i in range(50)],  # versions
        [f"{i}.13.2020" for i in range(50)],
        [f"2020-{i}" for i in range(50)],
        [f"{i:08}" for i in range(50)],
        [f"2020-13-{i:02}" for i in range(1, 29)],
    ],
)
def test_what_is_no_date(texts: list[str]) -> None:
    assert text_dates(pa.array(texts, pa.large_string())) is None


def test_a_training_names_the_setting(client: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    days = [DAYS[place] for place in rng.integers(0, 300, 1_000)]
    table = pa.table(
        {
            "x": rng.normal(size=1_000),
            "iso": [f"{day:%Y-%m-%d}" for day in days],
            "german": [f"{day:%d.%m.%Y}" for day in days],
            "y": rng.normal(size=1_000),
        }
    )
    sections = {"data": {"source": [], "target": "y"}, "training": {"rounds": 2}, "output": {"report": False}}

    def notes(name: str, *settings: str) -> dict[str, str]:
        job = Job.parse(sections, settings=[f"output.model={tmp_path / name}", *settings])
        found = pipeline.train(client, job, source=table).summary["notes"]
        return {
            note["column"]: note["message"] for note in found if isinstance(note, dict) and note["kind"] == "text_dates"
        }

    messages = notes("a")
    assert set(messages) == {"iso", "german"}
    assert 'preprocess.columns.iso.kind = "time" reads them' in messages["iso"]
    assert "data.derive with try_strptime(..., '%d.%m.%Y')" in messages["german"]
    assert not any(str(day.year) in message for message in messages.values() for day in days)
    cures = [
        'preprocess.columns.iso.kind="time"', "data.derive={german=\"try_strptime(german, '%d.%m.%Y')\"}",
    ]  # fmt: skip
    assert notes("b", *cures) == {}
    assert notes("c", 'preprocess.columns.iso.kind="category"', "data.exclude=['german']") == {}
