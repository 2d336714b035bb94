"""Subscribes to a run's events, fires its alarms, and runs the job's action for each."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.config.alarms import DURATIONS, LIVE, OCCASIONAL, Condition, parse
from pipeline.config.job import Alarm
from pipeline.errors import AlarmError
from pipeline.events.types import Event, Note, Restarted, RoundDone, Saved
from pipeline.monitoring.alarms.alarm_inputs import AlarmInputs, LiveSignals, Values
from pipeline.monitoring.alarms.alarm_state import AlarmState, step
from pipeline.monitoring.alarms.webhook import Webhook

TICK_SECONDS = 1.0


@dataclass(frozen=True)
class AlarmEvent:
    """An alarm that fires now."""

    alarm: Alarm
    condition: Condition  # the alarm's
    run: str
    value: float
    round: int  # the last known one; 0 before the first

    @property
    def line(self) -> str:
        """
        >>> alarm = Alarm(when="pe < 0.6 for 60s")
        >>> AlarmEvent(alarm, parse(alarm.when), "1f0c", 0.52345, 37).line
        'pe < 0.6 for 60s (now 0.52345, round 37)'
        """
        now = f"{self.value:.0f} s" if self.condition.quantity in DURATIONS else f"{self.value:,.5g}"
        return f"{self.condition.text} (now {now}{f', round {self.round}' if self.round else ''})"


class Alarms:
    """The alarms of one run: an event handler, and a context manager.

    As an event handler it never raises, because any thread may call it.  Errors that end the run, an alarm with
    do = "exit" or an error of `tell`, are raised by `check`, which the run's own thread calls while it waits.
    """

    def __init__(
        self,
        alarms: Sequence[Alarm],
        tell: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        tick_seconds: float = TICK_SECONDS,
    ) -> None:
        """`tell` receives each alarm message as one line, in any thread.  `tick_seconds`: between two `tick`."""
        self._alarms = [(alarm, parse(alarm.when)) for alarm in alarms]
        self._episodes = [AlarmState()] * len(self._alarms)
        self._unheard = {condition.quantity for _, condition in self._alarms} - OCCASIONAL
        self._tell, self._clock, self._tick_seconds = tell, clock, tick_seconds
        self._poster = Webhook(self._note)
        self._readings = AlarmInputs(clock(), self._efficiency())
        self._lock = threading.Lock()  # of episodes and readings; never held while `tell` runs
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def _efficiency(self) -> LiveSignals | None:
        if not any(condition.quantity in LIVE for _, condition in self._alarms):
            return None
        from pipeline.monitoring.alarms.efficiency import EfficiencySignals  # most runs have no such alarm

        return EfficiencySignals()

    def start(self) -> "Alarms":
        """Starts a thread that checks every second the quantities without events."""
        if self._alarms:
            self._thread = threading.Thread(target=self._ticking, name="alarms", daemon=True)
            self._thread.start()
        return self

    def stop(self) -> None:
        """Stops at the end of the run; pending posts get a few seconds."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._poster.stop()

    def __enter__(self) -> "Alarms":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __call__(self, event: Event) -> None:
        """Handles an event of the run, in any thread."""
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
        """Checks the quantities that no event reports; the thread of `start` calls it."""
        with self._lock:
            at = self._clock()
            fired = self._look(self._readings.tick(at), at)
        self._act(fired, [])

    def check(self) -> None:
        """Raises AlarmError if an alarm has ended the run, or the first error of `tell`."""
        if self._error is not None:
            raise self._error

    def _ticking(self) -> None:
        while not self._stop.wait(self._tick_seconds):
            self.tick()

    def _look(self, values: Values, at: float) -> list[AlarmEvent]:
        """Advances the alarms on whose quantities there is a value."""
        fired = []
        for place, (alarm, condition) in enumerate(self._alarms):
            value = values.get(condition.quantity)
            if value is None:
                continue
            self._unheard.discard(condition.quantity)
            holds = condition.holds(value, self._readings.best(condition.quantity))
            self._episodes[place], now = step(self._episodes[place], condition, holds, at)
            if now:
                fired.append(AlarmEvent(alarm, condition, self._readings.run, value, self._readings.round))
        return fired

    def _missing(self, event: Event) -> list[str]:
        """The alarms without any value, reported once: on metrics when the first metrics arrive, the rest at the end."""
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

    def _act(self, fired: Sequence[AlarmEvent], missing: Sequence[str]) -> None:
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
        except BaseException as error:  # raised by handlers: re-raised where the run waits
            self._error = self._error or error
