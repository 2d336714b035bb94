"""Describes faults as data: what happens, where and when; this module does nothing itself."""

from dataclasses import dataclass, field
from typing import Literal

Deed = Literal["kill", "stop", "stick", "cut", "hog", "clock"]
Stage = Literal["survey", "statistics", "blocks", "matrix", "bootstrap", "rounds", "evaluate"]
Outcome = Literal[
    "ends well with the equal model; nothing is lost",
    "recovers with the equal model",
    "stops; equal model after --resume",
    "stops; equal model when run again",
    "one line of refusal",
]
UNHARMED: Outcome = "ends well with the equal model; nothing is lost"  # a slow process is not a dead one
RECOVERS: Outcome = "recovers with the equal model"
RESUMES: Outcome = "stops; equal model after --resume"
RERUNS: Outcome = "stops; equal model when run again"  # there is no checkpoint yet
REFUSES: Outcome = "one line of refusal"
ANY = "*"  # the first worker that gets there


@dataclass(frozen=True)
class Trap:
    """What a worker does to itself at a stage; each trap goes off once."""

    at: Stage
    do: Deed = "kill"
    worker: str = ANY  # its name
    round: int = 0  # of "rounds": just before this round, counted from 1
    seconds: float = 0.0  # of "clock": by how much it is set forward
    after: str = ""  # path of a file that is awaited before

    def __post_init__(self) -> None:
        assert (self.round > 0) == (self.at == "rounds"), "a round belongs to the rounds, and to nothing else"


LONGEST_SECONDS = 90.0  # a run that takes longer hangs

Action = Literal[
    "signal", "delete", "halve", "flip", "copy", "restore", "fill", "clock", "read-only", "stall",
    "retire", "restart", "block", "flap",
]  # fmt: skip
BESIDE: tuple[Action, ...] = (
    "retire",
    "restart",
    "block",
    "flap",
)  # done in a thread during the run; each step is reported


@dataclass(frozen=True)
class Act:
    """What the client's process does on an event, before the run continues; each act is done once.

    `target` of "signal": "client", "terminal" (the client's whole process group), "scheduler", "nanny 0", "worker 0";
    of "retire" and "flap" a worker's name; of "restart" and "block" nothing; of "stall" whatever the place stalls; of
    the others a path, whose name may be a pattern: the last file that matches.
    """

    do: Action
    target: str
    event: str = ""  # its name; empty: at once, for acts between two runs
    stage: str = ""  # of FragmentDone
    round: int = 0  # the first round at which it is done
    signal: int = 9
    source: str = ""  # of "copy" (another file, as if written now) and "restore" (the same file, unchanged)
    seconds: float = 0.0  # of "clock": by how much it is set forward; of "block" and "stall": its duration
    times: int = 1  # of "flap"


@dataclass(frozen=True)
class ClusterSetup:
    """How the cluster of a run differs from the usual one; for a running scheduler only."""

    special: str = ""  # name of a worker that is unusual:
    proxied: bool = False  # its connections pass through a proxy, which "stall" stops
    options: tuple[str, ...] = ()  # of `dask worker`
    absent_seconds: float = 0.0  # from the run's start, during which there is no worker
    hogs: bool = False  # as many busy processes as there are cores, during the run; on either kind


@dataclass(frozen=True)
class Script:
    """One fault, or several, in one run."""

    traps: tuple[Trap, ...] = ()
    acts: tuple[Act, ...] = ()
    settings: tuple[str, ...] = ()  # of the job; they do not change the model
    model_settings: tuple[str, ...] = ()  # of the job; the undisturbed run has them too
    between: tuple[Act, ...] = ()  # done after the run has stopped and before it is resumed
    says: str = ""  # pattern of a text on stderr
    exit_codes: tuple[int, ...] = (1,)  # if the run stops or is refused
    told_seconds: float | None = None  # at most, from the last act to the event Failed
    ends_seconds: float | None = None  # at most, from the last act or trap to the end of a run that stops
    resumes_within: int | None = None  # rounds lost at most, from the last RoundDone before a restart to its round
    limit_seconds: float = LONGEST_SECONDS  # of a run
    departs: bool = False  # whether a worker has to be lost
    leaves: tuple[str, ...] = ()  # what may be left in the folder of a run that ended well
    cluster: ClusterSetup = ClusterSetup()
    faults: int = field(default=1)


@dataclass(frozen=True)
class Choice:
    """What a fault leaves open: which worker, when, and where the files are."""

    worker: str  # name of the worker that is hit first
    other: str  # name of another worker
    round: int  # in the middle
    last: int  # the undisturbed run's last round
    seconds: float  # seconds of the undisturbed run
    checkpoint_rounds: int
    data: str  # folder of the source files, which only this run uses
    original: str  # what it was copied from
    spare: str  # a file like them, with other rows
    model: str  # the future model folder
    ballast: str  # a file that may grow until the disk of the model folder is full
