"""`cluster.security = "auto"`: a certificate for one cluster, found by this user's other programs only."""

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed.comm as comms
import pytest
from distributed import Client
from distributed.security import Security

from pipeline.cluster import throwaway_tls
from pipeline.cluster.launchers import existing
from pipeline.cluster.scheduler_info import scheduler_info
from pipeline.config.fields import job_fields
from pipeline.config.job import Cluster, Job
from pipeline.errors import ClusterError
from pipeline.run.connect import connect

SECTION = Cluster(device="cpu", workers=1, threads=1, memory="1GiB", security="auto")


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("runtime")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        yield folder / "dask-train-pipeline" / "clusters"


@pytest.fixture(scope="module")
def client(runtime: Path) -> Iterator[Client]:
    with connect(SECTION) as client:
        yield client
    assert not [*runtime.iterdir()]


def knock(address: str, security: Security | None) -> str:
    """What comes of connecting: "connected", or the error's kind."""

    async def connected() -> str:
        arguments = security.get_connection_args("client") if security else {}
        try:
            comm = await comms.connect(address, timeout=5, **arguments)
        except Exception as error:  # whatever says no
            return type(error).__name__
        await comm.close()
        return "connected"

    return asyncio.run(connected())


def test_only_holders_of_the_certificate_can_connect(client: Client, runtime: Path) -> None:
    info = scheduler_info(client)
    address = info["address"]
    other = throwaway_tls.make()
    for one in (address, *info["workers"], *(facts["nanny"] for facts in info["workers"].values())):
        assert one.startswith("tls://127.0.0.1:")
        assert knock(one, throwaway_tls.find(address)) == "connected"
        assert knock(one, other) != "connected"
        assert knock(one.replace("tls://", "tcp://"), None) != "connected"
    assert client.submit(sum, [1, 2]).result() == 3


def test_other_programs_of_this_user_find_it(client: Client, runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = scheduler_info(client)["address"]
    assert throwaway_tls.running() == [address]  # what `pipeline doctor` says
    (path,) = runtime.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert runtime.stat().st_mode & 0o777 == 0o700
    for security in (None, "auto"):
        there = existing.reach(Cluster(scheduler=address, security=security))  # as `pipeline watch` does
        there.close()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime / "elsewhere"))
    with pytest.raises(ClusterError, match=r"give cluster\.security"):
        existing.reach(Cluster(scheduler=address))


def test_a_file_that_others_could_have_written_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    address = "tls://127.0.0.1:4"
    security = throwaway_tls.make()
    throwaway_tls.publish(address, security)
    found = throwaway_tls.find(address)
    assert found is not None
    assert found.get_tls_config_for_role("client") == security.get_tls_config_for_role("client")
    assert "PRIVATE KEY" not in repr(security)
    (path,) = (tmp_path / "dask-train-pipeline" / "clusters").iterdir()
    for place, mode in ((path, 0o644), (path, 0o660), (path.parent, 0o755)):
        before = place.stat().st_mode
        place.chmod(mode)
        assert throwaway_tls.find(address) is None
        place.chmod(before)
    for other in ("tls://127.0.0.1:5", "tcp://127.0.0.1:4", "tls://10.0.0.1:4", "nonsense"):
        assert throwaway_tls.find(other) is None
    path.write_text("{}")
    assert throwaway_tls.find(address) is None
    path.unlink()
    os.symlink(tmp_path / "theirs.json", path)
    assert throwaway_tls.find(address) is None


def test_what_killed_programs_have_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    files = tmp_path / "dask-train-pipeline" / "clusters"
    ended = subprocess.Popen(["true"])
    ended.wait()
    throwaway_tls.publish("tls://127.0.0.1:4", throwaway_tls.make())
    said = json.loads((files / "4.json").read_text())
    (files / "4.json").write_text(json.dumps({**said, "pid": ended.pid}))
    throwaway_tls.publish("tls://127.0.0.1:5", throwaway_tls.make())
    assert [path.name for path in files.iterdir()] == ["5.json"]
    throwaway_tls.withdraw("tls://127.0.0.1:5")
    throwaway_tls.withdraw("tls://127.0.0.1:5")


@pytest.mark.parametrize(("command", "message"), [("no-openssl", "not installed"), ("false", "made no certificate")])
def test_without_openssl(command: str, message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        throwaway_tls.make(command)


def test_the_job_says_it_in_one_word_or_by_files() -> None:
    def section(*settings: str) -> Any:
        return Job.parse({"data": {"source": "x"}}, settings=settings).cluster.security

    assert section("cluster.security=auto") == "auto"
    files = section(*(f"cluster.security.{name}_file=x" for name in ("ca", "cert", "key")))
    assert files.ca_file == "x"
    assert section() is None
    assert {"cluster.security", "cluster.security.ca_file"} <= job_fields().keys()
