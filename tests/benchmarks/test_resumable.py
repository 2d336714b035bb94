"""Benchmarks that were stopped resume: from the records in the repository, and from lines that an earlier version wrote."""

import json
import shutil
from pathlib import Path

import pytest

from benchmarks import categories, defaults, quality, record
from benchmarks.resumable import JsonLines, ResumableRecord

SETTINGS = categories.Settings(rounds=500, depth=6, learning_rate=0.1, threads=1)
RECORDS = {
    "quality": ("pairs", quality.KEY, {"data": "adult", "data_seed": 0, "sample_seed": 0}),
    "categories": (
        "results",
        ("data", "seed", "contender", *SETTINGS.key),
        {"data": "adult-18000", "seed": 0, "contender": "native", **SETTINGS.key},
    ),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_of_the_repository_is_resumed(name: str, tmp_path: Path) -> None:
    shutil.copy(record.RESULTS / f"{name}.json", tmp_path)
    before = json.loads((tmp_path / f"{name}.json").read_text())
    field, key, there = RECORDS[name]
    kept = ResumableRecord(name, tmp_path, {}, field, key)
    new = {**there, "data": "new"}
    assert kept.has(**there)
    assert not kept.has(**new)
    kept.add(new)
    kept.add({**new, "data": "newer"})
    after = json.loads((tmp_path / f"{name}.json").read_text())
    start = len(before["starts"])
    added = [{**new, "start": start}, {**new, "data": "newer", "start": start}]
    assert after.pop(field) == before.pop(field) + added == kept.all
    assert after.pop("starts")[:-1] == before.pop("starts")
    assert after == before


def test_a_start_that_adds_nothing_leaves_no_trace(tmp_path: Path) -> None:
    kept = ResumableRecord("new", tmp_path, {"starts": [], "items": []}, "items", ("seed",))
    assert not kept.has(seed=0)
    assert not list(tmp_path.iterdir())
    kept.add({"seed": 0}, {"seed": 1})
    content = (tmp_path / "new.json").read_bytes()
    again = ResumableRecord("new", tmp_path, {}, "items", ("seed",))
    assert again.has(seed=0)
    assert again.has(seed=1)
    assert (tmp_path / "new.json").read_bytes() == content


def test_lines_are_resumed_and_only_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "defaults.jsonl"
    path.parent.mkdir()
    old = '{"set": "bank", "seed": 0, "contender": "this project", "train_rows": 33908, "losses": {"log loss": 0.28}}\n'
    path.write_text(old)
    kept = JsonLines(path, defaults.KEY)
    assert kept.has(set="bank", seed=0, contender="this project")
    assert not kept.has(set="bank", seed=1, contender="this project")
    kept.add({"set": "bank", "seed": 1, "contender": "this project", "losses": {}})
    assert path.read_text() == old + '{"set": "bank", "seed": 1, "contender": "this project", "losses": {}}\n'
    assert JsonLines(path, defaults.KEY).all == kept.all
