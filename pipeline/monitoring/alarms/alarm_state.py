"""Decides when an alarm fires: once for each episode.  Pure: time is an argument.

             the condition has held for its window
    quiet ────────────────────────────────────────────► on   (fires here, and only here)
       ▲                                                │
       └────────────────────────────────────────────────┘
             it has not held for its window, and for `CALM_SECONDS`

Only reported values count, so no episode begins or ends while no value arrives; a value that
oscillates about the threshold is one episode, because a single value on the right side ends none.
"""

from dataclasses import dataclass

from pipeline.config.alarms import Condition

CALM_SECONDS = 60.0  # minimum time without the condition before an episode is over


@dataclass(frozen=True)
class AlarmState:
    """The state of an alarm."""

    on: bool = False  # whether it has fired, and is not over
    since: float | None = None  # seconds: the first of the values that support a change; None: the last one did not

    def interrupted(self) -> "AlarmState":
        """The state after an interruption: later values are not added to earlier ones."""
        return AlarmState(self.on)


def step(now: AlarmState, condition: Condition, holds: bool, at: float) -> tuple[AlarmState, bool]:
    """The state of the alarm after a value reported `at` (seconds); whether it fires now.

    >>> condition = Condition("pe < 0.6 for 60s", "pe", "<", 0.6, 60.0)
    >>> first, _ = step(AlarmState(), condition, True, at=10.0)
    >>> step(first, condition, True, at=69.0)[1], step(first, condition, True, at=70.0)
    (False, (AlarmState(on=True, since=None), True))
    """
    if holds == now.on:
        return AlarmState(now.on), False
    since = at if now.since is None else now.since
    enough = max(condition.seconds, CALM_SECONDS) if now.on else condition.seconds
    if at - since < enough:
        return AlarmState(now.on, since), False
    return AlarmState(not now.on), not now.on
