"""Defines the faults of the table: functions from a choice to a script."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from faults.script import Act, Action, Choice, Script, Stage, Trap
from faults.workloads import FILES
from pipeline.training.checkpoint import CheckpointStore

Write = Callable[[Choice], Script]

HANG_SECONDS = 3.0  # so that a hung worker is noticed soon
UNNOTICED_SECONDS = 600.0
WAIT_SECONDS = 3.0  # for a worker that does not come back
TOLD_SECONDS = 10.0  # within which the client has to report that the scheduler was lost
FROZEN_SECONDS = 7.0  # of silence, after which the scheduler is lost
STOPPED_SECONDS = 16.0  # after Ctrl-C, with other tests on the same cores
# An announced departure takes its own checkpoint: regular ones would hide that.
DEPARTURE = (
    f"cluster.wait_seconds={WAIT_SECONDS}",
    "training.checkpoint_rounds=1000",
    "training.checkpoint_seconds=1000",
)
DEPARTURE_ROUNDS = 1  # lost at most
LOST = "lost"  # in the line about a lost worker


def killed(stage: Stage) -> Write:
    """A worker dies as it begins a task of this stage."""
    worker_matters = stage in ("matrix", "bootstrap")

    def write(choice: Choice) -> Script:
        trap = Trap(at=stage, worker=choice.worker) if worker_matters else Trap(at=stage)
        return Script(traps=(trap,))

    return write


def killed_in_round(which: Literal["first", "middle", "last"]) -> Write:
    def write(choice: Choice) -> Script:
        number = {"first": 1, "middle": choice.round, "last": choice.last}[which]
        return Script(traps=(Trap(at="rounds", round=number, worker=choice.worker),), says=LOST)

    return write


def killed_from_outside(choice: Choice) -> Script:
    return Script(acts=(Act("signal", f"worker {choice.worker}", "RoundDone", round=choice.round),), says=LOST)


def both_killed(choice: Choice) -> Script:
    names = (choice.worker, choice.other)
    return Script(
        traps=tuple(Trap(at="rounds", round=choice.round, worker=name) for name in names), says=LOST, faults=2
    )


def killed_twice(choice: Choice) -> Script:
    numbers = (max(1, choice.round - 20), choice.round)
    traps = tuple(Trap(at="rounds", round=number, worker=choice.worker) for number in numbers)
    return Script(traps=traps, says=LOST, faults=2)


def stuck_after_a_loss(choice: Choice) -> Script:
    """As XGBoost may: a rank waits for ever for a rank that has died."""
    kill = Trap(at="rounds", round=choice.round, worker=choice.worker)
    stick = Trap(at="rounds", do="stick", round=choice.round, worker=choice.other)
    return Script(traps=(kill, stick), says="stuck in XGBoost", faults=2)


def killed_every_20(choice: Choice) -> Script:
    names = (choice.worker, choice.other)
    traps = tuple(
        Trap(at="rounds", round=number, worker=names[place % 2]) for place, number in enumerate(range(20, 200, 20))
    )
    return Script(traps=traps, model_settings=("training.early_stopping=0",), says=LOST, faults=len(traps))


def killed_again_and_again(choice: Choice) -> Script:
    """One kill more than the restarts that are allowed, which a new checkpoint between two kills would count anew."""
    restarts, before = 1, (choice.round - 1) // choice.checkpoint_rounds * choice.checkpoint_rounds
    after = str(CheckpointStore(Path(choice.model)).path(before)) if before else ""
    traps = (Trap(at="rounds", round=choice.round, worker=choice.worker, after=after),) * (restarts + 1)
    return Script(traps=traps, settings=(f"training.max_restarts={restarts}",), says=LOST, faults=len(traps))


def frozen_in_rounds(choice: Choice) -> Script:
    trap = Trap(at="rounds", do="stop", round=choice.round, worker=choice.worker)
    return Script(traps=(trap,), settings=(f"cluster.hang_seconds={HANG_SECONDS}",), says=LOST)


def frozen_until_an_alarm(choice: Choice) -> Script:
    """Only the alarm is to notice."""
    trap = Trap(at="rounds", do="stop", round=choice.round, worker=choice.worker)
    alarm = 'alarm=[{when = "no_progress for 10s", do = "exit"}]'
    settings = (f"cluster.hang_seconds={UNNOTICED_SECONDS}", alarm)
    return Script(traps=(trap,), settings=settings, says="stopped by the alarm no_progress for 10s")


def frozen_in_blocks(_: Choice) -> Script:
    return Script(traps=(Trap(at="blocks", do="stop"),), settings=(f"cluster.hang_seconds={HANG_SECONDS}",))


def memory_limit(_: Choice) -> Script:
    return Script(traps=(Trap(at="blocks", do="hog"),))


def clock(seconds: float) -> Write:
    """Both wall clocks jump; later decisions must not depend on them."""

    def write(choice: Choice) -> Script:
        jumps = tuple(
            Trap(at="rounds", do="clock", round=choice.round - 10, worker=name, seconds=seconds)
            for name in (choice.worker, choice.other)
        )
        kill = Trap(at="rounds", round=choice.round, worker=choice.worker)
        client = Act("clock", "client", "RoundDone", seconds=seconds)
        return Script(traps=(*jumps, kill), acts=(client,), says=LOST)

    return write


def nanny_killed(choice: Choice) -> Script:
    act = Act("signal", f"nanny {choice.worker}", "RoundDone", round=choice.round)
    return Script(acts=(act,), settings=(f"cluster.wait_seconds={WAIT_SECONDS}",), says=LOST)


def retired(choice: Choice) -> Script:
    """Another client retires a worker, which does not come back.  Checkpoints are rare: the departure takes its own."""
    act = Act("retire", choice.worker, "RoundDone", round=choice.round)
    return Script(acts=(act,), settings=DEPARTURE, says=LOST, resumes_within=DEPARTURE_ROUNDS)


def retired_in(stage: str) -> Write:
    """Another client retires a worker in a pass: its tasks move."""

    def write(choice: Choice) -> Script:
        act = Act("retire", choice.worker, "FragmentDone", stage=stage)
        return Script(acts=(act,), settings=(f"cluster.wait_seconds={WAIT_SECONDS}",))

    return write


def cut_off_from_each_other(choice: Choice) -> Script:
    """All heartbeats arrive, but no round ends."""
    trap = Trap(at="rounds", do="cut", round=choice.round, worker=choice.other)
    settings = (f"cluster.hang_seconds={HANG_SECONDS}", f"cluster.wait_seconds={WAIT_SECONDS}")
    return Script(traps=(trap,), settings=settings, says="cannot reach each other")


def terminated(choice: Choice) -> Script:
    """SIGTERM to `dask worker`, as a batch system sends it: its nanny gives the worker 8 s."""
    act = Act("signal", f"nanny {choice.worker}", "RoundDone", round=choice.round, signal=signal.SIGTERM)
    return Script(acts=(act,), settings=DEPARTURE, says=LOST, resumes_within=DEPARTURE_ROUNDS)


def restarted_in(stage: str) -> Write:
    """Another client calls client.restart() during this stage."""

    def write(choice: Choice) -> Script:
        if stage == "rounds":
            act = Act("restart", "", "RoundDone", round=choice.round)
        elif stage == "evaluate":
            act = Act("restart", "", "RoundDone", round=choice.last)
        else:
            act = Act("restart", "", "FragmentDone", stage=stage)
        return Script(acts=(act,))

    return write


def scheduler_killed(choice: Choice) -> Script:
    act = Act("signal", "scheduler", "Checkpoint", round=2 * choice.checkpoint_rounds)
    return Script(acts=(act,), says="scheduler", told_seconds=TOLD_SECONDS, ends_seconds=2 * TOLD_SECONDS)


def scheduler_frozen(choice: Choice) -> Script:
    """Its connections stay open, but it does not answer; it is killed before the run is resumed.

    Noted after 5 s; lost after `cluster.hang_seconds`, which is lowered here.
    """
    act = Act("signal", "scheduler", "Checkpoint", round=2 * choice.checkpoint_rounds, signal=signal.SIGSTOP)
    return Script(
        acts=(act,),
        settings=(f"cluster.hang_seconds={FROZEN_SECONDS}",),
        says=r"has not answered for 5 s(.|\n)*scheduler was lost: it has not answered",
        told_seconds=TOLD_SECONDS,
        ends_seconds=2 * TOLD_SECONDS,
    )


def client_killed(choice: Choice) -> Script:
    act = Act("signal", "client", "Checkpoint", round=2 * choice.checkpoint_rounds)
    return Script(acts=(act,), exit_codes=(-signal.SIGKILL,))


def client_killed_with_a_stuck_rank(choice: Choice) -> Script:
    """One rank waits for ever in its round, and the other for the first, as the client dies."""
    number = 2 * choice.checkpoint_rounds
    act = Act("signal", "client", "Checkpoint", round=number)
    stick = Trap(at="rounds", do="stick", round=number + 1, worker=choice.other)
    return Script(traps=(stick,), acts=(act,), exit_codes=(-signal.SIGKILL,))


def client_killed_in_statistics(_: Choice) -> Script:
    """Rows that its first pass has read stay on the workers, for a second pass that will not come."""
    act = Act("signal", "client", "FragmentDone", stage="statistics")
    return Script(acts=(act,), exit_codes=(-signal.SIGKILL,))


def client_interrupted(choice: Choice) -> Script:
    act = Act("signal", "terminal", "Checkpoint", round=2 * choice.checkpoint_rounds, signal=signal.SIGINT)
    return Script(acts=(act,), exit_codes=(130,), says="pipeline: interrupted", ends_seconds=STOPPED_SECONDS)


def full_at_checkpoint(choice: Choice) -> Script:
    """Training does not need a checkpoint to continue, so it emits a note and continues."""
    fill = Act("fill", choice.ballast, "Checkpoint", round=2 * choice.checkpoint_rounds)
    free = Act("delete", choice.ballast, "RoundDone", round=choice.last)
    return Script(acts=(fill, free), says="[Nn]o space left")


def full_at_save(choice: Choice) -> Script:
    fill = Act("fill", choice.ballast, "Evaluated")
    free = Act("delete", choice.ballast)
    return Script(acts=(fill,), between=(free,), says="No space left", exit_codes=(1,))


def checkpoint_damaged(how: Action) -> Write:
    """The client dies, and its last checkpoint is damaged; the one before is whole."""

    def write(choice: Choice) -> Script:
        damage = Act(how, f"{choice.model}.checkpoints/round-*.checkpoint")
        act = Act("signal", "client", "Checkpoint", round=3 * choice.checkpoint_rounds)
        return Script(acts=(act,), between=(damage,), exit_codes=(-signal.SIGKILL,))

    return write


def source_damaged(how: Action) -> Write:
    """Between the survey, which reads a few columns, and the statistics, which read all."""

    def write(choice: Choice) -> Script:
        act = Act(how, f"{choice.data}/part-00003.parquet", "Planned", source=choice.spare)
        return Script(acts=(act,), says="part-00003.parquet", exit_codes=(1, 2))

    return write


def changed_in_rounds(choice: Choice) -> Script:
    """Every file, as it is unknown which ones the killed worker reads again; restored before the run is resumed."""
    names = [f"part-{number:05d}.parquet" for number in range(FILES)]
    change = tuple(Act("copy", f"{choice.data}/{name}", "MatrixDone", source=choice.spare) for name in names)
    back = tuple(Act("restore", f"{choice.data}/{name}", source=f"{choice.original}/{name}") for name in names)
    trap = Trap(at="rounds", round=choice.round, worker=choice.worker)
    return Script(traps=(trap,), acts=change, between=back, says="part-0000", exit_codes=(1, 2))
