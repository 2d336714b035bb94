"""Any table and any job, up to the blocks, in this process: they become blocks that hold the rows, or one line says why."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.local_preparation import Ready, prepare
from pipeline.config.job import Job
from pipeline.data import fragments
from pipeline.errors import UserError
from tests.any_input.checks import check_ready
from tests.any_input.effort import Tally, outcome, trying
from tests.any_input.jobs import jobs
from tests.any_input.tables import Case, cases, wide_case


@pytest.fixture(scope="module", autouse=True)
def small_fragments() -> Iterator[None]:
    """A fragment for each row group, however small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fragments, "MIN_FRAGMENT_NBYTES", 1)
        yield


def prepared(case: Case, job: dict[str, Any], folder: Path) -> Ready | UserError:
    """What a job over a case comes to."""
    stored = case.stored(folder)
    source = None if isinstance(stored, str) else stored
    data = {**job["data"], "source": str(folder)}
    return outcome(lambda: prepare(Job.parse({**job, "data": data}), source))


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        (
            {"column": "c", "values": ["nowhere"]},
            r"values = \['nowhere'\]: no row has one of them in the column 'c'; all 40 ",
        ),
        ({"share": 1e-9}, r"share = 1e-09: selects none of the 40 rows"),
        ({"time": "t", "share": 0.1}, "no row in the last share of 0.1 by the column 't' has a label"),
        ({"source": "other"}, r"data\.validation\.source: none of its rows"),
        ({"source": "empty"}, "no rows"),
    ],
)
def test_a_validation_that_holds_no_row_is_refused(tmp_path: Path, validation: dict[str, Any], message: str) -> None:
    """It would train on everything, without early stopping, and say nothing."""
    label = [float(row % 7) for row in range(40)] if "time" not in validation else [*map(float, range(35)), *[None] * 5]
    table = pa.table({"x": np.linspace(0, 1, 40), "c": ["a", "b"] * 20, "t": range(40), "y": label})
    for name, rows in (("data", table), ("empty", table.slice(0, 0)), ("other", table)):
        (tmp_path / name).mkdir()
        kept = rows.set_column(3, "y", pa.nulls(40, pa.float64())) if name == "other" else rows
        pq.write_table(kept, tmp_path / name / "0.parquet")
    job = {"data": {"source": "data", "target": "y", "validation": validation}}
    with pytest.raises(UserError, match=message):
        prepare(Job.parse(job, folder=tmp_path))


@pytest.mark.slow
def test_any_table_and_any_job_become_blocks_or_one_line() -> None:
    tally = Tally()

    @trying(500)
    @given(case=cases(), data=st.data())
    def check(case: Case, data: st.DataObject) -> None:
        job = data.draw(jobs(case), "job")
        with tempfile.TemporaryDirectory() as folder:
            result = prepared(case, job, Path(folder))
            tally.note(result)
            if isinstance(result, Ready):
                check_ready(result, case.table())

    check()
    tally.check(good=0.15, refused=0.2)


@pytest.mark.slow
def test_three_thousand_columns_become_blocks(tmp_path: Path) -> None:
    case = wide_case(3_000)
    result = prepared(case, {"data": {"target": case.target}}, tmp_path)
    assert isinstance(result, Ready), result
    assert len(result.fitted.recipe.features) > 3_000
    check_ready(result, case.table())
