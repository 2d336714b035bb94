"""Whole trainings of any table and any job, on one cluster: a model that predicts finite numbers, or one line."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pipeline
from pipeline.config.job import Job
from pipeline.data import fragments
from pipeline.errors import UserError
from pipeline.run.train import TrainResult
from tests.any_input.effort import Tally, outcome, trying
from tests.any_input.jobs import jobs
from tests.any_input.tables import Case, cases, wide_case

EXAMPLES = 40
SECONDS = 90.0  # that one training may take on a busy machine; some 0.5 on an idle one


@pytest.fixture(scope="module", autouse=True)
def small_fragments() -> Iterator[None]:
    """A fragment for each row group, however small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fragments, "MIN_FRAGMENT_NBYTES", 1)
        yield


def trained(client: Any, case: Case, job: dict[str, Any], folder: Path, name: str = "m") -> TrainResult | UserError:
    """What a job over a case comes to."""
    files = folder / "files"
    files.mkdir(exist_ok=True)
    stored = case.stored(files)
    table = {
        **job,
        "data": {**job["data"], "source": str(files)},
        "output": {"model": str(folder / name), "report": case.rows % 2 == 1},
    }
    source = None if isinstance(stored, str) else stored
    result = outcome(lambda: pipeline.train(client, Job.parse(table), source=source), SECONDS)
    assert (folder / name).is_dir() == isinstance(result, TrainResult)
    return result


def check_model(client: Any, result: TrainResult, case: Case, folder: Path) -> None:
    """It predicts finite numbers; the same from its folder; and counts the rows right."""
    rows = result.summary["rows"]
    table = case.table()
    assert rows["train"] + rows["validation"] + sum(rows["dropped"].values()) == table.num_rows
    if case.form in ("csv", "hive", "libsvm"):  # whose columns are not the table's
        out = folder / "predictions"
        found = outcome(lambda: pipeline.predict(client, result.model, str(folder / "files"), out=str(out)), SECONDS)
        assert not isinstance(found, UserError), found
        made = pq.read_table(out)
        assert made.num_rows == table.num_rows
        for column in made.column_names:
            if column.startswith(("prediction", "probability")) and pa.types.is_floating(
                made.schema.field(column).type
            ):
                assert np.isfinite(made.column(column).to_numpy()).all()
        return
    prediction = result.model.predict(table)
    assert len(prediction) == table.num_rows
    assert np.isfinite(prediction).all()
    assert np.array_equal(pipeline.Model.load(result.model.path).predict(table), prediction)


@pytest.mark.slow  # a minute
def test_any_table_and_any_job_become_a_model_or_one_line(make_cluster: Callable[[int, int], Any]) -> None:
    client = make_cluster(2, 1)
    tally = Tally()

    @trying(EXAMPLES, shrink=False)
    @given(case=cases(), data=st.data())
    def check(case: Case, data: st.DataObject) -> None:
        job = data.draw(jobs(case), "job")
        with tempfile.TemporaryDirectory() as folder:
            result = trained(client, case, job, Path(folder))
            tally.note(result)
            if isinstance(result, TrainResult):
                check_model(client, result, case, Path(folder))

    check()
    tally.check(good=0.1, refused=0.1)


@pytest.mark.slow  # half a minute
def test_any_model_is_the_same_on_other_workers(make_cluster: Callable[[int, int], Any]) -> None:
    """Of small tables that are cut into many fragments, trained by two workers of one thread and by one of two."""
    tally = Tally()

    @trying(12, shrink=False)
    @given(case=cases(forms=("table", "parquet", "hive")), data=st.data())
    def check(case: Case, data: st.DataObject) -> None:
        job = data.draw(jobs(case), "job")
        with tempfile.TemporaryDirectory() as folder:
            one = trained(make_cluster(2, 1), case, job, Path(folder), "one")
            tally.note(one)
            other = trained(make_cluster(1, 2), case, job, Path(folder), "other")
            if isinstance(one, UserError) or isinstance(other, UserError):
                assert type(one) is type(other), f"{one} / {other}"
                return
            assert one.model.recipe == other.model.recipe
            assert one.summary["rows"] == other.summary["rows"]
            names = list(one.model.manifest.roles.features)
            if set(names) <= set(case.names):
                table = case.table()
                assert np.array_equal(one.model.predict(table), other.model.predict(table))

    check()
    tally.check(good=0.1, refused=0.0)


@pytest.mark.slow  # 10 s
def test_three_thousand_columns(make_cluster: Callable[[int, int], Any]) -> None:
    wide = wide_case(3_000)
    with tempfile.TemporaryDirectory() as folder:
        result = trained(
            make_cluster(2, 1), wide, {"data": {"target": wide.target}, "training": {"rounds": 2}}, Path(folder)
        )
        assert isinstance(result, TrainResult), result
        assert result.summary["features"] > 3_000  # times make several
        check_model(make_cluster(2, 1), result, wide, Path(folder))
