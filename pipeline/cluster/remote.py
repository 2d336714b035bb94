"""A running scheduler: reached within ten seconds, over TLS where files are given, with workers that have our code."""

import asyncio
import socket
from typing import Any
from urllib.parse import urlsplit

import distributed.comm as comms
from distributed import Client
from distributed.security import Security

from pipeline.cluster import throwaway_tls, tls
from pipeline.cluster.identity import scheduler_info
from pipeline.errors import ClusterError
from pipeline.job import Cluster

TIMEOUT_SECONDS = 8  # to reach the scheduler; the user is told within 10
NAMED = ("tcp", "tls", "ws", "wss")  # protocols whose addresses have the name or number of a host


def attach(section: Cluster) -> Client:
    """A client of `section.scheduler`; ClusterError where it cannot be reached or its workers cannot do the work."""
    client = reach(section)
    try:
        check(client, section)
    except BaseException:
        client.close()
        raise
    return client


def reach(section: Cluster) -> Client:
    """A client of `section.scheduler`, whatever its workers; ClusterError where it cannot be reached."""
    address = str(section.scheduler)
    files = section.security
    security = throwaway_tls.find(address) if files is None or files == "auto" else tls.for_client(files)
    try:
        _look_up(address)
        asyncio.run(_knock(address, security or Security()))
        return Client(address, timeout=TIMEOUT_SECONDS, security=security, name="pipeline")
    except (OSError, ValueError, TypeError, RuntimeError) as error:  # OSError covers TimeoutError, TLS and names
        hint = "" if security else "; if it uses TLS, give cluster.security"
        raise ClusterError(f"cluster.scheduler = {address}: not reachable: {_first_line(error)}{hint}") from None


def _look_up(address: str) -> None:
    """ClusterError where the address has a host's name that is not known: Dask would ask for it again and again."""
    parts = urlsplit(address)
    host = parts.hostname
    try:
        if host and parts.scheme in NAMED:
            socket.getaddrinfo(host, None)
    except (socket.gaierror, UnicodeError) as error:  # UnicodeError: longer than a name may be
        why = getattr(error, "strerror", None) or _first_line(error)
        raise ClusterError(
            f"cluster.scheduler = {address}: not reachable: the host name {host} is not known ({why})"
        ) from None


async def _knock(address: str, security: Security) -> None:
    """Connects and shakes hands once: Dask waits for ever for the answer of a port where something else listens."""
    arguments = security.get_connection_args("client")
    try:
        comm = await asyncio.wait_for(comms.connect(address, timeout=TIMEOUT_SECONDS, **arguments), TIMEOUT_SECONDS)
    except TimeoutError:
        raise OSError(f"no Dask scheduler answers within {TIMEOUT_SECONDS} s") from None
    await comm.close()


def check(client: Client, section: Cluster) -> None:
    """ClusterError unless there are enough workers and each has this pipeline, with the client's versions."""
    found = len(scheduler_info(client)["workers"])
    asked = 1 if section.workers == "auto" else section.workers
    if found < asked:
        raise ClusterError(
            f"cluster.workers = {section.workers}, but {section.scheduler} has {found}: "
            "start more workers, or ask for fewer"
        )
    ours = _versions()
    lacking: dict[str, list[str]] = {}
    for address, theirs in client.run(_versions).items():
        for name in ours:
            if theirs[name] != ours[name]:
                text = f"{name} {theirs[name] or 'not installed'} (here {ours[name]})"
                lacking.setdefault(text, []).append(address)
    if lacking:
        parts = [f"{text} on {len(places)} of {found} workers, e.g. {places[0]}" for text, places in lacking.items()]
        raise ClusterError(f"workers of {section.scheduler} do not match: {'; '.join(parts)}")


def _versions() -> dict[str, str | None]:
    """Versions that have to be the same on every side, None for what is not installed."""
    import importlib.metadata
    import importlib.util
    import platform

    found: dict[str, str | None] = {"python": ".".join(platform.python_version_tuple()[:2])}
    for package in ("distributed", "numpy", "pyarrow", "xgboost", "pipeline"):
        found[package] = None
        if importlib.util.find_spec(package) is not None:
            names = {"pipeline": "dask-train-pipeline"}
            try:
                found[package] = importlib.metadata.version(names.get(package, package))
            except importlib.metadata.PackageNotFoundError:
                found[package] = "without a version"  # a folder on the path, not an installed package
    return found


# Workers without this package could not unpickle a reference to it: functions of `__main__` travel by value.
_versions.__module__ = "__main__"


def gpu_reasons(client: Client, workers: list[str]) -> dict[str, str | None]:
    """Why the GPU of each worker cannot be used; None where it can."""
    found: dict[str, Any] = client.run(_gpu_reason, workers=workers)
    return found


def _gpu_reason() -> str | None:
    from pipeline.cluster.devices import probe_gpu

    return probe_gpu().reason_unusable


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
