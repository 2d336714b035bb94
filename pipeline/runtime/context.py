"""Holds the per-run context that all stages share."""

import contextlib
import traceback
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from distributed import Client

from pipeline.config.job import Job
from pipeline.errors import StrictError
from pipeline.events.findings import UserNote, findings, text_of
from pipeline.events.topics import WORKER_EVENTS
from pipeline.events.types import Event, EventHandler, Note, WorkerLost, discard
from pipeline.planning.memory import WORKER_NBYTES
from pipeline.planning.plan import Plan
from pipeline.planning.storage_plan import StoragePlan
from pipeline.runtime.channel import subscribe
from pipeline.runtime.membership import WorkerMembership
from pipeline.runtime.placement import Placement
from pipeline.runtime.task_ledger import annotate_run
from pipeline.runtime.timing import Span, StageTimer


def new_run() -> str:
    """Returns a new run's id."""
    return uuid.uuid4().hex[:12]


@dataclass
class RunContext:
    """One run, from the job to its result."""

    client: Client
    membership: WorkerMembership
    job: Job
    placement: Placement  # the workers that take part now
    handlers: list[EventHandler]  # receive its events, in this order
    clock: StageTimer
    run: str = field(default_factory=new_run)
    notes: list[UserNote] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)  # logged by the workers' tasks
    incidents: list[Event] = field(default_factory=list)  # losses, restarts and other interruptions
    round: int = 0  # the latest round reported
    publish: EventHandler = discard  # sends an event to the scheduler
    plan: StoragePlan | None = None  # the latest; None until the workers are known
    resource_plan: Plan | None = None  # made before the first task; None where the rows were prepared before

    @property
    def planned_nbytes(self) -> int:
        """The expected peak of a worker; without a plan that of one that holds no rows."""
        return WORKER_NBYTES if self.plan is None else self.plan.worker.planned_nbytes

    def emit(self, event: Event) -> None:
        """Sends an event to the scheduler, and to the handlers.

        In this order: an exception in the caller's handler must not suppress an event.
        """
        self.publish(event)
        self.relay(event)

    def relay(self, event: Event) -> None:
        """Passes an event that the scheduler already has (workers send theirs to it) to the handlers."""
        for handler in self.handlers:
            handler(event)

    def emit_note(self, *notes: UserNote) -> None:
        """Emits each note once.  StrictError if findings are among them and `data.strict` is set."""
        if self.job.data.strict and (found := findings(notes)):
            raise StrictError(f"{'; '.join(finding.message for finding in found)} (an error by data.strict)")
        for note in notes:
            if note not in self.notes:
                self.notes.append(note)
                self.emit(Note(message=text_of(note)))

    def emit_incident(self, event: Event) -> None:
        """Emits an incident and keeps it for the report."""
        self.incidents.append(event)
        self.emit(event)

    def worker_lost(self, address: str, reason: str) -> None:
        """Emits WorkerLost if the worker belongs to this run."""
        if any(worker.address == address for worker in self.placement.workers):
            stage = self.clock.current or "the run"
            self.emit_incident(
                WorkerLost(worker=self.membership.names[address], stage=stage, round=self.round, reason=reason)
            )

    def span_everywhere(self, stage: str, workers: Iterable[str], start: float, stop: float) -> None:
        """Records a stage that kept all these workers (addresses) busy."""
        self.spans.extend(Span(name, stage, start, stop) for name in self.names(workers))

    def names(self, addresses: Iterable[str]) -> tuple[str, ...]:
        """Returns the names of the workers at these addresses."""
        return tuple(self.membership.names[address] for address in addresses)

    @contextlib.contextmanager
    def collect_spans(self) -> Iterator[None]:
        """Marks the tasks submitted while the context lasts as this run's, and collects their spans."""

        def hear(said: Mapping[str, Any]) -> None:
            if "stage" not in said:
                return  # for another handler of this subscription
            worker = self.membership.names.get(said["worker"], said["worker"])
            self.spans.append(Span(worker, said["stage"], said["start"], said["stop"], said["cpu_seconds"]))

        with subscribe(self.client, WORKER_EVENTS, self.run, hear), annotate_run(self.run):
            yield


def clear_exception_frames(error: BaseException | None) -> None:
    """Clears traceback frames so that their locals (futures) are released.

    Those futures would keep statistics, blocks and matrices on the workers as long as the error is referenced, as an
    interactive session does.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
