"""Describes how the cluster of a client was started: the only place where the package finds that out.

A launcher starts a cluster or connects to one.  `launched(client)` gives the same description for any client, also for
one that the user has made.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from distributed import Client, LocalCluster

from pipeline.cluster.launchers import cuda

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class LocalWorker:
    """What the nanny of one of this process's workers knows."""

    name: str
    exit_codes: dict[str, int]  # of its processes that ended: address -> code, in the order in which they ended
    memory_limit_nbytes: int | None


@dataclass(frozen=True)
class Launched:
    """A client, and how its cluster was started."""

    client: Client
    local: bool  # whether this process started the workers, on this machine, and closes them
    device: Device | None  # that the workers were started for; None: they have to be asked

    def workers(self) -> list[LocalWorker]:
        """The workers of a local cluster, among them those that are being restarted; empty for other clusters."""
        if not self.local:
            return []
        found = getattr(self.client.cluster, "workers", {}).items()
        return [_worker(name, nanny) for name, nanny in found if hasattr(nanny, "exits")]

    def exit_code(self, address: str) -> int | None:
        """How the worker process at this address ended, if that is known: a negative number is a signal."""
        found = [worker.exit_codes[address] for worker in self.workers() if address in worker.exit_codes]
        return found[-1] if found else None

    @property
    def more_memory(self) -> str:
        """Advice for workers that need more memory than they may have."""
        return more_memory(local=self.local)


def more_memory(*, local: bool) -> str:
    """Advice for workers that need more memory than they may have; `local`: this process starts them."""
    if local:
        return "raise cluster.memory, or use fewer workers with more memory each"
    return "give the workers more (dask worker --memory-limit)"


class Launcher(Protocol):
    """Starts a cluster, or connects to one."""

    def start(self, meanwhile: Callable[[], object]) -> Launched:
        """Returns when the cluster is there; calls `meanwhile` until then.  ClusterError for what it cannot provide."""

    def close(self, launched: Launched) -> None:
        """Closes the client, and what `start` started."""


def launched(client: Client) -> Launched:
    """Describes the cluster of a client, which may be the user's own."""
    cluster = client.cluster
    if not isinstance(cluster, LocalCluster):  # none, or one whose workers run elsewhere: SSHCluster, SLURMCluster
        return Launched(client, local=False, device=None)
    return Launched(client, local=True, device="cuda" if cuda.started(cluster) else "cpu")


def _worker(name: Any, nanny: Any) -> LocalWorker:
    manager = getattr(nanny, "memory_manager", None)
    return LocalWorker(str(name), dict(nanny.exits), getattr(manager, "memory_limit", None))
