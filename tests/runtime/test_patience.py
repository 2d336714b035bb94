"""A cluster without workers, on a clock of the test's."""

import math
from typing import Any

import pytest

from pipeline.config.job import Cluster, Job
from pipeline.errors import ClusterError, JobError
from pipeline.runtime.patience import Patience
from pipeline.runtime.placement import await_first


def test_the_time_without_workers_is_counted_and_noted_ever_more_rarely() -> None:
    notes: list[str] = []
    patience = Patience(300.0, notes.append)
    assert patience.seen(0.0, 1) is None
    noted = []
    for now in range(1, 301):
        assert patience.seen(float(now), 0) is None
        if len(notes) > len(noted):
            noted.append(now)
    assert noted == [11, 21, 41, 81, 161]
    assert notes[0] == "no worker has been available for 10 s: waiting for one, 5 min at most (cluster.patience)"
    assert patience.seen(301.0, 0) == "no worker was available for 5 min (cluster.patience = 5 min)"
    assert patience.seen(302.0, 1) is None
    assert patience.seen(310.0, 0) is None  # counted from the start


def test_without_a_limit_none_is_named() -> None:
    notes: list[str] = []
    patience = Patience(math.inf, notes.append)
    assert [patience.seen(now, 0) for now in (0.0, 11.0)] == [None, None]
    assert notes == ["no worker has been available for 11 s: waiting for one"]


def test_a_cluster_that_stays_empty_is_refused() -> None:
    ticks = iter(range(0, 1000, 7))

    class Empty:
        """Members of a cluster that adapts to its load, and does not."""

        def __init__(self) -> None:
            self.client, self.submitted = self, 0

        def refresh(self) -> dict[str, Any]:
            return {}

        def raise_if_lost(self, addresses: object) -> None:
            pass

        def note(self, message: str) -> None:
            assert "up to 30s (cluster.patience)" in message

        def submit(self, *_: object, pure: bool) -> object:
            self.submitted += 1
            return self

    members: Any = Empty()
    with pytest.raises(
        ClusterError, match=r"but the cluster has 0: no worker was available for 35 s \(cluster.patience = 30 s\)"
    ):
        await_first(Cluster(patience="30s"), members, clock=lambda: float(next(ticks)), sleep=lambda seconds: None)
    assert members.submitted == 1  # so that one is started


def test_patience_is_a_duration() -> None:
    assert Cluster(patience="1h30m").patience == "1h30m"
    with pytest.raises(JobError, match=r"cluster\.patience"):
        Job.parse({"data": {"source": []}, "cluster": {"patience": "soon"}}, origin="test")
