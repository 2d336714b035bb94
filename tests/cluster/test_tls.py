"""TLS for the run's own cluster: all of its connections, no client without a certificate, bad files in one line."""

import asyncio
import contextlib
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed.comm as comms
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import Client

import pipeline
from pipeline.cluster import tls
from pipeline.cluster.memory import process_tree
from pipeline.cluster.scheduler_info import scheduler_info
from pipeline.config.job import Cluster, Job, Security
from pipeline.errors import ClusterError
from pipeline.run.connect import connect
from tests.cluster.conftest import SECURITY

ASK_SECONDS = 5


@pytest.fixture(scope="module")
def section(certificates: Security) -> Cluster:
    return Cluster(device="cpu", workers=2, threads=1, memory="1GiB", security=certificates)


@pytest.fixture(scope="module")
def client(section: Cluster) -> Iterator[Client]:
    with connect(section) as client:
        yield client


def addresses(client: Client) -> list[str]:
    """Of all Dask processes of the cluster."""
    info = scheduler_info(client)
    nannies = [facts["nanny"] for facts in info["workers"].values()]
    return [info["address"], *info["workers"], *nannies]


def answer(address: str, security: Security | None) -> str:
    """What comes of connecting: "connected", or the error's kind."""
    arguments = tls.for_client(security).get_connection_args("client") if security else {}

    async def knock() -> str:
        try:
            comm = await comms.connect(address, timeout=ASK_SECONDS, **arguments)
        except Exception as error:  # whatever says no
            return type(error).__name__
        await comm.close()
        return "connected"

    return asyncio.run(knock())


def test_every_dask_process_speaks_tls_only(client: Client, certificates: Security) -> None:
    everybody = addresses(client)
    assert len(everybody) == 5
    for address in everybody:
        assert address.startswith("tls://127.0.0.1:")
        assert answer(address, certificates) == "connected"
    for address in (everybody[0], everybody[1], everybody[3]):  # scheduler, a worker, a nanny
        assert answer(address.replace("tls://", "tcp://"), None) != "connected"
    assert client.scheduler.address.startswith("tls://")


def test_certificates_of_another_authority_are_refused(client: Client, certificates: Security, tmp_path: Path) -> None:
    theirs = self_signed(tmp_path)
    with_our_authority = certificates.model_copy(update={"cert_file": theirs.cert_file, "key_file": theirs.key_file})
    for address in addresses(client)[:2]:
        assert answer(address, with_our_authority) != "connected"


def test_the_web_servers_stay_on_loopback(client: Client) -> None:
    assert listening_hosts() == {"127.0.0.1"}


def listening_hosts() -> set[str]:
    """Where this process, and all that it started, listen."""
    return {
        connection.laddr.ip
        for pid in process_tree()
        for connection in psutil.Process(pid).net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }


def test_training_over_tls_makes_the_same_model(client: Client, section: Cluster, make_cluster: Any, tmp_path: Path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=4_000)
    for number in range(2):
        table = pa.table({"x": x, "y": rng.normal(size=4_000), "late": x + rng.normal(size=4_000) > 0.5})
        pq.write_table(table, tmp_path / f"{number}.parquet")
    made = []
    for name, where in (("tls", client), ("tcp", make_cluster(2, 1))):
        job = Job.parse(
            {
                "data": {"source": str(tmp_path / "*.parquet"), "target": "late"},
                "training": {"rounds": 5},
                "cluster": section.model_dump(exclude_defaults=True),
                "output": {"model": str(tmp_path / name), "report": False},
            }
        )
        made.append(bytes(pipeline.train(where, job).model.booster_bytes))
    assert made[0] == made[1]


def self_signed(folder: Path, *extra: str) -> Security:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "1",
         "-subj", "/CN=x", "-keyout", folder / "their-key.pem", "-out", folder / "their.pem", *(extra or ["-nodes"])],
        check=True, capture_output=True,
    )  # fmt: skip
    their = str(folder / "their.pem")
    return Security(ca_file=their, cert_file=their, key_file=str(folder / "their-key.pem"))


