"""Notes and findings about workers, with made-up ones."""

import re
from typing import Any

import pytest

from pipeline.cluster.launchers import existing
from pipeline.config.job import Cluster
from pipeline.errors import ClusterError, TrainingError
from pipeline.runtime import capability, placement
from pipeline.runtime.placement import WorkerInfo, exposure


def worker(number: int, host: str) -> WorkerInfo:
    return WorkerInfo(f"tls://{host}:{4000 + number}", str(number), 1, 2**30, host, 1.0)


class Present:
    """Members of a cluster of which one look after the other shows so many workers."""

    def __init__(self, *looks: dict[str, Any], known: int = 0, short: str | None = None) -> None:
        self.services: dict[str, Any] = {}
        self._looks, self._known, self._short = list(looks), known or len(looks[0]), short

    def refresh(self) -> dict[str, Any]:
        return self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]

    def expected_count(self) -> int:
        return self._known

    def lost_worker(self) -> tuple[str, str]:
        return "0", "killed by signal 9"

    def out_of_memory(self, planned_nbytes: int) -> str | None:
        return self._short

    def track(self, processes: dict[str, str]) -> None:
        """Whoever is there."""


ONE: dict[str, Any] = {"a": {}}
TWO: dict[str, Any] = {"a": {}, "b": {}}


def there(members: Present, workers: int | str) -> set[str]:
    section = Cluster.model_validate({"workers": workers, "wait_seconds": 0.3})
    return set(placement.all_there(section, members))  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [2, "auto"])
def test_one_that_was_lost_at_start_is_waited_for(workers: int | str) -> None:
    assert there(Present(ONE, TWO, known=2), workers) == {"a", "b"}


def test_one_that_stays_away_is_named() -> None:
    with pytest.raises(TrainingError, match=r"worker 0 lost at start: killed by signal 9; it did not come back"):
        there(Present(ONE, known=2), 2)
    with pytest.raises(TrainingError, match=r"^ended for memory$"):
        there(Present(ONE, known=2, short="ended for memory"), 2)
    assert there(Present(ONE, known=2), "auto") == {"a"}


def test_workers_that_never_were_there_are_not_waited_for() -> None:
    with pytest.raises(ClusterError, match="workers = 3, but the cluster has 2"):
        there(Present(TWO), 3)


@pytest.mark.parametrize(
    ("hosts", "says"),
    [
        (["10.0.0.1"], ""),
        (["10.0.0.1", "10.0.0.1"], ""),
        (["10.0.0.1", "10.0.0.2", "10.0.0.1"], "workers on 2 hosts: .* neither encrypted nor authenticated"),
    ],
)
def test_several_hosts_talk_in_the_clear(hosts: list[str], says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = [worker(*item) for item in enumerate(hosts)]
    notes = exposure(workers)
    assert len(notes) == bool(says)

    facts: dict[str, Any] = {
        one.address: {
            "name": one.name, "nthreads": 1, "memory_limit": 0, "host": one.host, "nanny": "x", "local_directory": "y",
        }
        for one in workers
    }  # fmt: skip
    monkeypatch.setattr(capability, "measure", lambda members, pairs, busy: ((1.0,) * len(pairs),) * 2)
    monkeypatch.setattr(existing, "gpu_reasons", lambda client, addresses: dict.fromkeys(addresses, "none"))

    class Elsewhere:
        cluster = None

    found = placement.placement(Elsewhere(), Cluster(scheduler="tls://10.0.0.1:8786"), membership=Present(facts))  # type: ignore[arg-type]
    assert found.notes == notes
    for note in notes:
        assert "\n" not in note
        assert re.search(says, note)


def test_only_the_hosts_that_take_part_count() -> None:
    assert exposure([worker(0, "a"), worker(1, "a")]) == ()
    assert exposure([]) == ()


def test_a_gpu_is_not_taken_from_a_local_cluster_without_one(client: Any) -> None:
    with pytest.raises(ClusterError, match="LocalCluster was not started for GPUs"):
        placement.placement(client, Cluster(device="cuda"))
