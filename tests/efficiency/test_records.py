"""The record of a scaling run: written whole, read back the same, compared only with what it can be compared with."""

import dataclasses
import json
import math
from pathlib import Path

import pytest

from pipeline.efficiency.definitions import figures
from pipeline.efficiency.records import (
    SCHEMA,
    Configuration,
    Point,
    Prediction,
    Result,
    ScalingSample,
    Single,
    TimeSplit,
    WorkerSample,
    read,
    write,
)
from pipeline.efficiency.resample import median_interval
from pipeline.errors import JobError, UserError
from pipeline.scaling import samples
from pipeline.scaling.compare import comparison
from pipeline.scaling.plan import Plan

SPLITS = (TimeSplit(0.008, 0.001, 0.0, 0.001), TimeSplit(0.006, 0.001, 0.002, 0.001))
FIGURES = figures(0.01, [0.008, 0.006], [0.001, 0.001], [1.0, 1.0])
CONFIGURATION = Configuration(
    mode="strong", workers=2, threads=1, rows=(500, 500), features=4, bins=1000, depth=6, growth="depthwise",
    max_leaves=0, trees_per_round=1, column_share=1.0, row_share=1.0, objective="binary:logistic", rounds=5, warmup=2,
    device="cpu", oversubscribed=False,
)  # fmt: skip


def sample(seconds: float = 0.01, repetition: int = 0) -> ScalingSample:
    workers = tuple(
        WorkerSample(rank, str(rank), seconds, split, 0.01, 100, 100, 0.001, "thread-cpu", ())
        for rank, split in enumerate(SPLITS)
    )
    return ScalingSample(repetition, "2026-11-21T00:00:01+00:00", seconds, workers, FIGURES, (seconds,) * 5)


def result(*seconds: float, cores: int = 2, **changes: object) -> Result:
    predicted = Prediction("2026-11-21T00:00:00+00:00", 0.01, 0.009, 0.011, SPLITS, FIGURES, (10, 10), (9, 9))
    configuration = dataclasses.replace(CONFIGURATION, **changes)
    taken = tuple(sample(value, number) for number, value in enumerate(seconds))
    return Result(
        name="a", arguments={"workers": [1, 2]}, circumstances={"machine": {"processor": "x", "cores": cores}},
        calibration={}, singles=(Single("strong", 1000, 2, (0.009,)),), points=(Point(configuration, predicted, taken),),
        sentences=("One.",), notes=("b",),
    )  # fmt: skip


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    made = result(0.01, 0.011)
    assert write(made, tmp_path) == tmp_path / "result.json"
    assert read(tmp_path) == read(tmp_path / "result.json") == dataclasses.replace(made, arguments={"workers": [1, 2]})
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
    assert read(tmp_path).point("strong", 2) is not None
    assert read(tmp_path).point("weak", 2) is None


def test_a_saturated_figure_is_null(tmp_path: Path) -> None:
    saturated = figures(0.01, [0.01, 0.01], [0.0, 0.0], [1.0, 1.0])
    made = result(0.01)
    point = dataclasses.replace(made.points[0], samples=(dataclasses.replace(sample(), figures=saturated),))
    write(dataclasses.replace(made, points=(point,)), tmp_path)
    found = read(tmp_path).points[0].samples[0].figures
    assert found.saturated
    assert found.E is None


def test_no_number_that_json_lacks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nan"):
        write(result(math.nan), tmp_path)
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": SCHEMA + 1}, f"schema {SCHEMA + 1}, this version reads schema {SCHEMA}"),
        ({"points": 3}, "not a whole result"),
        ({"more": 3}, "unknown: more"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, change: dict[str, object], said: str) -> None:
    write(result(0.01), tmp_path)
    value = json.loads((tmp_path / "result.json").read_text())
    (tmp_path / "result.json").write_text(json.dumps(value | change))
    with pytest.raises(UserError, match=said) as caught:
        read(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'result.json'}: ")


@pytest.mark.parametrize(("text", "said"), [(None, "cannot be read"), ("{", "not JSON"), ("[]", "schema None")])
def test_what_is_no_result_is_refused(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "result.json").write_text(text)
    with pytest.raises(UserError, match=said):
        read(tmp_path)


def test_comparing() -> None:
    now, earlier = result(0.02, 0.0201, 0.0202, 0.0203, 0.0204), result(0.01, 0.0101, 0.0102, 0.0103, 0.0104)
    assert comparison(now, earlier) == ["strong, 2 x 1: 20.20 ms a round, earlier 10.20 ms: x 1.98"]
    assert "no difference" in comparison(now, now)[0]
    with pytest.raises(UserError, match=r"different machines.*4 cores"):
        comparison(now, result(0.01, cores=4))
    assert comparison(now, result(0.01, cores=4), force=True)
    with pytest.raises(UserError, match="no point of"):
        comparison(now, result(0.01, depth=7))


def test_samples_are_lines_for_extra_p() -> None:
    found = [json.loads(line) for line in samples.lines(CONFIGURATION, sample())]
    assert all(line.keys() == {"params", "callpath", "metric", "value"} for line in found)
    assert {line["params"]["p"] for line in found} == {2}
    values = {(line["callpath"], line["metric"]): line["value"] for line in found}
    assert values["strong->round", "time"] == 0.01
    assert values["strong->round->useful", "time"] == pytest.approx(0.007)
    assert values["strong->round->transfer", "bytes_sent"] == 20


def test_intervals_hold_the_median() -> None:
    interval = median_interval([5.0, 1.0, 2.0, 3.0, 4.0])
    assert interval.low <= interval.median == 3.0 <= interval.high
    assert interval == median_interval([5.0, 1.0, 2.0, 3.0, 4.0])
    narrow = median_interval([3.0 + 0.01 * number for number in range(50)])
    assert 0 < narrow.relative < interval.relative
    with pytest.raises(ValueError, match="needs a value"):
        median_interval([])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"workers": (2, 1)}, "--workers 2,1"),
        ({"workers": ()}, "--workers"),
        ({"workers": (0, 1)}, "--workers 0,1"),
        ({"modes": ("strong", "fast")}, "--mode strong,fast"),
        ({"repeat": 0}, "--repeat 0: at least 1"),
        ({"rounds": 0}, "--rounds 0: at least 1"),
        ({"shares": (0.3, 0.6)}, "add up to 1"),
        ({"shares": (0.2, 0.3, 0.5)}, "3 of them"),
        ({"shares": (0.3, 0.7), "modes": ("strong", "weak")}, "strong alone"),
    ],
)
def test_plans_that_cannot_be_done(fields: dict[str, object], said: str) -> None:
    with pytest.raises(JobError, match=said):
        Plan(**fields)  # type: ignore[arg-type]