def one_side_only(certificates: Security, folder: Path) -> str:
    """A certificate of the authority that is for clients alone."""
    authority = Path(certificates.ca_file)
    (folder / "usage").write_text("extendedKeyUsage = clientAuth\n")
    subprocess.run(
        ["openssl", "x509", "-req", "-in", authority.with_name("request.pem"), "-CA", authority, "-days", "1",
         "-CAkey", authority.with_name("ca-key.pem"), "-CAcreateserial", "-extfile", folder / "usage", "-out", folder / "one.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return str(folder / "one.pem")


def wrong(kind: str, good: Security, folder: Path) -> Security:
    """Files that cannot be used."""
    (folder / "text").write_text("hello")
    if kind == "missing":
        return good.model_copy(update={"ca_file": str(folder / "nowhere.pem")})
    if kind == "folder":
        return good.model_copy(update={"cert_file": str(folder)})
    if kind == "no path":
        return good.model_copy(update={"cert_file": "a\0b"})
    if kind == "content":
        return good.model_copy(update={"key_file": Path(good.key_file).read_text()})
    if kind == "no PEM":
        return good.model_copy(update={"ca_file": str(folder / "text")})
    if kind == "certificate no PEM":
        return good.model_copy(update={"cert_file": str(folder / "text")})
    if kind == "key is a certificate":
        return good.model_copy(update={"key_file": good.cert_file})
    if kind == "another's key":
        return good.model_copy(update={"key_file": self_signed(folder).key_file})
    if kind == "pass phrase":
        return self_signed(folder, "-passout", "pass:sesame")
    if kind == "another authority":
        return good.model_copy(update={"ca_file": self_signed(folder).ca_file})
    assert kind == "one side only"
    return good.model_copy(update={"cert_file": one_side_only(good, folder)})


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("missing", r"ca_file = .*nowhere\.pem: No such file"),
        ("folder", r"cert_file = .*: Is a directory"),
        ("no path", "cert_file = .*null"),
        ("content", "key_file: give the path of a file"),
        ("no PEM", r"ca_file = .*text: holds no certificate"),
        ("certificate no PEM", "cluster.security: not a certificate and its key .*text"),
        ("key is a certificate", "cluster.security: not a certificate and its key"),
        ("another's key", "cluster.security: key values mismatch"),
        ("pass phrase", r"key_file = .*: has a pass phrase"),
        ("another authority", "cluster.security: .*(issuer|verif)"),
        ("one side only", "cluster.security: .*(purpose|verif)"),
    ],
)
def test_bad_files_are_refused_in_one_line_before_anything_starts(
    kind: str, says: str, certificates: Security, tmp_path: Path
) -> None:
    before = set(process_tree())
    with pytest.raises(ClusterError, match=says) as caught:
        connect(Cluster(device="cpu", workers=1, security=wrong(kind, certificates, tmp_path))).__enter__()
    assert "\n" not in str(caught.value)
    assert "PRIVATE" not in str(caught.value)
    assert set(process_tree()) <= before


def test_a_certificate_for_clients_alone_does_for_a_client(certificates: Security, tmp_path: Path) -> None:
    assert tls.for_client(wrong("one side only", certificates, tmp_path)).require_encryption


@pytest.mark.slow
def test_the_lines_for_a_scheduler_of_ones_own(certificates: Security) -> None:
    """SECURITY.md's commands, on this machine instead of 10.0.0.1, and a client with the job's files."""
    block = next(
        block for block in re.findall(r"```sh\n(.*?)```", SECURITY.read_text(), re.S) if "dask scheduler" in block
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    text = block.replace("\\\n", " ").replace("10.0.0.1:8786", f"127.0.0.1:{port}")
    text = re.sub(r"10\.0\.0\.\d", "127.0.0.1", text)
    scheduler, worker = (shlex.split(line) for line in text.strip().splitlines())
    address = f"tls://127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:
        for words in ([*scheduler, "--port", port], worker):
            process = subprocess.Popen(
                [sys.executable, "-m", *words], cwd=Path(certificates.ca_file).parent,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            stack.callback(process.wait)
            stack.callback(process.terminate)
        security = tls.for_client(certificates)
        with Client(address, security=security, timeout=30, set_as_default=False) as waiting:
            waiting.wait_for_workers(1, timeout=30)
        section = Cluster(device="cpu", scheduler=address, security=certificates)
        with connect(section) as client:
            assert client.submit(sum, [1, 2]).result() == 3
        assert listening_hosts() == {"127.0.0.1"}
