"""Lists every fault, and its required outcome on each kind of cluster.

`python -m benchmarks.chaos --table` prints this table.  "local" is a LocalCluster, whose scheduler and nannies live in
the client's process: killing one of them kills the client.  "processes" is a `dask scheduler` with `dask worker`s.
"""

from collections.abc import Callable
from dataclasses import dataclass

from faults import scripts, slow
from faults.places import KINDS, Kind
from faults.script import RECOVERS, REFUSES, RERUNS, RESUMES, UNHARMED, Choice, Outcome, Script
from faults.workloads import USUAL, WORKLOADS


@dataclass(frozen=True)
class Row:
    """One fault."""

    fault: str
    what: str
    write: Callable[[Choice], Script] | None  # None: it needs no run of its own
    local: Outcome | None  # None: the fault does not exist on that kind
    processes: Outcome | None
    often: int = 1  # how often the random run draws it, relative to the others; 0: never
    tested: tuple[Kind, ...] = KINDS  # where `make test SLOW=1` plays it too; elsewhere only `make chaos` does
    workloads: tuple[str, ...] = WORKLOADS  # that it can happen to

    def outcome(self, kind: Kind) -> Outcome | None:
        return self.local if kind == "local" else self.processes


TABLE: tuple[Row, ...] = (
    Row("worker killed in statistics", "SIGKILL", scripts.killed("statistics"), RECOVERS, RECOVERS),
    Row("worker killed in blocks", "SIGKILL", scripts.killed("blocks"), RECOVERS, RECOVERS),
    Row("worker killed in matrix", "SIGKILL", scripts.killed("matrix"), RECOVERS, RECOVERS),
    Row("worker killed at bootstrap", "SIGKILL as it joins the communicator", scripts.killed("bootstrap"), RECOVERS, RECOVERS),
    Row("worker killed in the first round", "SIGKILL", scripts.killed_in_round("first"), RECOVERS, RECOVERS),
    Row("worker killed in the middle", "SIGKILL, some round", scripts.killed_in_round("middle"), RECOVERS, RECOVERS, often=4),
    Row("worker killed in the last round", "SIGKILL", scripts.killed_in_round("last"), RECOVERS, RECOVERS, tested=("processes",)),
    Row("worker killed in evaluation", "SIGKILL", scripts.killed("evaluate"), RECOVERS, RECOVERS),
    Row("worker killed from outside", "SIGKILL by the client, at whatever it does", scripts.killed_from_outside, RECOVERS, RECOVERS, often=4),
    Row("two workers at once", "SIGKILL of two in one round", scripts.both_killed, RECOVERS, RECOVERS, often=2),
    Row("the same worker twice", "SIGKILL, and again 20 rounds later", scripts.killed_twice, RECOVERS, RECOVERS, often=2),
    Row("worker stuck after a loss", "SIGKILL of one, the other waits for ever in its round", scripts.stuck_after_a_loss, RECOVERS, RECOVERS),
    Row("a worker every 20 of 200 rounds", "SIGKILL of nine, in turn", scripts.killed_every_20, RECOVERS, RECOVERS, tested=("local",), workloads=(USUAL,)),
    Row("a worker again and again", "SIGKILL at the same round until max_restarts", scripts.killed_again_and_again, RESUMES, RESUMES),
    Row("worker frozen in rounds", "SIGSTOP", scripts.frozen_in_rounds, RECOVERS, RECOVERS),
    Row("worker frozen, ended by an alarm", "SIGSTOP, which only `no_progress for 10s` notices", scripts.frozen_until_an_alarm, RESUMES, None, often=0),
    Row("worker frozen in blocks", "SIGSTOP", scripts.frozen_in_blocks, RECOVERS, RECOVERS),
    Row("memory limit hit in blocks", "a worker takes all it may have", scripts.memory_limit, RECOVERS, RECOVERS),
    Row("clock set back", "client and workers, by an hour; then SIGKILL of a worker", scripts.clock(-3600.0), RECOVERS, RECOVERS),
    Row("clock set forward", "client and workers, by an hour; then SIGKILL of a worker", scripts.clock(3600.0), RECOVERS, RECOVERS, tested=()),
    Row("nanny killed", "SIGKILL; its worker goes with it and does not come back", scripts.nanny_killed, None, RECOVERS),
    Row("worker retired", "client.retire_workers by another client; it does not come back", scripts.retired, None, RECOVERS),
    Row("worker retired in statistics", "as above; its tasks move", scripts.retired_in("statistics"), None, RECOVERS, tested=()),
    Row("worker retired in blocks", "as above; its tasks move", scripts.retired_in("blocks"), None, RECOVERS, tested=()),
    Row("worker terminated", "SIGTERM to `dask worker`, as batch systems send it; it does not come back", scripts.terminated, None, RECOVERS),
    Row("workers cut off from each other", "both reach the scheduler; continues without one of them", scripts.cut_off_from_each_other, RECOVERS, RECOVERS),
    Row("worker's lifetime over", "--lifetime ends in the run", slow.lifetime_over, None, RECOVERS, tested=()),
    Row("worker flapping", "SIGKILL four times in a row, each time that it is back", slow.flapping, RECOVERS, RECOVERS, tested=()),
    Row("cluster restarted in survey", "client.restart() by another client", scripts.restarted_in("survey"), RECOVERS, RECOVERS, tested=()),
    Row("cluster restarted in statistics", "client.restart() by another client", scripts.restarted_in("statistics"), RECOVERS, RECOVERS, tested=("processes",)),
    Row("cluster restarted in blocks", "client.restart() by another client", scripts.restarted_in("blocks"), RECOVERS, RECOVERS, tested=()),
    Row("cluster restarted in rounds", "client.restart() by another client", scripts.restarted_in("rounds"), RECOVERS, RECOVERS, tested=("local",)),
    Row("cluster restarted after the last round", "client.restart() by another client", scripts.restarted_in("evaluate"), RECOVERS, RECOVERS, tested=()),
    Row("scheduler blocked", "its loop does nothing else for 12 s", slow.scheduler_blocked, UNHARMED, UNHARMED, tested=()),
    Row("scheduler blocked ten times", "for 8 s each, from the first pass on", slow.scheduler_blocked_often, None, UNHARMED, tested=()),
    Row("processors hogged", "a busy process on every core", slow.processors_hogged, UNHARMED, UNHARMED, tested=()),
    Row("network stalled in rounds", "between a worker and the rest for 20 s", slow.network_stalled, None, UNHARMED, tested=()),
    Row("network stalled in statistics", "between a worker and the rest for 20 s", slow.network_stalled_in_blocks, None, UNHARMED, tested=()),
    Row("host cut off", "for 25 s, longer than `cluster.hang_seconds`; its processes live on", slow.host_cut_off, None, RECOVERS, tested=()),
    Row("no worker at the start", "the first come 12 s after the client", slow.empty_at_start, None, UNHARMED, tested=()),
    Row("scheduler killed", "SIGKILL", scripts.scheduler_killed, None, RESUMES),
    Row("scheduler frozen", "SIGSTOP, for longer than `cluster.hang_seconds`", scripts.scheduler_frozen, None, RESUMES),
    Row("client killed", "SIGKILL; locally scheduler and nannies with it", scripts.client_killed, RESUMES, RESUMES, often=2),
    Row("client killed with a stuck rank", "SIGKILL while the ranks wait for each other; idle within 10 s", scripts.client_killed_with_a_stuck_rank, None, RESUMES),
    Row("client killed in statistics", "SIGKILL; nothing of it is left on the workers after the next run", scripts.client_killed_in_statistics, None, RERUNS),
    Row("client interrupted", "Ctrl-C on its terminal", scripts.client_interrupted, RESUMES, RESUMES, often=2),
    Row("disk full during a checkpoint", "no byte is left, until later", scripts.full_at_checkpoint, RECOVERS, RECOVERS),
    Row("checkpoints read-only", "from the second checkpoint on, for good", slow.checkpoints_read_only, RECOVERS, RECOVERS, tested=("local",)),
    Row("disk full at the model's save", "no byte is left", scripts.full_at_save, RESUMES, RESUMES),
    Row("newest checkpoint truncated", "client killed, half of the file", scripts.checkpoint_damaged("halve"), RESUMES, RESUMES, tested=("processes",)),
    Row("newest checkpoint flipped", "client killed, one bit of the file", scripts.checkpoint_damaged("flip"), RESUMES, RESUMES),
    Row("source file deleted", "before it is read whole", scripts.source_damaged("delete"), REFUSES, REFUSES),
    Row("source file truncated", "as above, to half", scripts.source_damaged("halve"), REFUSES, REFUSES, tested=("processes",)),
    Row("source file changed", "as above, other rows", scripts.source_damaged("copy"), REFUSES, REFUSES, tested=("processes",)),
    Row("source files changed in the rounds", "then a worker is killed; they are put back before --resume", scripts.changed_in_rounds, RESUMES, RESUMES),
    Row("model folder flipped", "one bit of a byte, 200 positions of every file", None, REFUSES, REFUSES, often=0),
)  # fmt: skip


def rows(kind: Kind) -> list[Row]:
    """Returns the faults of this kind of cluster."""
    return [row for row in TABLE if row.outcome(kind) is not None]


def text() -> str:
    """Formats the table for the terminal."""
    lines = [("fault", "what happens", "local", "processes")]
    lines += [(row.fault, row.what, row.local or "-", row.processes or "-") for row in TABLE]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(f"{word:<{width}}" for word, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
