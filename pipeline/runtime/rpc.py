"""RPCs to scheduler and workers with deadlines and disconnect handling."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping

from distributed import Client

from pipeline.cluster.deadline import call_with_deadline
from pipeline.errors import ClusterError, PipelineError, SchedulerLostError

ANSWER_SECONDS = 5.0  # for the scheduler to answer one request; a late answer is not a lost scheduler (runtime.silence)
RECONNECT_SECONDS = 8.0  # for a lost connection to come back
CONNECTION_LOST = "scheduler-connection-lost"  # Dask's reason for cancelling all futures of a client


def require_client(client: object) -> None:
    """Raises ClusterError unless it is a Client that can be waited for: neither asynchronous nor closed."""
    if not isinstance(client, Client):
        kind = "None" if client is None else f"a {type(client).__name__}"
        raise ClusterError(
            f"client is {kind}: give a distributed.Client, e.g. that of `with pipeline.connect() as client`"
        )
    if client.asynchronous:
        raise ClusterError(
            "the client is asynchronous, and a training waits for its workers: give a client made with asynchronous=False"
        )
    if client.status in ("closed", "closing"):
        raise ClusterError("the client is closed: make a new one, e.g. with pipeline.connect()")


def call_if_connected[Answer](client: Client, ask: Callable[[], Answer]) -> Answer | None:
    """Returns what `ask` returns; None if the client has no connection to its scheduler, or loses it meanwhile.

    For clean-up at the end of a run, which must not hide the error that ended it; a run that needs an answer calls
    `ask` directly.  Waits as long as `ask` does while the connection is open (`call_with_deadline` does not).
    """
    if client.status != "running":
        return None  # Dask would wait for the scheduler to come back
    try:
        return ask()
    except OSError:
        return None
    except Exception:  # of many types, once a client has given up
        if client.status == "running":
            raise
        return None


def ask_workers(client: Client, asks: Mapping[str, Callable[..., object]], seconds: float) -> dict[str, object]:
    """Calls each worker's (address) function, all at once; leaves out those that fail or take too long."""
    answers: dict[str, object] = {}

    def ask(worker: str) -> None:
        run = functools.partial(client.run, asks[worker], workers=[worker], on_error="ignore")
        answers.update(call_if_connected(client, run) or {})

    call_with_deadline(seconds, "ask workers", *(functools.partial(ask, worker) for worker in asks))
    return dict(answers)


@contextlib.contextmanager
def translate_connection_errors(client: Client, known: Callable[[], str | None] = lambda: None) -> Iterator[None]:
    """Converts errors caused by losing the scheduler into SchedulerLostError.

    `known`: returns how the loss was noticed, if it was.
    """
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        lost = client.status != "running" or getattr(error, "reason", None) == CONNECTION_LOST
        if known() is None and not lost:
            raise
        raise scheduler_lost(known()) from error


def scheduler_lost(error: str | None = None) -> SchedulerLostError:
    """Returns the error; `error`: how the loss was noticed."""
    return SchedulerLostError(f"the scheduler was lost: {error or 'the connection is closed'}")
