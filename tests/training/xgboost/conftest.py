"""`run_training` leaves the states of a run on the workers until its caller closes the run: here, after each test."""

from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.runtime.sessions import close_run
from pipeline.runtime.worker_session import contents_on


@pytest.fixture(autouse=True)
def closed_runs(shared_clusters: dict[tuple[int, int], Any]) -> Iterator[None]:
    yield
    for client in shared_clusters.values():
        for run in {run for contents in client.run(contents_on).values() for run, _, _ in contents}:
            close_run(client, run)
