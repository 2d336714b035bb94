"""Opens and closes a run on the processes of its cluster, and lists what runs keep there: the client's side."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distributed import Client
from distributed.protocol.pickle import dumps

from pipeline.cluster.deadline import call_with_deadline
from pipeline.cluster.scheduler_info import scheduler_info
from pipeline.runtime import scheduler_session, worker_session
from pipeline.runtime.rpc import ask_workers, call_if_connected

CLOSE_SECONDS = 5.0  # for workers to drop what a run left
ANSWER_SECONDS = 10.0  # for a worker to list what it keeps


def open_run(client: Client, run: str) -> None:
    """Registers a run on the scheduler, which has the workers drop it if its client is killed.

    Drops what earlier runs of such clients have left, where the scheduler could not.
    """
    arguments = ("open_run", run, client.id, dumps(worker_session.close_run))
    for dead in client.run_on_scheduler(scheduler_session.call, *arguments):
        client.run(worker_session.close_run, dead, on_error="ignore")
        client.run_on_scheduler(scheduler_session.call, "close_run", dead)


def close_run(client: Client, run: str) -> None:
    """Has the workers and the scheduler of a running cluster, which outlive the run, drop what the run left there.

    A worker that does not answer must not delay the run's result or error.
    """

    def ask() -> None:
        client.run(worker_session.close_run, run, on_error="ignore")
        client.run_on_scheduler(scheduler_session.call, "close_run", run)

    call_with_deadline(CLOSE_SECONDS, "close run", functools.partial(call_if_connected, client, ask))


def is_open(client: Client, run: str) -> bool:
    """Whether the run is registered on the scheduler, which it is until all of it is done, the report too."""
    kept: Any = client.run_on_scheduler(scheduler_session.call, "contents")
    return any(known == run for known, _ in kept)


@dataclass(frozen=True)
class RunContent:
    """One thing that a run keeps in a process."""

    run: str
    what: str
    nbytes: int | None  # None: unknown, or too few to count


def held(client: Client) -> tuple[list[RunContent], Mapping[str, list[RunContent] | None]]:
    """Returns what runs keep on the scheduler, and on each worker by name; None for a worker that does not answer."""
    kept: Any = client.run_on_scheduler(scheduler_session.call, "contents")
    workers = scheduler_info(client)["workers"]
    answers: Any = ask_workers(client, dict.fromkeys(workers, worker_session.contents_on), ANSWER_SECONDS)
    by_worker = {
        str(facts["name"]): [RunContent(*each) for each in answers[address]] if address in answers else None
        for address, facts in workers.items()
    }
    return [RunContent(run, what, None) for run, what in kept], by_worker
