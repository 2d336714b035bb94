"""Finds workers that cannot open connections to each other, though all of them reach the scheduler.

XGBoost's ranks connect to each other at ports that the system chooses.  A firewall or a broken route between two of
them leaves all ranks in a collective that never ends, while every worker keeps sending heartbeats.
"""

import asyncio
import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from distributed import Client
from distributed.comm.addressing import get_address_host

from pipeline.runtime.rpc import ask_workers

CONNECT_SECONDS = 5.0  # for a connection between two workers
ANSWER_SECONDS = 10.0  # for a worker to report what it reached
LISTEN_SECONDS = 30.0  # that the probe's ports stay open

Pair = tuple[str, str]  # addresses
Ask = Callable[[Client, Mapping[str, Callable[..., object]], float], Mapping[str, object]]  # as `ask_workers`


def unreachable_pairs(client: Client, workers: Sequence[str], ask: Ask = ask_workers) -> list[Pair]:
    """Returns the pairs of these workers (addresses) of which one cannot connect to a new port of the other.

    Workers that do not answer in time are in no pair: `membership` detects their silence.
    """
    opening = {worker: functools.partial(_open_port, get_address_host(worker)) for worker in workers}
    ports = ask(client, opening, ANSWER_SECONDS)
    targets = {worker: (get_address_host(worker), int(port)) for worker, port in ports.items() if isinstance(port, int)}
    asks = {
        worker: functools.partial(failing, {other: at for other, at in targets.items() if other != worker})
        for worker in targets
    }
    answers = ask(client, asks, ANSWER_SECONDS)
    found = {
        tuple(sorted((worker, other), key=list(workers).index))
        for worker, failed in answers.items()
        if isinstance(failed, list)
        for other in failed
    }
    return sorted((a, b) for a, b in found)


def left_out(pairs: Sequence[Pair], workers: Sequence[str]) -> dict[str, str]:
    """Returns the workers to leave out so that all others reach each other, each with a worker that it does not reach.

    The worker in most pairs goes first; of equals the last in `workers`.

    >>> left_out([("a", "c"), ("b", "c")], ["a", "b", "c"])
    {'c': 'a'}
    >>> left_out([("a", "b")], ["a", "b", "c"])
    {'b': 'a'}
    """
    left, found = list(pairs), dict[str, str]()
    while left:
        times = Counter(worker for pair in left for worker in pair)
        worst = max(times, key=lambda worker: (times[worker], list(workers).index(worker)))
        found[worst] = next(a if b == worst else b for a, b in left if worst in (a, b))
        left = [pair for pair in left if worst not in pair]
    return found


async def _open_port(host: str) -> int:
    """On a worker: opens a port that accepts connections for LISTEN_SECONDS."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), host, 0)
    asyncio.get_running_loop().call_later(LISTEN_SECONDS, server.close)
    port: int = server.sockets[0].getsockname()[1]
    return port


async def failing(targets: Mapping[str, tuple[str, int]]) -> list[str]:
    """On a worker: returns the targets to which no connection can be opened."""
    reached = await asyncio.gather(*(reaches(host, port) for host, port in targets.values()))
    return [worker for worker, good in zip(targets, reached, strict=True) if not good]


async def reaches(host: str, port: int) -> bool:
    """Whether a connection can be opened in time."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), CONNECT_SECONDS)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
