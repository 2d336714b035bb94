"""What can go wrong, each kind with the exit code the command line ends with.

A message is one line: what, where, both numbers, what to change. It never holds row data, nor a password.
"""

from pipeline.formatting import LONGEST_MESSAGE, one_line, without_secrets

__all__ = ["LONGEST_MESSAGE", "one_line"]  # re-exported: many modules import them together with the errors


class PipelineError(Exception):
    """A failure that is nobody's mistake (a lost worker, a full disk): exit code 1."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(without_secrets(message)))


class TrainingError(PipelineError):
    """Training failed on a worker; the message is the first real error, not its echo on the others."""


class WorkerLostError(TrainingError):
    """A worker died, froze or left while it was needed; the run may go on without it."""

    def __init__(self, worker: str, reason: str) -> None:
        """`worker`: its address."""
        super().__init__(f"worker {worker} was lost: {reason}")
        self.worker, self.reason = worker, reason

    def __reduce__(self) -> tuple[type["WorkerLostError"], tuple[str, str]]:
        return type(self), (self.worker, self.reason)


class DepartureError(WorkerLostError):
    """A worker has announced that it leaves (retired, its lifetime is over, SIGTERM): planned, and no failure."""


class CollectiveError(TrainingError):
    """The workers' connections to each other broke though all of them are there; trying again may help."""


class SchedulerLostError(TrainingError):
    """The scheduler does not answer any more; what has been checkpointed stands."""


class AlarmError(PipelineError):
    """An alarm of the job has ended the run; what has been checkpointed stands."""


class ClusterStartError(PipelineError):
    """A local cluster does not start: what the system or a worker said."""


class ReadError(PipelineError):
    """The storage does not give the data, though it was tried several times; the data may well be good."""


class UserError(PipelineError):
    """Something the user can mend: exit code 2."""

    exit_code = 2


class JobError(UserError):
    """The job file or an option is wrong: file, field path, value and what is allowed."""


class SourceError(UserError):
    """The files cannot be read as asked: no such path, damaged, drifting schemas, nested columns."""


class AccessError(SourceError):
    """A file is gone, was changed during the run, or may not be read: its content is not at fault, so it is never skipped."""


class BadFragment(SourceError):
    """The content of a fragment cannot be read, however often one tries; `data.skip_bad_fragments` leaves it out."""

    def __init__(self, where: str, reason: str) -> None:
        """`where`: the file and the place in it; `reason`: one line, without row data."""
        super().__init__(f"{where}: {reason}")
        self.where, self.reason = where, reason

    def __reduce__(self) -> tuple[type["BadFragment"], tuple[str, str]]:
        return type(self), (self.where, self.reason)


class DataError(UserError):
    """The files can be read but not trained on: unknown target, one class, infinite features."""


class StrictError(DataError):
    """A finding that `data.strict` makes an error; what has been checkpointed stands."""


class ClusterError(UserError):
    """The cluster asked for cannot be had: no GPU, no scheduler, too few workers."""


class ModelError(UserError):
    """A model folder is missing, damaged, of a newer format, or does not fit the data."""


class OutputError(UserError):
    """The result cannot be written: exists already, not writable, disk full."""
