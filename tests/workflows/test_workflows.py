"""Every workflow on the real data at 30 rounds, against what a hand-written script reaches.

The reference numbers are those of `python -m tests.workflows.reference` (pandas, `xgboost.train`, the same depth,
30 rounds at XGBoost's own learning rate of 0.3; XGBoost 3.4.1, CPU).  Rows held out by a hash are other rows there
than here, so the floors leave room for that.  Next to each floor are the reference and what was reached when the
test was written.
"""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import pipeline

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
ROUNDS = 30


@dataclass(frozen=True)
class Floor:
    """What a workflow has to reach on its validation rows."""

    sources: dict[str, str]  # field -> path under the real data
    metric: str
    limit: float
    higher_is_better: bool
    train_rows: int | None  # None: a hash decides
    validation_rows: int | None


FLOORS = {
    # Reference: AUC 0.69022, log loss 0.54131, on 273,355 and 53,991 rows; reached 0.68996, 0.53711.
    "flights": Floor({"data.source": "nycflights13"}, "auc", 0.688, True, 273_355, 53_991),
    # Reference: RMSE 5.70472 minutes, on 321,109 and 80,278 rows; reached 5.67827.
    "taxi": Floor({"data.source": "green_taxi/*.parquet"}, "rmse", 5.75, False, None, None),
    # Reference: AUC 0.92552, log loss 0.27976; reached 0.92561, 0.27983.
    "adult": Floor(
        {"data.source": "adult/adult.data", "data.validation.source": "adult/adult.test"},
        "auc", 0.9245, True, 32_561, 16_281,
    ),
    # Reference: accuracy 0.83394 (error 0.16606), log loss 0.4047, on 18,644 random rows; reached 0.84374, 0.38856.
    "covertype": Floor({"data.source": "covertype/covertype.csv.gz"}, "accuracy", 0.832, True, None, None),
    # Reference: NDCG@10 0.73442, NDCG@5 0.67298, on 50 queries; reached 0.74429, 0.66086.
    "rank": Floor(
        {"data.source": "rank/rank.train", "data.validation.source": "rank/rank.test"},
        "ndcg@10", 0.725, True, 3_005, 768,
    ),
}  # fmt: skip


def settings(name: str, data: Path, out: Path) -> list[str]:
    sources = [f"{field}={data / path}" for field, path in FLOORS[name].sources.items()]
    reduced = [f"training.rounds={ROUNDS}", "training.params.learning_rate=0.3", "training.early_stopping=0"]
    return [*sources, *reduced, f"output.model={out / name}", "output.report=false"]


@pytest.mark.slow
@pytest.mark.parametrize("name", FLOORS)
def test_workflow_reaches_what_is_written_by_hand(name: str, data: Path, tmp_path: Path, make_cluster: Any) -> None:
    floor = FLOORS[name]
    job = pipeline.Job.load(WORKFLOWS / f"{name}.toml", settings(name, data, tmp_path))
    summary = pipeline.train(make_cluster(1, 2), job).summary
    reached = summary["metrics"]["validation"][floor.metric]
    assert reached >= floor.limit if floor.higher_is_better else reached <= floor.limit
    for use, expected in (("train", floor.train_rows), ("validation", floor.validation_rows)):
        assert expected is None or summary["rows"][use] == expected


def test_every_job_file_is_tried() -> None:
    assert {path.stem for path in WORKFLOWS.glob("*.toml")} == {*FLOORS, "generated"}


def test_generated_data_can_be_learned(tmp_path: Path, make_cluster: Any) -> None:
    pipeline.generate(tmp_path / "flights", rows=20_000, seed=1)
    changes = [f"data.source={tmp_path / 'flights'}", f"output.model={tmp_path / 'model'}", "output.report=false"]
    job = pipeline.Job.load(WORKFLOWS / "generated.toml", changes)
    summary = pipeline.train(make_cluster(1, 2), job).summary
    assert summary["metrics"]["validation"]["auc"] > 0.6  # noise and signal are made so that more rows give more


def run_script(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(WORKFLOWS / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_train_flights_then_predict_folder(data: Path, tmp_path: Path) -> None:
    model = tmp_path / "flights"
    done = run_script("train_flights.py", data / "nycflights13", "--rounds", 5, "--out", model)
    assert done.returncode == 0, done.stderr
    assert re.search(r"December: 28,135 flights, mean probability of being late 0\.\d+", done.stdout)
    assert re.search(r"18:30: 0\.\d+\n", done.stdout)
    done = run_script("predict_folder.py", model, data / "nycflights13" / "month=1", tmp_path / "january", "--top", 3)
    assert done.returncode == 0, done.stderr
    assert "27,004 rows" in done.stdout
    assert len(re.findall(r"^  row +[\d,]+  0\.\d{4}$", done.stdout, re.MULTILINE)) == 3


@pytest.mark.slow
def test_compare_devices(data: Path) -> None:
    job = WORKFLOWS / "adult.toml"
    changes = [f"--set={change}" for change in settings("adult", data, Path("unused"))]
    done = run_script("compare_devices.py", job, *changes, "--set=training.rounds=3")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^cpu: rounds [\d.]+ s, total [\d.]+ s, .*'auc': 0\.\d+", done.stdout, re.MULTILINE)
    assert re.search(r"^cuda: ", done.stdout, re.MULTILINE)


def test_scripts_stay_short() -> None:
    for script in WORKFLOWS.glob("*.py"):
        assert len(script.read_text(encoding="utf-8").splitlines()) < 80
