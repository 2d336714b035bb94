"""Counts how often a training continued after a failure: one definition for pages, Prometheus and alarms.

Resuming from a checkpoint on request (`--resume`, emitted before planning) is not a failure, nor is continuing
with workers that have joined where none was lost.
"""

from pipeline.events.types import Event, Planned, Restarted, WorkerJoined, WorkerLost
from pipeline.monitoring.state.bounds import INCIDENTS


class Restarts:
    """Counts restarts; events may come in any order, and more than once."""

    def __init__(self) -> None:
        self.kept: list[Event] = []  # by time
        self._planned = False  # whether the events dropped from `kept` included the planning
        self._earlier = 0  # restarts

    def take(self, event: Event) -> None:
        """Applies any event."""
        if not isinstance(event, (Planned, WorkerLost, WorkerJoined, Restarted)) or event in self.kept:
            return
        self.kept.append(event)
        self.kept.sort(key=lambda turn: turn.time)
        if len(self.kept) > INCIDENTS:
            last = max((i for i, turn in enumerate(self.kept[:-1]) if isinstance(turn, Restarted)), default=0)
            gone, self.kept = self.kept[: last + 1], self.kept[last + 1 :]
            self._earlier += self._counted(gone)
            self._planned = True

    @property
    def count(self) -> int:
        """The number so far."""
        return self._earlier + self._counted(self.kept)

    def _counted(self, turns: list[Event]) -> int:
        count, planned, joined, lost = 0, self._planned, False, False
        for turn in turns:
            match turn:
                case Planned():
                    planned = True
                case WorkerLost():
                    planned = lost = True
                case WorkerJoined():
                    joined = True
                case Restarted():
                    count += planned and (lost or not joined)
                    joined = lost = False
        return count
