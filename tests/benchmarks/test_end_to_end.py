"""The end-to-end benchmark at toy size: every script works, and the record holds what it should."""

import dataclasses
import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks import end_to_end
from benchmarks.competitors.common import auc
from benchmarks.contenders import ALL, Outcome
from benchmarks.end_to_end_report import equal_quality, summarise, tabulate

TOY = ["--rows", "4000", "--features", "8", "--rounds", "4", "--repeat", "1", "--depth", "4"]


def run(only, folder):
    path = end_to_end.main([*TOY, "--only", only, "--cache", str(folder / "cache"), "--results", str(folder)])
    return json.loads(path.read_text()), path


@pytest.mark.slow
def test_scripts_agree(tmp_path, capsys):
    record, path = run("a,b,a-ordered", tmp_path)
    assert [outcome["error"] for outcome in record["runs"]] == [None] * 3
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    by_hand, by_file, ordered = record["runs"]
    assert ordered["auc"] == pytest.approx(by_hand["auc"], abs=0.01)  # XGBoost takes other cuts
    assert by_hand["auc"] == pytest.approx(by_file["auc"], abs=0.01)
    for outcome in record["runs"]:
        assert outcome["auc"] > 0.55
        assert outcome["auc_by_round"][-1] == [4, pytest.approx(outcome["auc"], abs=1e-6)]
        assert outcome["peak_pss_nbytes"] > 5e7
        assert sum(outcome["seconds"].values()) < outcome["wall_seconds"]
    assert record["machine"]["cores"] >= 1
    assert record["versions"]["xgboost"]
    assert "by hand, in memory" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("only", ["dask21", "dask12", "lightgbm,lightgbm-q,lightgbm-ordered", "ours"])
def test_every_contender_runs(only, tmp_path):
    record, _ = run(only, tmp_path)
    for outcome in record["runs"]:
        assert outcome["error"] is None
        assert outcome["auc"] > 0.55
        assert outcome["auc_by_round"][-1] == [4, pytest.approx(outcome["auc"], abs=1e-6)]


def test_a_contender_that_is_not_installed_is_a_row(monkeypatch, tmp_path, capsys):
    absent = dataclasses.replace(ALL["catboost"], package="no_such_package")
    monkeypatch.setitem(ALL, "catboost", absent)
    record, _ = run("catboost", tmp_path)
    assert [outcome["error"] for outcome in record["runs"]] == ["not installed"]
    assert "CatBoost                             not installed" in capsys.readouterr().out


def test_wrong_names_are_refused(capsys):
    with pytest.raises(SystemExit):
        end_to_end.parse(["--only", "magic"])
    assert "expected some of ours, a, a-ordered, b" in capsys.readouterr().err


def test_contenders_take_turns():
    order = end_to_end.turns([ALL["a"], ALL["b"], ALL["ours"]], repeat=2)
    assert [contender.name for contender in order] == ["a", "b", "ours", "b", "ours", "a"]


def test_auc_is_exact():
    rng = np.random.default_rng(0)
    label, score = rng.integers(0, 2, 500), rng.integers(0, 30, 500)  # many ties
    assert auc(label, score) == pytest.approx(roc_auc_score(label, score), abs=1e-12)


def outcome(contender, wall, curve, rounds_seconds=8.0, error=None):
    return Outcome(
        contender, 0, wall, 2 * wall, 10**9, 0, 50, auc=curve[-1][1], seconds={"rounds": rounds_seconds},
        auc_by_round=curve, error=error,
    )  # fmt: skip


def test_seconds_to_equal_quality():
    ours = outcome("ours", 10, [(50, 0.70), (100, 0.80)])
    other = outcome("lightgbm", 12, [(50, 0.60), (100, 0.70)])
    (pair,) = equal_quality([ours, other])
    assert (pair["auc"], pair["ours_seconds"], pair["other_seconds"]) == (0.70, 6.0, 12.0)


def test_medians_leave_failures_out():
    curve = [(1, 0.6)]
    summary = summarise([outcome("a", wall, curve) for wall in (3, 9, 5)] + [outcome("a", 1, curve, error="broke")])
    assert summary["a"]["wall_seconds"] == 5
    assert (summary["a"]["runs"], summary["a"]["failed"]) == (3, 1)


def test_the_table_shows_the_gpu():
    runs = [outcome(name, wall, [(1, 0.6)]) for name, wall in (("ours-gpu", 9), ("cupy", 10))]
    runs = [dataclasses.replace(run, seconds={"read": 2.0, "rounds": 4.0}, peak_gpu_nbytes=3 * 10**9) for run in runs]
    settings = {"rows": 10_000_000, "features": 25}
    text = tabulate({"summary": summarise(runs), "equal_quality": [], "settings": settings})
    assert "this project, GPU: Parquet to GPU 0.50 GB/s, rounds 4.00 s, GPU peak 3.00 GB against 1.00 GB" in text
    assert "0.90x" in text
