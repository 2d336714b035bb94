"""When an alarm is told: once for each episode.  Pure: time is an argument.

             the condition has held for its window
    quiet ────────────────────────────────────────────► on   (told here, and only here)
       ▲                                                │
       └────────────────────────────────────────────────┘
             it has not held for its window, and for `CALM_SECONDS`

What counts are the values that are told, so nothing begins or ends an episode while nothing is heard; and a value that
goes to and fro about the threshold is one episode, for one value on the right side ends none.
"""

from dataclasses import dataclass

from pipeline.config.alarms import Condition

CALM_SECONDS = 60.0  # at least, without the condition, before an episode is over


@dataclass(frozen=True)
class Episode:
    """Where an alarm stands."""

    on: bool = False  # whether it has been told, and is not over
    since: float | None = (
        None  # seconds: the first of the values that speak for a change; None: the last spoke against it
    )

    def interrupted(self) -> "Episode":
        """The values from now on are of something else: they are not added to those before."""
        return Episode(self.on)


def step(now: Episode, condition: Condition, holds: bool, at: float) -> tuple[Episode, bool]:
    """Where the alarm stands after a value that was told `at` (seconds); whether it is to be told now.

    >>> condition = Condition("pe < 0.6 for 60s", "pe", "<", 0.6, 60.0)
    >>> first, _ = step(Episode(), condition, True, at=10.0)
    >>> step(first, condition, True, at=69.0)[1], step(first, condition, True, at=70.0)
    (False, (Episode(on=True, since=None), True))
    """
    if holds == now.on:
        return Episode(now.on), False
    since = at if now.since is None else now.since
    enough = max(condition.seconds, CALM_SECONDS) if now.on else condition.seconds
    if at - since < enough:
        return Episode(now.on, since), False
    return Episode(not now.on), not now.on
