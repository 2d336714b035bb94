"""Decides what to do when workers are lost or join; the supervisor does it.

        interrupted, departed, joined      all there, or waited long enough
    running ────────────────────► waiting ──────────────────────────────────► restarting ──► running
       │ ▲                           │ no worker left
       │ └ checkpoint                ▼
       │   (counts reset)          failed
       └── too many restarts ────────▲

Arithmetic and dataclasses only: no cluster, no clock of its own.
"""

from dataclasses import dataclass, replace
from typing import Literal

REPLACED_SECONDS = 10.0  # for the replacement of a worker that left as announced: most have none


@dataclass(frozen=True)
class Policy:
    """How long a run waits, and how often it restarts."""

    wait_seconds: float  # for a lost worker to come back
    max_restarts: int  # without a new checkpoint in between
    patience_seconds: float = 0.0  # for the first worker to come back if none is left; `wait_seconds` at least


@dataclass(frozen=True)
class Recovery:
    """State of a run's recovery."""

    state: Literal["running", "waiting", "restarting", "failed"]
    expected: int  # workers that the run is laid out for
    restarts: int = 0  # since there was progress
    progress: int = 0  # round of the checkpoint that counted last
    since: float = 0.0  # when the waiting began, by the caller's monotonic clock
    events: tuple[str, ...] = ()  # what happened, a line each
    reason: str = ""  # why it failed
    empty: bool = False  # whether no worker was present at the latest look
    planned: bool = False  # whether the waiting began with an announced departure

    def wait_seconds(self, policy: Policy) -> float:
        """Returns how long workers are waited for if some are left."""
        return min(policy.wait_seconds, REPLACED_SECONDS) if self.planned else policy.wait_seconds


@dataclass(frozen=True)
class Interruption:
    """A worker that was needed is gone, or the workers' connections broke."""

    at: float  # seconds, monotonic
    line: str  # what happened, for the user


@dataclass(frozen=True)
class Departure:
    """A worker has left as it had announced: this is no failure, so it does not count among the restarts."""

    at: float  # seconds, monotonic
    line: str  # what happened, for the user


@dataclass(frozen=True)
class WorkersPresent:
    """How many workers can be used now."""

    at: float
    workers: int


@dataclass(frozen=True)
class WorkersJoined:
    """Workers are available that the run is not laid out for."""

    at: float
    workers: int  # available now


@dataclass(frozen=True)
class CheckpointKept:
    """A checkpoint was taken after this round."""

    round: int


@dataclass(frozen=True)
class AttemptStarted:
    """The run is laid out again."""

    workers: int


RecoveryEvent = Interruption | Departure | WorkersPresent | WorkersJoined | CheckpointKept | AttemptStarted


def begin(workers: int) -> Recovery:
    """Returns the state of a run that is laid out for `workers` workers."""
    return Recovery("running", expected=workers)


def step(now: Recovery, seen: RecoveryEvent, policy: Policy) -> Recovery:
    """Returns the state after an observation.  A state does not change by an observation that does not concern it.

    >>> policy = Policy(wait_seconds=30, max_restarts=1)
    >>> waiting = step(begin(2), Interruption(at=5.0, line="worker 1 lost"), policy)
    >>> waiting.state, step(waiting, WorkersPresent(at=6.0, workers=1), policy).state
    ('waiting', 'waiting')
    >>> step(waiting, WorkersPresent(at=6.5, workers=2), policy).state, step(waiting, WorkersPresent(at=35.0, workers=1), policy).state
    ('restarting', 'restarting')
    """
    if now.state == "failed":
        return now
    match seen:
        case Interruption(at=at, line=line) if now.state == "running":
            return _again(now, line, policy, at)
        case Departure(at=at, line=line) if now.state == "running":
            return replace(now, state="waiting", events=(*now.events, line), since=at, planned=True)
        case WorkersPresent(at=at, workers=workers) if now.state == "waiting":
            return _waited(now, at, workers, policy)
        case WorkersJoined(at=at, workers=workers) if now.state == "running":
            return replace(now, state="waiting", expected=max(now.expected, workers), since=at, planned=False)
        case CheckpointKept(round=number) if number > now.progress:
            return replace(now, progress=number, restarts=0)
        case AttemptStarted(workers=workers) if now.state == "restarting":
            return replace(now, state="running", expected=workers)
    return now


def _again(now: Recovery, line: str, policy: Policy, at: float) -> Recovery:
    """Restarts once more, unless there were too many restarts."""
    events = (*now.events, line)
    if now.restarts >= policy.max_restarts:
        times = "restart" if now.restarts == 1 else "restarts"
        reason = (
            f"given up after {now.restarts} {times} without progress (training.max_restarts = {policy.max_restarts})"
        )
        return replace(now, state="failed", events=events, reason=reason)
    return replace(now, state="waiting", events=events, restarts=now.restarts + 1, since=at, planned=False)


def _waited(now: Recovery, at: float, workers: int, policy: Policy) -> Recovery:
    if workers >= now.expected:
        return replace(now, state="restarting")
    if workers == 0:
        patience = max(policy.wait_seconds, policy.patience_seconds)
        if at - now.since < patience:
            return replace(now, empty=True)
        reason = f"no worker is left, and none came back within {patience:g} s (cluster.patience)"
        return replace(now, state="failed", reason=reason)
    if now.empty:  # the first worker has come back: the others get as long as after a loss
        now = replace(now, empty=False, since=at)
    return now if at - now.since < now.wait_seconds(policy) else replace(now, state="restarting")
