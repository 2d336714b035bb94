"""Hears a run's events, tells its alarms, and does what the job says about each."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.config.alarms import LIVE, NO_PROGRESS, Condition, parse
from pipeline.config.job import Alarm
from pipeline.errors import AlarmError
from pipeline.events.types import Event, Note, Restarted, RoundDone, Saved
from pipeline.monitoring.alarms.episodes import Episode, step
from pipeline.monitoring.alarms.post import Poster
from pipeline.monitoring.alarms.readings import Live, Readings, Values

TICK_SECONDS = 1.0


@dataclass(frozen=True)
class Fired:
    """An alarm that is to be told now."""

    alarm: Alarm
    condition: Condition  # the alarm's
    run: str
    value: float
    round: int  # the last one heard of; 0 before the first

    @property
    def line(self) -> str:
        """
        >>> alarm = Alarm(when="pe < 0.6 for 60s")
        >>> Fired(alarm, parse(alarm.when), "1f0c", 0.52345, 37).line
        'pe < 0.6 for 60s (now 0.52345, round 37)'
        """
        now = f"{self.value:.0f} s" if self.condition.quantity == NO_PROGRESS else f"{self.value:,.5g}"
        return f"{self.condition.text} (now {now}{f', round {self.round}' if self.round else ''})"


class Alarms:
    """The alarms of one run: a listener of its events, and a context manager.

    It never raises where it is called as a listener, for that may be any thread.  What ends the run, an alarm with
    do = "exit" or an error of `tell`, is raised by `check`, which the run's own thread calls while it waits.
    """

    def __init__(
        self, alarms: Sequence[Alarm], tell: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`tell` is told in a line what alarms have to say, in any thread."""
        self._alarms = [(alarm, parse(alarm.when)) for alarm in alarms]
        self._episodes = [Episode()] * len(self._alarms)
        self._unheard = {condition.quantity for _, condition in self._alarms} - {NO_PROGRESS, "restarts"}
        self._tell, self._clock = tell, clock
        self._poster = Poster(self._note)
        self._readings = Readings(clock(), self._efficiency())
        self._lock = threading.Lock()  # of episodes and readings; nobody is told of anything inside
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def _efficiency(self) -> Live | None:
        if not any(condition.quantity in LIVE for _, condition in self._alarms):
            return None
        from pipeline.monitoring.alarms.efficiency import Efficiency  # most runs need none

        return Efficiency()

    def start(self) -> "Alarms":
        """Looks every second at what no event tells."""
        if self._alarms:
            self._thread = threading.Thread(target=self._ticking, name="alarms", daemon=True)
            self._thread.start()
        return self

    def stop(self) -> None:
        """The run is over; what is still to be posted gets a few seconds."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._poster.stop()

    def __enter__(self) -> "Alarms":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __call__(self, event: Event) -> None:
        """Hears an event of the run, in any thread."""
        if not self._alarms or isinstance(event, Note):
            return
        with self._lock:
            at = self._clock()
            if isinstance(event, Restarted):
                self._episodes = [episode.interrupted() for episode in self._episodes]
            values = self._readings.take(event, at)
            fired, missing = self._look(values, at), self._missing(event)
        self._act(fired, missing)

    def tick(self) -> None:
        """Looks at what no event tells; `start` has it called by a thread."""
        with self._lock:
            at = self._clock()
            fired = self._look(self._readings.tick(at), at)
        self._act(fired, [])

    def check(self) -> None:
        """AlarmError where an alarm has ended the run; the first error of `tell`."""
        if self._error is not None:
            raise self._error

    def _ticking(self) -> None:
        while not self._stop.wait(TICK_SECONDS):
            self.tick()

    def _look(self, values: Values, at: float) -> list[Fired]:
        """Takes the alarms on whose quantities there is a value a step further."""
        fired = []
        for place, (alarm, condition) in enumerate(self._alarms):
            value = values.get(condition.quantity)
            if value is None:
                continue
            self._unheard.discard(condition.quantity)
            holds = condition.holds(value, self._readings.best(condition.quantity))
            self._episodes[place], now = step(self._episodes[place], condition, holds, at)
            if now:
                fired.append(Fired(alarm, condition, self._readings.run, value, self._readings.round))
        return fired

    def _missing(self, event: Event) -> list[str]:
        """Of which alarms there is nothing to look at, told once: metrics when others are told, the rest at the end."""
        match event:
            case RoundDone(metrics=metrics) if metrics:
                told = {"validation", *(name.partition(".")[0] for name in metrics)}  # training rows: in some rounds
                absent = {name for name in self._unheard - metrics.keys() if name.partition(".")[0] in told}
                why = f"this run measures {', '.join(metrics)} alone"
            case Saved():
                absent, why = set(self._unheard), "the run had no value of it"
            case _:
                return []
        self._unheard -= absent
        found = [condition for _, condition in self._alarms if condition.quantity in absent]
        return [f"the alarm {condition.text} could not be watched for: {why}" for condition in found]

    def _act(self, fired: Sequence[Fired], missing: Sequence[str]) -> None:
        for line in missing:
            self._note(line)
        for one in fired:
            if one.alarm.do == "exit":
                self._error = self._error or AlarmError(f"stopped by the alarm {one.line}")
                continue
            self._note(f"alarm: {one.line}")
            if one.alarm.url is not None:
                said = {"run": one.run, "alarm": one.condition.text, "value": one.value, "round": one.round}
                self._poster.send(one.alarm.url, {"text": f"run {one.run}: alarm: {one.line}", **said})

    def _note(self, line: str) -> None:
        try:
            self._tell(line)
        except BaseException as error:  # of those who listen: raised where the run waits
            self._error = self._error or error
