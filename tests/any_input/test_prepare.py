"""Any table and any job, up to the blocks, in this process: they become blocks that hold the rows, or one line says why."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import fragments
from pipeline.errors import UserError
from pipeline.job import Job
from tests.any_input.checks import check_ready
from tests.any_input.effort import Tally, outcome, trying
from tests.any_input.jobs import jobs
from tests.any_input.tables import Case, cases, wide_case
from tests.any_input.walk import Ready, walk


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
    return outcome(lambda: walk(Job.parse({**job, "data": data}), source))


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


def test_three_thousand_columns_become_blocks(tmp_path: Path) -> None:
    case = wide_case(3_000)
    result = prepared(case, {"data": {"target": case.target}}, tmp_path)
    assert isinstance(result, Ready), result
    assert len(result.fitted.recipe.features) > 3_000
    check_ready(result, case.table())
