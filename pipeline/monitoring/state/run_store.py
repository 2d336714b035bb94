"""Holds the in-memory state of all known runs, read by pages, Prometheus and alarms.

No Dask and no Bokeh: `RunStore.apply` may be called in a scheduler, in a test or from a recorded file.  Events may come in
any order and more than once: of two about the same thing the younger (`Event.time`) counts.  So all times
must be of one clock that is never set back.  A scheduler's plugin and the alarms stamp arriving events with such a
clock; a file
has the times of its client's clock, in the order in which events came, and steps back in them are compensated.
"""

import dataclasses
from collections import defaultdict, deque
from collections.abc import Iterator

from pipeline.events.types import Evaluated, Event, Failed, Saved, Started
from pipeline.monitoring.state.run_state import RunState

FINISHED_RUNS = 8
OPEN_RUNS = 24  # of a run still open the client may have died silently
# Seconds by which an event of a file must be older than an earlier one to count as a clock set back; threads write at
# nearly the same time.
SET_BACK_SECONDS = 5.0


class RunStore:
    """The known runs, newest last; the oldest are dropped."""

    def __init__(self, *, recorded: bool = False) -> None:
        """`recorded`: events come from a file, in their order."""
        self.recorded = recorded
        self.runs: dict[str, RunState] = {}
        self.dropped = 0  # messages that were not valid events
        self._set_back: defaultdict[str, float] = defaultdict(float)  # seconds, by run
        self._gone: deque[str] = deque(maxlen=1_000)  # dropped runs, so that a late event does not bring one back

    def apply(self, run: str, event: Event) -> None:
        """Adds an event of the run with this id."""
        if run not in self.runs:
            if run in self._gone:
                return
            self.runs[run] = RunState(run, recorded=self.recorded)
        self.runs[run].apply(self._straight(run, event) if self.recorded else event)
        if isinstance(event, (Started, Saved, Failed, Evaluated)) or len(self.runs) > FINISHED_RUNS + OPEN_RUNS:
            self._forget()

    def read_no_further(self, why: str) -> None:
        """Marks the runs' recorded file as damaged."""
        for run in self.runs.values():
            run.read_no_further(why)

    def newest(self) -> RunState | None:
        """The run that started last."""
        return max(self.runs.values(), key=lambda run: run.started, default=None)

    def _straight(self, run: str, event: Event) -> Event:
        """The event with its time corrected for clock steps before it."""
        behind = self.runs[run].heard - (event.time + self._set_back[run])
        if behind > SET_BACK_SECONDS:
            self._set_back[run] += behind
        back = self._set_back[run]
        return dataclasses.replace(event, time=event.time + back) if back else event

    def _forget(self) -> None:
        for run in [*self._beyond(open_=False, limit=FINISHED_RUNS), *self._beyond(open_=True, limit=OPEN_RUNS)]:
            del self.runs[run.name]
            self._set_back.pop(run.name, None)
            self._gone.append(run.name)

    def _beyond(self, *, open_: bool, limit: int) -> Iterator[RunState]:
        """The runs with the oldest last event, beyond as many as are kept."""
        runs = [run for run in self.runs.values() if (run.state == "running") == open_]
        yield from sorted(runs, key=lambda run: run.heard)[: max(0, len(runs) - limit)]
