"""Builds the state of one worker of a run: its place, its rounds and their sums, its memory, its losses."""

from collections import deque
from dataclasses import dataclass, field

from pipeline.events.types import Place, WorkerRounds
from pipeline.monitoring.state.bounds import INCIDENTS, WINDOWS, keep

WINDOW_SECONDS = 30.0
TIGHT = 0.8  # share of a worker's memory above which Dask pauses it


@dataclass
class Sums:
    """Sums of a worker's work in some rounds."""

    rounds: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    runqueue_seconds: float = 0.0
    bytes_sent: int | None = 0  # None: the system does not report it

    def add(self, event: WorkerRounds) -> None:
        self.rounds += max(1, event.round - event.first + 1)
        self.seconds += event.seconds
        self.cpu_seconds += event.cpu_seconds
        self.runqueue_seconds += event.runqueue_seconds
        if self.bytes_sent is not None:
            self.bytes_sent = None if event.bytes_sent is None else self.bytes_sent + event.bytes_sent


@dataclass
class WorkerState:
    """The state of one worker."""

    name: str
    place: Place | None = None  # its latest place
    round: int = 0
    heard: float = 0.0  # when its latest rounds ended, seconds since the epoch
    sums: Sums = field(default_factory=Sums)  # since the start
    memory_nbytes: int = 0  # resident, latest
    peak_memory_nbytes: int = 0
    gpu_memory_nbytes: int | None = None
    gpu_utilisation: float | None = None
    lost: int = 0  # how often it died or froze
    lost_at: float = 0.0
    joined_at: float = 0.0  # when it last got a place, or was reported back
    replaced_at: float = 0.0  # when the run continued with the same number of workers: with this one, or a replacement
    begins: list[float] = field(default_factory=list)  # time of its first event after each loss
    since: float = 0.0  # time of its first event
    windows: deque[WorkerRounds] = field(default_factory=deque)  # by time
    _forgotten: float = 0.0  # end of the youngest one that has left the window

    @property
    def away(self) -> bool:
        """Whether it was lost and has had no event since."""
        return self.lost_at > max(self.heard, self.joined_at)

    @property
    def missing(self) -> bool:
        """Whether it is lost and has not been replaced."""
        return self.away and self.lost_at > self.replaced_at

    @property
    def window(self) -> Sums:
        """Its rounds of about the last 30 s."""
        sums = Sums()
        for event in self.windows:
            sums.add(event)
        return sums

    def there(self, moment: float) -> None:
        """Records that it takes part at this moment."""
        self.joined_at = max(self.joined_at, moment)
        if moment > self.lost_at > max(self.begins, default=0.0):
            keep(self.begins, moment, INCIDENTS)

    def replaced(self, moment: float) -> None:
        """Records that the run continues with as many workers; whether with this one is not known yet."""
        self.replaced_at = max(self.replaced_at, moment)

    def gone(self, moment: float) -> None:
        """Records that it died or hung."""
        self.lost, self.lost_at = self.lost + 1, max(self.lost_at, moment)

    def take(self, event: WorkerRounds) -> None:
        """Counts the rounds, unless already counted: rounds older than the window count as counted."""
        if event.time <= self._forgotten or event in self.windows:
            return
        self.there(event.time)
        self.sums.add(event)
        self.peak_memory_nbytes = max(self.peak_memory_nbytes, event.memory_nbytes)
        self.windows.append(event)
        if event.time < self.heard:
            self.windows = deque(sorted(self.windows, key=lambda one: one.time))
        else:
            self.heard, self.round = event.time, event.round
            self.memory_nbytes = event.memory_nbytes
            self.gpu_memory_nbytes, self.gpu_utilisation = event.gpu_memory_nbytes, event.gpu_utilisation
        while len(self.windows) > WINDOWS or self.windows[0].time < self.heard - WINDOW_SECONDS:
            self._forgotten = self.windows.popleft().time
