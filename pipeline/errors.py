"""What can go wrong, each kind with the exit code the command line ends with.

A message is one line: what, where, both numbers, what to change. It never holds row data.
"""

import re

LONGEST_MESSAGE = 1_000  # characters; names of columns may be of any length
_BREAK = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")


def one_line(text: str) -> str:
    r"""The text as one line that a terminal can show: names that people give may hold line breaks and control characters.

    >>> one_line("no column 'a\nb'; did you mean \x1b[31mc?")
    "no column 'a b'; did you mean \\x1b[31mc?"
    """
    line = _BREAK.sub(" ", text).strip()
    if not line.isprintable():
        line = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in line)
    if len(line) > LONGEST_MESSAGE:  # what is wrong stands first, what to change last
        line = f"{line[: LONGEST_MESSAGE - 300]} ... {line[-295:]}"
    return line


class PipelineError(Exception):
    """A failure that is nobody's mistake (a lost worker, a full disk): exit code 1."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(message))


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


class CollectiveError(TrainingError):
    """The workers' connections to each other broke though all of them are there; trying again may help."""


class SchedulerLostError(TrainingError):
    """The scheduler does not answer any more; what has been checkpointed stands."""


class AlarmError(PipelineError):
    """An alarm of the job has ended the run; what has been checkpointed stands."""


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


class ClusterError(UserError):
    """The cluster asked for cannot be had: no GPU, no scheduler, too few workers."""


class ModelError(UserError):
    """A model folder is missing, damaged, of a newer format, or does not fit the data."""


class OutputError(UserError):
    """The result cannot be written: exists already, not writable, disk full."""
