"""The resource plan of real jobs: probe, history, refusals, audits; tests are named after the lines of what was asked."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline.errors import ClusterError, DataError, JobError, UserError
from pipeline.events.types import Note
from pipeline.planning.audit import AuditLine
from pipeline.planning.forecast import MeasuredTrees
from pipeline.planning.job_size import SizeFacts
from pipeline.run.audit_history import MOST_LINES, add_to_history, history_file, read_history
from pipeline.run.metadata import resolve

ROWS = 4_000


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A history of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return history_file()


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    folder = tmp_path / "rows"
    folder.mkdir()
    for number in range(4):
        x = rng.random((ROWS // 4, 6))
        y = (x[:, 0] + x[:, 1] * x[:, 2] + 0.2 * rng.random(ROWS // 4) > 0.8).astype(np.int8)
        pq.write_table(
            pa.table({**{f"x{place}": x[:, place] for place in range(6)}, "y": y}), folder / f"{number}.parquet"
        )
    return folder


def job_of(source: Path, **sections: Any) -> pipeline.Job:
    fields: dict[str, Any] = {
        "data": {"source": str(source), "target": "y", "validation": {"share": 0.2}},
        "training": {"rounds": 12, "params": {"max_depth": 4}},
        "output": {"model": str(source.parent / "model"), "overwrite": True, "report": False},
        "cluster": {"device": "cpu", "dashboard": False},
    }
    for name, values in sections.items():
        fields[name] = {**fields[name], **values}
    return pipeline.Job.parse(fields)


def test_1_a_probe_measures_the_jobs_own_trees(client: Any, data_folder: Path, state: Path) -> None:
    before = sorted(data_folder.parent.iterdir())
    plan = pipeline.plan(job_of(data_folder), client, probe_seconds=1.0)
    correction = plan.evidence.correction
    assert plan.evidence.probe_seconds > 0
    assert plan.evidence.busy >= 1
    assert correction.trees is not None
    assert 2 < correction.trees.leaves <= 16
    assert 0 < correction.trees.rows < ROWS
    assert correction.trees.depth == 4
    assert {"statistics", "blocks", "matrix", "rounds"} <= set(correction.cpu)
    assert "numbers from  a probe of" in str(plan)
    assert sorted(data_folder.parent.iterdir()) == before  # no model, no history


def test_2_each_layout_has_all_stages(data_folder: Path, state: Path) -> None:
    plan = pipeline.plan(job_of(data_folder, cluster={"threads": 1}), workers=[1, 2, 3])
    assert [one.layout.workers for one in plan.layouts] == [1, 2, 3]
    document = plan.to_dict()
    assert document["throughput_rows_per_second"] == pytest.approx(1 / document["latency_seconds_per_row"])
    assert {"start", "survey", "statistics", "blocks", "matrix", "rounds", "evaluate"} <= set(
        document["layouts"][0]["wall_seconds"]
    )


def test_8_a_run_compares_itself_with_its_plan(client: Any, data_folder: Path, state: Path) -> None:
    result = pipeline.train(client, job_of(data_folder))
    folder = result.model.path
    plan, audit = (json.loads((folder / name).read_text("utf-8")) for name in ("plan.json", "audit.json"))
    assert {"plan.json", "audit.json"} <= set(pipeline.Model.load(folder).manifest.files)
    assert plan["layouts"][0]["wall"]["low"] < plan["layouts"][0]["wall"]["high"]
    assert audit == json.loads(json.dumps(result.summary["audit"]))
    assert audit["measured"]["rss"]["rounds"] > 50e6
    assert 2 < audit["measured"]["leaves"] <= 16
    assert audit["stages"]["rss"]["rounds"]["measured"] == audit["measured"]["rss"]["rounds"]
    (line,), note = read_history()
    assert note is None
    assert line.trees.leaves == audit["measured"]["leaves"]
    assert "elsewhere" not in line.cpu  # the cluster was there before
    text = state.read_text("utf-8")
    assert str(data_folder) not in text
    assert "x0" not in text


def test_8_later_plans_know_the_trees_of_earlier_runs(client: Any, data_folder: Path, state: Path) -> None:
    job = job_of(data_folder)
    assert pipeline.plan(job).evidence.correction.trees is None
    result = pipeline.train(client, job)
    evidence = pipeline.plan(job).evidence
    assert evidence.correction.trees is not None
    assert evidence.correction.trees.leaves == result.summary["audit"]["measured"]["leaves"]
    assert evidence.source() == "1 earlier run on this machine"
    other = pipeline.plan(job_of(data_folder, data={"exclude": ["x5"]})).evidence
    assert other.correction.trees is None
    assert set(other.correction.cpu) == set(evidence.correction.cpu)


def test_2_classes_are_counted_in_the_first_fragment(tmp_path: Path, state: Path) -> None:
    names = np.array(["red", "green", "blue", "white"])[np.arange(400) % 4]
    file = tmp_path / "colours.parquet"
    pq.write_table(pa.table({"x0": np.arange(400.0), "y": names}), file)
    assert pipeline.plan(job_of(file)).size.trees == 4


def test_8_no_line_is_added_where_the_job_says_so(client: Any, data_folder: Path, state: Path) -> None:
    pipeline.train(client, job_of(data_folder, output={"audit": False}))
    assert not state.exists()


def test_8_a_history_that_cannot_be_written_is_a_note(client: Any, data_folder: Path, state: Path) -> None:
    state.parent.parent.mkdir(parents=True, exist_ok=True)
    state.parent.write_text("a file where the folder should be")
    said: list[Any] = []
    result = pipeline.train(client, job_of(data_folder), listen=said.append)
    notes = [event.message for event in said if isinstance(event, Note)]
    assert any("the audit of this run cannot be added to" in note for note in notes)
    assert (result.model.path / "audit.json").exists()


def test_a_damaged_history_is_left_aside_and_said_once(client: Any, data_folder: Path, state: Path) -> None:
    state.parent.mkdir(parents=True)
    state.write_bytes(b'{"version": 1}\n\xff\xfe\n[]\n')
    assert read_history()[0] == []
    plan = pipeline.plan(job_of(data_folder))
    assert str(plan).count("3 of 3 lines cannot be read and are left aside") == 1
    said: list[Any] = []
    pipeline.train(client, job_of(data_folder), listen=said.append)
    assert sum("lines cannot be read" in event.message for event in said if isinstance(event, Note)) == 1
    assert len(read_history()[0]) == 1


def test_a_torn_line_does_not_take_the_next_with_it(state: Path) -> None:
    line = AuditLine(
        "m",
        "k",
        {},
        {},
        {},
        MeasuredTrees(3.0, 10, 5, 6, 0, "depthwise"),
        SizeFacts(6, 600, 1, 1.0, 0.2, missing=False),
    )
    assert add_to_history(line) is None
    state.write_text(state.read_text("utf-8") + '{"version": 1, "machi', "utf-8")
    assert add_to_history(line) is None
    found, note = read_history()
    assert found == [line, line]
    assert note is not None


def test_a_history_does_not_grow_for_ever(state: Path) -> None:
    line = AuditLine(
        "m",
        "k",
        {},
        {},
        {},
        MeasuredTrees(3.0, 10, 5, 6, 0, "depthwise"),
        SizeFacts(6, 600, 1, 1.0, 0.2, missing=False),
    )
    state.parent.mkdir(parents=True)
    state.write_text((line.render() + "\n") * MOST_LINES, "utf-8")
    assert add_to_history(line) is None
    assert len(read_history()[0]) == MOST_LINES // 2
    assert [path.name for path in state.parent.iterdir()] == [state.name]


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    folder = tmp_path / "wide"
    folder.mkdir()
    x = rng.random((6_000, 2_000), dtype=np.float32)
    table = pa.table({**{f"x{place}": x[:, place] for place in range(2_000)}, "y": (x[:, 0] > 0.5).astype(np.int8)})
    for number in range(4):
        pq.write_table(table.slice(number * 1_500, 1_500), folder / f"{number}.parquet")
    return folder


def test_7_a_training_is_refused_before_its_first_task(
    client: Any, wide: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.planning import plan as plans

    limit = pipeline.plan(job_of(wide), workers=[1]).layouts[0].peak.low / plans.LIMIT_SHARE
    job = job_of(wide, cluster={"memory": f"{int(0.9 * limit / 2**20)}MiB"})
    plan = pipeline.plan(job, workers=[1])
    with pytest.raises(
        ClusterError,
        match=r"a worker is expected to take .* MiB .* and is ended at .* of its limit of .* or raise cluster\.memory",
    ):
        plan.validate()
    said: list[Any] = []
    monkeypatch.setattr("pipeline.run.train.plan_of_run", lambda *_: plan)
    with pytest.raises(ClusterError, match="is ended at"):
        pipeline.train(client, job_of(wide), listen=said.append)
    assert [type(event).__name__ for event in said] == ["Started", "Failed"]


@pytest.mark.parametrize("prices", [
    "[mode.on_demand]\nworker_hour = -1\n", "[mode.on_demand]\nworker_hour = 1\nday = 3\n", "hour = 1\n", "[mode", "",
])  # fmt: skip
def test_wrong_prices_are_one_line(data_folder: Path, state: Path, prices: str) -> None:
    file = data_folder.parent / "prices.toml"
    file.write_text(prices)
    with pytest.raises(JobError, match=r"prices\.toml") as caught:
        pipeline.plan(job_of(data_folder, cluster={"prices": str(file)}))
    assert "\n" not in str(caught.value)


def test_6_a_plan_with_prices_has_costs(data_folder: Path, state: Path) -> None:
    file = data_folder.parent / "prices.toml"
    file.write_text('currency = "EUR"\n[mode.on_demand]\nworker_hour = 3600\n')
    plan = pipeline.plan(job_of(data_folder, cluster={"prices": str(file)}), workers=[1], budget=10_000.0)
    (one,) = plan.layouts
    assert one.modes[0].cost == pytest.approx(one.wall.middle)
    assert "EUR" in str(plan)
    with pytest.raises(ClusterError, match=r"--budget 0\.5: the nearest is 1 worker"):
        pipeline.plan(job_of(data_folder, cluster={"prices": str(file)}), workers=[1], budget=0.5).validate()
    with pytest.raises(JobError, match=r"a budget needs prices.*--prices"):
        pipeline.plan(job_of(data_folder), budget=1.0)


def test_10_what_a_plan_needs(client: Any, data_folder: Path, state: Path) -> None:
    with pytest.raises(JobError, match="a probe needs workers"):
        pipeline.plan(job_of(data_folder), probe_seconds=1.0)
    plan: pipeline.Plan = pipeline.plan(job_of(data_folder))
    assert math.isfinite(plan.layouts[0].wall.high)
    assert "Plan" in pipeline.__all__


def test_nothing_to_probe_is_one_line(client: Any, data_folder: Path, tmp_path: Path, state: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    pq.write_table(pa.table({"x0": pa.array([], pa.float64()), "y": pa.array([], pa.int8())}), folder / "0.parquet")
    with pytest.raises(UserError, match="no rows"):
        pipeline.plan(job_of(folder), client, probe_seconds=1.0)
    inputs = resolve(job_of(data_folder))
    bad = replace(inputs.training.fragments[0].pieces[0], rows=0)
    empty = replace(inputs.training, fragments=(replace(inputs.training.fragments[0], pieces=(bad,)),))
    with pytest.raises(DataError, match="no fragment to probe"):
        pipeline.plan(job_of(data_folder), client, probe_seconds=1.0, inputs=inputs.with_sources([empty]))


def test_9_the_report_shows_planned_and_measured(
    make_cluster: Callable[[int, int], Any], data_folder: Path, state: Path
) -> None:
    result = pipeline.train(make_cluster(1, 1), job_of(data_folder, output={"report": True}))
    page = (result.model.path / "report.html").read_text("utf-8")
    assert "Planned and measured" in page
    assert page.count("<th") > 8


def test_a_job_that_cannot_be_planned_is_trained(
    client: Any, data_folder: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("of the plan")

    monkeypatch.setattr("pipeline.run.train.plan_of_run", broken)
    said: list[Any] = []
    result = pipeline.train(client, job_of(data_folder), listen=said.append)
    assert "audit" not in result.summary
    assert any("the run cannot be planned: of the plan" in event.message for event in said if isinstance(event, Note))


def test_an_audit_that_fails_leaves_a_model_and_a_report(
    client: Any, data_folder: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.run.train.Audit.of", lambda *_: 1 / 0)
    result = pipeline.train(client, job_of(data_folder, output={"report": True}))
    assert (result.model.path / "report.html").exists()
    assert any("cannot be compared with its plan" in str(note) for note in result.summary["notes"])


def test_odd_parameters_are_planned_or_refused_by_the_trainer(data_folder: Path, state: Path) -> None:
    deep = pipeline.plan(job_of(data_folder, training={"params": {"max_depth": 2_000}}))
    assert math.isfinite(deep.layouts[0].wall.middle)
    with pytest.raises(UserError, match="max_depth"):
        pipeline.plan(job_of(data_folder, training={"params": {"max_depth": "abc"}}))
    forest = pipeline.plan(job_of(data_folder, training={"params": {"num_parallel_tree": 8}}))
    assert forest.size.trees == 8
    quantiles = job_of(data_folder, training={"objective": "reg:quantileerror", "quantiles": [0.1, 0.5, 0.9]})
    assert pipeline.plan(quantiles).size.trees == 3


def test_no_home_is_no_reason_not_to_train(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert read_history() == ([], None)
    line = AuditLine(
        "m",
        "k",
        {},
        {},
        {},
        MeasuredTrees(3.0, 10, 5, 6, 0, "depthwise"),
        SizeFacts(6, 600, 1, 1.0, 0.2, missing=False),
    )
    assert "no home folder" in str(add_to_history(line))
