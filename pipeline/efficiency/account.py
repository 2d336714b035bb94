"""Where the worker-seconds of a whole training went."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """What tasks of one worker spent on one part of a phase, without the parts inside of it."""

    phase: str  # the outermost part: what the task as a whole was for, e.g. "statistics"
    name: str  # e.g. "reading"
    seconds: float = 0.0  # wall clock
    cpu_seconds: float = 0.0  # of the task's own thread
    process_seconds: float = 0.0  # CPU of all threads of the process, in the same time
