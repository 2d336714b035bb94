"""Defines the errors, each kind with the exit code of the command line.

A message is one line: what, where, both numbers, what to change. It never holds row data, nor a password.
"""

from pipeline.formatting import LONGEST_MESSAGE, one_line, without_secrets

__all__ = ["LONGEST_MESSAGE", "one_line"]  # re-exported: many modules import them together with the errors


class PipelineError(Exception):
    """A failure that is not the user's mistake (a lost worker, a full disk): exit code 1."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(without_secrets(message)))


class TrainingError(PipelineError):
    """Training failed on a worker; the message is the first real error, not a secondary error of the other workers."""


class WorkerLostError(TrainingError):
    """A worker died, froze or left while it was needed; the run may continue without it."""

    def __init__(self, worker: str, reason: str) -> None:
        """`worker`: its address."""
        super().__init__(f"worker {worker} was lost: {reason}")
        self.worker, self.reason = worker, reason

    def __reduce__(self) -> tuple[type["WorkerLostError"], tuple[str, str]]:
        return type(self), (self.worker, self.reason)


class DepartureError(WorkerLostError):
    """A worker has announced that it leaves (retired, its lifetime is over, SIGTERM): planned, not a failure."""


class CollectiveError(TrainingError):
    """The workers' connections to each other broke although all workers are present; a retry may help."""


class SchedulerLostError(TrainingError):
    """The scheduler no longer answers; existing checkpoints are kept."""


class AlarmError(PipelineError):
    """An alarm of the job has ended the run; existing checkpoints are kept."""


class ClusterStartError(PipelineError):
    """A local cluster does not start; the message is the error of the system or of a worker."""


class ReadError(PipelineError):
    """The storage failed to return the data in several tries; the data may be intact."""


class UserError(PipelineError):
    """An error the user can fix: exit code 2."""

    exit_code = 2


class JobError(UserError):
    """The job file or an option is wrong: file, field path, value and what is allowed."""


class SourceError(UserError):
    """The files cannot be read as requested: no such path, damaged, drifting schemas, nested columns."""


class AccessError(SourceError):
    """A file was removed or changed during the run, or may not be read: its content is not at fault, so it is never
    skipped.
    """


class BadFragment(SourceError):
    """The content of a fragment cannot be read, whatever the number of tries; `data.skip_bad_fragments` leaves it
    out.
    """

    def __init__(self, where: str, reason: str) -> None:
        """`where`: the file and the place in it; `reason`: one line, without row data."""
        super().__init__(f"{where}: {reason}")
        self.where, self.reason = where, reason

    def __reduce__(self) -> tuple[type["BadFragment"], tuple[str, str]]:
        return type(self), (self.where, self.reason)


class DataError(UserError):
    """The files can be read but not trained on: unknown target, one class, infinite features."""


class StrictError(DataError):
    """A finding that `data.strict` makes an error; existing checkpoints are kept."""


class ClusterError(UserError):
    """The requested cluster is not available: no GPU, no scheduler, too few workers."""


class ModelError(UserError):
    """A model folder is missing, damaged, of a newer format, or does not fit the data."""


class OutputError(UserError):
    """The result cannot be written: exists already, not writable, disk full."""


def interrupt_behind(error: BaseException) -> KeyboardInterrupt | None:
    """The Ctrl-C or signal that `error` replaced, if it did.

    Code that an interrupt ends may raise another error on its way out: `threading.Condition.wait` raises RuntimeError
    if it is interrupted while it takes its lock again (Python 3.13).
    """
    found: BaseException | None = error
    while found is not None and not isinstance(found, KeyboardInterrupt):
        found = found.__context__
    return found
