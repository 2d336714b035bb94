"""What is known of one worker of a run: its place, its rounds and their sums, its memory, its losses."""

from collections import deque
from dataclasses import dataclass, field

from pipeline.events.types import Place, WorkerRounds
from pipeline.monitoring.state.bounds import INCIDENTS, WINDOWS, keep

WINDOW_SECONDS = 30.0
TIGHT = 0.8  # of a worker's memory: from there on Dask pauses it


@dataclass
class Sums:
    """What a worker did in some rounds."""

    rounds: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    runqueue_seconds: float = 0.0
    bytes_sent: int | None = 0  # None: the system does not tell

    def add(self, event: WorkerRounds) -> None:
        self.rounds += max(1, event.round - event.first + 1)
        self.seconds += event.seconds
        self.cpu_seconds += event.cpu_seconds
        self.runqueue_seconds += event.runqueue_seconds
        if self.bytes_sent is not None:
            self.bytes_sent = None if event.bytes_sent is None else self.bytes_sent + event.bytes_sent


@dataclass
class WorkerState:
    """What is known of one worker."""

    name: str
    place: Place | None = None  # what it was given last
    round: int = 0
    heard: float = 0.0  # when its latest rounds ended, seconds since the epoch
    sums: Sums = field(default_factory=Sums)  # since the start
    memory_nbytes: int = 0  # resident, latest
    peak_memory_nbytes: int = 0
    gpu_memory_nbytes: int | None = None
    gpu_utilisation: float | None = None
    lost: int = 0  # how often it died or froze
    lost_at: float = 0.0
    joined_at: float = 0.0  # when it was last given a place, or said to be back
    replaced_at: float = 0.0  # when as many went on as before: with it, or with another in its place
    begins: list[float] = field(default_factory=list)  # when it was first heard of after each loss
    since: float = 0.0  # when it was first heard of
    windows: deque[WorkerRounds] = field(default_factory=deque)  # by time
    _forgotten: float = 0.0  # when the youngest ended that has left the window

    @property
    def away(self) -> bool:
        """It was lost and has not been heard of since."""
        return self.lost_at > max(self.heard, self.joined_at)

    @property
    def missing(self) -> bool:
        """It is away, and nobody has come in its place."""
        return self.away and self.lost_at > self.replaced_at

    @property
    def window(self) -> Sums:
        """Its rounds of the last 30 s or so."""
        sums = Sums()
        for event in self.windows:
            sums.add(event)
        return sums

    def there(self, moment: float) -> None:
        """It takes part at this moment."""
        self.joined_at = max(self.joined_at, moment)
        if moment > self.lost_at > max(self.begins, default=0.0):
            keep(self.begins, moment, INCIDENTS)

    def replaced(self, moment: float) -> None:
        """As many go on as before; whether it is one of them is not known yet."""
        self.replaced_at = max(self.replaced_at, moment)

    def gone(self, moment: float) -> None:
        """It died or froze."""
        self.lost, self.lost_at = self.lost + 1, max(self.lost_at, moment)

    def take(self, event: WorkerRounds) -> None:
        """Counts the rounds, unless they have been: what is older than the window counts as such."""
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
