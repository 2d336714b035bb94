"""What every step of a run needs to know."""

import contextlib
import traceback
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from distributed import Client

from pipeline.cluster.placement import Placement
from pipeline.events import Listener, Note
from pipeline.job import Job
from pipeline.parts import tagged
from pipeline.stages import TOPIC, Span, StageClock
from pipeline.topics import hearing


@dataclass
class Walk:
    """One run, from the job to its result."""

    client: Client
    job: Job
    placement: Placement
    listen: Listener
    clock: StageClock
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    notes: list[str] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)  # what the workers' tasks have logged

    def note(self, *messages: str) -> None:
        """Tells the user something once."""
        for message in messages:
            if message not in self.notes:
                self.notes.append(message)
                self.listen(Note(message=message))

    def span_everywhere(self, stage: str, workers: Iterable[str], start: float, stop: float) -> None:
        """Notes a stage that kept all these workers (addresses) busy."""
        self.spans.extend(Span(name, stage, start, stop) for name in self.names(workers))

    def names(self, addresses: Iterable[str]) -> tuple[str, ...]:
        """What the workers at these addresses are called."""
        names = {worker.address: worker.name for worker in self.placement.workers}
        return tuple(names[address] for address in addresses)

    @contextlib.contextmanager
    def hearing_spans(self) -> Iterator[None]:
        """Marks the tasks that are submitted while the context lasts as this run's, and collects their spans."""
        names = {worker.address: worker.name for worker in self.placement.workers}

        def hear(said: Mapping[str, Any]) -> None:
            if said["worker"] in names:
                worker = names[said["worker"]]
                self.spans.append(Span(worker, said["stage"], said["start"], said["stop"], said["cpu_seconds"]))

        with hearing(self.client, TOPIC, self.run, hear), tagged(self.run):
            yield


def let_go(error: BaseException | None) -> None:
    """Clears the frames that an error came through, which are over.

    Their futures would keep statistics, blocks and matrices on the workers as long as somebody holds the error, as an
    interactive session does.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
