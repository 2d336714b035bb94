"""What is told about the workers, with made-up ones."""

import re
from typing import Any

import pytest

from pipeline.cluster import capability, placement, remote
from pipeline.cluster.placement import WorkerInfo, exposure
from pipeline.job import Cluster


def worker(number: int, host: str) -> WorkerInfo:
    return WorkerInfo(f"tls://{host}:{4000 + number}", str(number), 1, 2**30, host, 1.0)


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
        one.address: {"name": one.name, "nthreads": 1, "memory_limit": 0, "host": one.host, "nanny": "x"}
        for one in workers
    }
    monkeypatch.setattr(placement, "scheduler_info", lambda client: {"workers": facts, "services": {}})
    monkeypatch.setattr(capability, "measure", lambda members, pairs: (1.0,) * len(pairs))
    monkeypatch.setattr(remote, "gpu_reasons", lambda client, addresses: dict.fromkeys(addresses, "none"))

    class Elsewhere:
        cluster = None

    found = placement.placement(Elsewhere(), Cluster(scheduler="tls://10.0.0.1:8786"), members=object())  # type: ignore[arg-type]
    assert found.notes == notes
    for note in notes:
        assert "\n" not in note
        assert re.search(says, note)


def test_only_the_hosts_that_take_part_count() -> None:
    assert exposure([worker(0, "a"), worker(1, "a")]) == ()
    assert exposure([]) == ()
