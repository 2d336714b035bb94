"""The benchmark of categories at toy size: every contender trains and is judged, and a record is continued."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks import categories, category_rows, real_sets, record
from benchmarks.categories import CONTENDERS, Settings, compare, differences, measure, table
from benchmarks.category_rows import KINDS, parts_of
from pipeline.cli.terminal import run
from pipeline.errors import JobError

TOY = Settings(rounds=3, depth=3, learning_rate=0.3, threads=1)


@pytest.fixture(autouse=True)
def few_test_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(category_rows, "MOST_TEST_ROWS", 200)


def test_every_contender_is_judged(tmp_path: Path) -> None:
    found = compare(lambda: parts_of("interacting-40x600", 0, tmp_path), list(CONTENDERS), 0, TOY)
    assert [one["contender"] for one in found] == list(CONTENDERS)
    assert {(one["rows"], one["test_rows"], one["metric"]) for one in found} == {(600, 200, "logloss")}
    by_name = {one["contender"]: one for one in found}
    assert by_name["native"]["features"]["category0"] == "codes 40"
    assert by_name["target-32"]["features"]["category0"] == "target 40"
    assert by_name["both"]["features"]["category0 mean"] == "target 40"
    assert by_name["target-64"]["value"] == by_name["native"]["value"]
    assert by_name["rule"]["max_cat_threshold"] == 4
    assert by_name["rule"]["value"] == by_name["threshold-4"]["value"] != by_name["native"]["value"]
    assert differences(found, "native") == [0]
    assert "rule" in table(found)


@pytest.mark.parametrize("name", [*(f"{kind}-33x300" for kind in KINDS), "flights-400"])
def test_the_parts_are_apart(name: str, tmp_path: Path) -> None:
    parts = parts_of(name, 1, tmp_path)
    rows = int(name.rpartition("x" if "x" in name else "-")[2])
    assert parts.fitting.column("part").to_pylist() == [0] * rows + [1] * (rows // 3)
    assert parts.test.num_rows == 200
    assert set(parts.categories) <= set(parts.test.column_names) == set(parts.fitting.column_names) - {"part"}
    assert parts.test.equals(parts_of(name, 1, tmp_path).test)
    assert not parts.test.equals(parts_of(name, 2, tmp_path).test)


@pytest.mark.parametrize("name", ["digits-300", "nothing-300", "wild-33x300", "adult"])
def test_an_unknown_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"expected|the kinds are"):
        parts_of(name, 0, tmp_path)


def test_a_record_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--data", "noise-33x300", "--rounds", "2", "--depth", "2", "--results", str(tmp_path)]
    for more in (["--seeds", "1"], ["--seeds", "2"]):
        assert run(categories.command, [*options, "--contender", "native", *more], "benchmark") == 0
    monkeypatch.setattr(categories, "compare", lambda *_: pytest.fail("all of it is known"))
    assert run(categories.command, [*options, "--contender", "native", "--seeds", "2"], "benchmark") == 0
    full = json.loads((tmp_path / "categories.json").read_text())
    assert [(one["seed"], one["contender"], one["start"]) for one in full["results"]] == [
        (0, "native", 0), (1, "native", 1),
    ]  # fmt: skip
    assert len(full["starts"]) == 2


def test_results_of_other_settings_are_measured_and_kept_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def results(rounds: int) -> list[dict[str, Any]]:
        settings = Settings(rounds, depth=2, learning_rate=0.3, threads=1)
        return measure(["independent-33x300"], ["native", "rule"], [0], settings, tmp_path, tmp_path)

    results(1)
    assert "other settings" not in capsys.readouterr().err
    found = results(2)
    assert "other settings" in capsys.readouterr().err
    assert [(one["contender"], one["most_rounds"], one["rounds"]) for one in found] == [
        ("native", 1, 1), ("rule", 1, 1), ("native", 2, 2), ("rule", 2, 2),
    ]  # fmt: skip
    assert len(differences(found, "rule")) == 2
    assert results(2) == found


@pytest.mark.parametrize("other", ["rule", "count-20"])
def test_a_result_is_taken_only_from_a_contender_without_a_bound_of_its_own(other: str, tmp_path: Path) -> None:
    found = compare(lambda: parts_of("interacting-40x600", 0, tmp_path), [other, "native", "target-64"], 0, TOY)
    first, native, copied = found
    assert "max_cat_threshold" not in native
    assert native["value"] == copied["value"] != first["value"]


def test_packages_of_real_sets_are_kept_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def load(name: str, cache: Path, most_rows: int) -> real_sets.Loaded:
        asked.append(cache)
        rows = pd.DataFrame({"color": ["red", "blue"] * 200, "price": np.arange(400.0)})
        return real_sets.Loaded(name, "regression", "price", rows)

    monkeypatch.setattr(real_sets, "load", load)
    assert parts_of("diamonds-100", 0, tmp_path).categories == ("color",)
    assert asked == [tmp_path]


def test_the_record_can_be_continued() -> None:
    full = json.loads((record.RESULTS / "categories.json").read_text())
    assert all({*TOY.key, "data", "seed", "contender", "start"} <= one.keys() for one in full["results"])
    assert {one["start"] for one in full["results"]} <= {None, *range(len(full["starts"]))}
