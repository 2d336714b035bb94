"""Connects to a running scheduler within a limit, over TLS if files are given, and checks the code of its workers."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import distributed.comm as comms
from distributed import Client
from distributed.security import Security

from pipeline.cluster import interrupts, throwaway_tls, tls
from pipeline.cluster.launchers.launched import Launched, launched
from pipeline.cluster.same_code import check_same
from pipeline.cluster.scheduler_info import scheduler_info
from pipeline.config.job import Cluster
from pipeline.config.quantities import parse_duration
from pipeline.errors import ClusterError

TIMEOUT_SECONDS = 8  # to reach the scheduler; the error comes within 10
SILENT_SECONDS = 30  # for one that accepts connections but does not answer yet: its event loop may be busy
NAMED = ("tcp", "tls", "ws", "wss")  # protocols whose addresses contain a host name or IP address


@dataclass(frozen=True)
class ExistingLauncher:
    """Connects to a running scheduler."""

    section: Cluster
    held: Callable[[Callable[[], Client]], Callable[[], Client]]  # delays the start: HeadStart.held
    modules: tuple[str, ...] = ()  # that scheduler and workers must be able to import

    def start(self, meanwhile: Callable[[], object]) -> Launched:
        """Connects and checks the workers."""
        connect = self.held(lambda: attach(self.section, self.modules))
        return launched(interrupts.finish(connect, Client.close, meanwhile))

    def close(self, launched: Launched) -> None:
        """Closes the client; the cluster is not ours."""
        launched.client.close()


def attach(section: Cluster, modules: Sequence[str] = ()) -> Client:
    """Connects to `section.scheduler`.  ClusterError if it cannot be reached or its workers cannot do the work."""
    client = reach(section)
    try:
        _check(client, section, modules)
    except BaseException:
        client.close()
        raise
    return client


def reach(section: Cluster) -> Client:
    """Connects to `section.scheduler`, without checking its workers.  ClusterError if it cannot be reached."""
    address = str(section.scheduler)
    files = section.security
    security = throwaway_tls.find(address) if files is None or files == "auto" else tls.for_client(files)
    try:
        _look_up(address)
        seconds = SILENT_SECONDS if _accepts(address) else TIMEOUT_SECONDS
        asyncio.run(_knock(address, security or Security(), seconds))
        return Client(address, timeout=seconds, security=security, name="pipeline")
    except (OSError, ValueError, TypeError, RuntimeError) as error:  # OSError covers TimeoutError, TLS and names
        hint = "" if security else "; if it uses TLS, give cluster.security"
        raise ClusterError(f"cluster.scheduler = {address}: not reachable: {_first_line(error)}{hint}") from None


def _look_up(address: str) -> None:
    """Raises ClusterError if the address has an unknown host name: Dask would look it up again and again."""
    parts = urlsplit(address)
    host = parts.hostname
    try:
        if host and parts.scheme in NAMED:
            socket.getaddrinfo(host, None)
    except (socket.gaierror, UnicodeError) as error:  # UnicodeError: name too long
        why = getattr(error, "strerror", None) or _first_line(error)
        raise ClusterError(
            f"cluster.scheduler = {address}: not reachable: the host name {host} is not known ({why})"
        ) from None


def _accepts(address: str) -> bool:
    """Whether a process accepts connections there; False for an address without host and port."""
    try:
        parts = urlsplit(address)
        if parts.scheme not in NAMED or parts.port is None:
            return False
        with socket.create_connection((parts.hostname, parts.port), TIMEOUT_SECONDS):
            return True
    except (OSError, ValueError):
        return False


async def _knock(address: str, security: Security, seconds: float) -> None:
    """Connects and shakes hands once: Dask waits for ever for an answer of other software on that port."""
    arguments = security.get_connection_args("client")
    try:
        comm = await asyncio.wait_for(comms.connect(address, timeout=seconds, **arguments), seconds)
    except TimeoutError:
        raise OSError(f"no Dask scheduler answers within {seconds:g} s") from None
    await comm.close()


def _check(client: Client, section: Cluster, modules: Sequence[str]) -> None:
    """Raises ClusterError unless there are enough workers, each with the client's versions and these modules."""
    found = len(scheduler_info(client)["workers"])
    asked = 1 if section.workers == "auto" else section.workers
    if found == 0 and parse_duration(section.patience) > 0:
        pass  # `placement` waits for the first worker and can show that
    elif found < asked:
        raise ClusterError(
            f"cluster.workers = {section.workers}, but {section.scheduler} has {found}: "
            "start more workers, or ask for fewer"
        )
    check_same(client, str(section.scheduler), modules)


def gpu_reasons(client: Client, workers: list[str]) -> dict[str, str | None]:
    """Returns why the GPU of each worker cannot be used; None if it can."""
    found: dict[str, Any] = client.run(_gpu_reason, workers=workers)
    return found


def _gpu_reason() -> str | None:
    from pipeline.cluster.devices import probe_gpu

    return probe_gpu().reason_unusable


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
