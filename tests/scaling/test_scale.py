"""The verb `scale` from end to end on a small cluster, with a calibration made up: what it writes and what it refuses."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.job import Cluster
from pipeline.efficiency.records import SCHEMA, Result, read, write
from pipeline.errors import ClusterError, DataError, OutputError, UserError
from pipeline.events.types import Event, Note
from pipeline.scaling import scale as module
from pipeline.scaling.plan import Plan, ScaleOptions
from pipeline.scaling.scale import busy, scale
from pipeline.scaling.synthetic import Synthetic

from .test_experiment import MACHINE

DATA = Synthetic(rows=6_000, features=4, depth=3)
PLAN = Plan(workers=(1, 2), modes=("strong", "weak"), repeat=2, rounds=3)
CLUSTER = Cluster(device="cpu", threads=1)


@pytest.fixture(autouse=True)
def calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load_or_calibrate", lambda *_, recalibrate: (MACHINE, (f"calibrated {recalibrate}",)))


@pytest.fixture(scope="module")
def first(client: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result, list[Event]]:
    """A whole run: its folder, its result, and its events."""
    heard: list[Event] = []
    folder = tmp_path_factory.mktemp("scale") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_or_calibrate", lambda *_, recalibrate: (MACHINE, ("calibrated",)))
        made = scale(client, DATA, PLAN, ScaleOptions(out=folder), cluster=CLUSTER, listen=heard.append)
    return folder, made, heard


def test_the_folder_holds_all_of_it(first: tuple[Path, Result, list[Event]]) -> None:
    folder, made, heard = first
    names = {path.name for path in folder.iterdir()}
    assert names >= {"result.json", "samples.jsonl", "report.html"}
    assert any(name.endswith(".png") for name in names)
    assert module.is_scaling_folder(folder)
    assert read(folder).points == made.points
    assert read(folder).sentences == made.sentences
    assert len(made.sentences) == 3
    assert made.notes[-1] == "calibrated"
    assert Note(message="calibrated", time=0.0) in [dataclasses.replace(event, time=0.0) for event in heard]


def test_an_earlier_result_is_kept_unless_asked(client: Any, first: Any) -> None:
    folder, made, _ = first
    with pytest.raises(OutputError, match="--overwrite"):
        scale(client, DATA, PLAN, ScaleOptions(out=folder), cluster=CLUSTER)
    with pytest.raises(DataError, match="1,000 are needed"):  # nothing is lost before there is something new
        scale(
            client, dataclasses.replace(DATA, rows=500), PLAN, ScaleOptions(out=folder, overwrite=True), cluster=CLUSTER
        )
    assert read(folder).points == made.points
    one = dataclasses.replace(PLAN, workers=(1,), modes=("strong",), repeat=1, single=False)
    wish = ScaleOptions(out=folder, overwrite=True, compare=folder)
    again = scale(client, DATA, one, wish, cluster=CLUSTER)
    assert len(read(folder).points) == 1
    assert again.notes[-1].startswith("strong, 1 x 1: ")
    write(made, folder)


def test_other_files_are_never_deleted(client: Any, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds something else"):
        scale(client, DATA, PLAN, ScaleOptions(out=tmp_path, overwrite=True), cluster=CLUSTER)
    assert (tmp_path / "thesis.txt").exists()


def test_what_cannot_be_compared_is_refused_before_anything_runs(client: Any, first: Any, tmp_path: Path) -> None:
    folder, made, _ = first
    other = {**made.circumstances, "machine": {**made.circumstances["machine"], "processor": "another"}}
    write(dataclasses.replace(made, circumstances=other), tmp_path)
    out = tmp_path / "out"
    with pytest.raises(UserError, match="different machines"):
        scale(client, DATA, PLAN, ScaleOptions(out=out, compare=tmp_path), cluster=CLUSTER)
    value = json.loads((folder / "result.json").read_text())
    (tmp_path / "result.json").write_text(json.dumps(value | {"schema": SCHEMA + 1}))
    with pytest.raises(UserError, match=f"schema {SCHEMA + 1}"):
        scale(client, DATA, PLAN, ScaleOptions(out=out, compare=tmp_path), cluster=CLUSTER)
    assert not out.exists()


def test_too_many_workers(client: Any, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"cluster\.workers = 9, but the cluster has 2"):
        scale(client, DATA, Plan(workers=(1, 9)), ScaleOptions(out=tmp_path / "out"), cluster=CLUSTER)


def test_a_busy_machine_is_reported() -> None:
    assert busy({"machine": {"load_before": 0.4, "cores": 2}}) == []
    assert "load 3.1 on 2 cores" in busy({"machine": {"load_before": 3.1, "cores": 2}})[0]
