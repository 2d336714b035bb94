"""The benchmark of categories at toy size: every contender trains and is judged, and a record is continued."""

import json
from pathlib import Path

import pytest

from benchmarks import categories, category_rows
from benchmarks.categories import CONTENDERS, Settings, compare, differences, table
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
    found = json.loads((tmp_path / "categories.json").read_text())["results"]
    assert [(one["seed"], one["contender"]) for one in found] == [(0, "native"), (1, "native")]
