"""Supervises a training: when workers are lost, decides (recovery), repairs the layout, resumes from the last state."""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from typing import Any

from pipeline.config.quantities import parse_duration
from pipeline.errors import CollectiveError, DepartureError, StrictError, TrainingError, WorkerLostError
from pipeline.events.findings import Finding
from pipeline.events.types import (
    Checkpoint,
    Event,
    Note,
    Placed,
    Restarted,
    RoundDone,
    Waiting,
    WorkerJoined,
    WorkerLost,
    incident,
)
from pipeline.preprocess.prepare import PreparedData
from pipeline.runtime.context import RunContext, clear_exception_frames
from pipeline.runtime.placement import WorkerInfo, usable
from pipeline.runtime.shared_value import cancelled_by_others
from pipeline.training import recovery
from pipeline.training.checkpoint import CheckpointStore
from pipeline.training.evaluation import Evaluation, evaluate
from pipeline.training.identity import Identity
from pipeline.training.recovery import Policy, Recovery, RecoveryEvent, step
from pipeline.training.state import State
from pipeline.training.trainer import Attempt, StoppedError, Trainer, TrainingCallbacks, TrainingResult
from pipeline.training.workset import WorkSet

TICK_SECONDS = 0.2  # between two polls of the cluster, while workers are waited for


@dataclass(frozen=True)
class Outcome:
    """The result of a training."""

    trained: TrainingResult
    evaluation: Evaluation
    workers: tuple[str, ...]  # names, by rank
    trainer: str  # its name
    rounds: int  # that it was to train: the job's, or what the ranks agreed on when the caller ended it


class Checkpoints:
    """The latest state of a training, in memory and on the disk."""

    def __init__(self, context: RunContext, store: CheckpointStore, identity: Identity, start: State | None) -> None:
        self._context, self._store, self._identity = context, store, identity
        self._lock = threading.Lock()
        self._refused = False  # whether the disk refused the last one
        self.latest = start

    def keep(self, state: State) -> None:
        """Stores a state.  If the disk refuses it, the training continues; only a later --resume cannot use it.

        Workers' states may come late, even after the final one, which they must not replace.
        """
        with self._lock:
            if self.latest is not None and (state.round, state.stopped) <= (self.latest.round, self.latest.stopped):
                return
            self.latest, start = state, time.monotonic()
            self._context.round = max(self._context.round, state.round)
            refused, self._refused = self._refused, False
            refusal: str | None = None
            try:
                self._store.write(state, self._identity)
            except OSError as error:
                refusal, self._refused = self._refusal(error), True
            seconds = time.monotonic() - start
        # outside the lock: the caller's listener must not run while it is held
        if refusal is None:
            self._context.emit(Checkpoint(round=state.round, path=str(self._store.model), seconds=seconds))
        elif not refused:  # noted once, not at every checkpoint
            self._context.emit_note(refusal)

    def saved(self) -> int | None:
        """Returns the round of the last checkpoint on the disk; None if there is none."""
        return next(iter(self._store.rounds()), None)

    def _refusal(self, error: OSError) -> str:
        kept = self.saved()
        later = "there would be nothing to resume" if kept is None else f"--resume would continue from round {kept}"
        reason = error.strerror or str(error)
        return f"checkpoints cannot be written to {self._store.folder}: {reason}; training continues, but {later}"


@dataclass(frozen=True)
class SupervisorHooks:
    """Hooks called by the supervisor in addition to the event handler."""

    on_matrices_ready: Callable[[], object] = lambda: None  # all matrices are built: the moment of most memory
    on_workers_changed: Callable[[tuple[WorkerInfo, ...]], object] = lambda workers: None  # the run continues on these
    ends_after: Callable[[RoundDone], bool] | None = None  # whether the training ends soon after this reported round


class Supervisor:
    """Runs the attempts of one training."""

    def __init__(
        self,
        context: RunContext,
        prepared: PreparedData,
        trainer: Trainer[Any],
        checkpoints: Checkpoints,
        hooks: SupervisorHooks,
        shared: WorkSet | None = None,
    ) -> None:
        """`shared`: matrices that other trainings use, too; they are kept when this one is done."""
        self._context, self._prepared, self._checkpoints, self._hooks = context, prepared, checkpoints, hooks
        cluster, training = context.job.cluster, context.job.training
        self._policy = Policy(cluster.wait_seconds, training.max_restarts, parse_duration(cluster.patience))
        self._trainer = trainer
        self._work_set = shared or WorkSet(context, prepared, trainer)
        self._shared = shared is not None
        self._reported = self._asked = 0  # the last round with an event, and that `ends_after` was asked about
        self._ending = False  # whether `ends_after` has said so
        self._last = False  # whether the ranks have agreed on the last round since: then
        self._rounds = training.rounds  # is that round
        self._anew = False  # whether all fragments are assigned again
        self._kept_here = 0  # checkpoints of this attempt

    def run(self) -> Outcome:
        """Returns when the model is evaluated.  TrainingError says what happened if there were too many failures."""
        if self._shared:
            self._take_joined()
        now = recovery.begin(len(self._context.placement.workers))
        while True:
            try:
                outcome = self._attempt()
            except (WorkerLostError, CollectiveError, StoppedError, CancelledError) as error:
                if isinstance(error, StoppedError) and self._ended_early():
                    clear_exception_frames(error)
                    continue
                if isinstance(error, CancelledError) and not cancelled_by_others(error):
                    raise
                seen = self._seen(error)
                clear_exception_frames(error)  # its frames hold matrices whose memory may be needed
            else:
                return outcome
            with self._context.clock.stage("recovery"):
                now = self._recover(step(now, recovery.CheckpointKept(self._round()), self._policy), seen)

    def _ended_early(self) -> bool:
        """Makes the round that all ranks had agreed to stop after the last one, if the caller has ended the training.

        Ranks that had not finished a round begin again, and are stopped after their first.
        """
        if self._ending and self._round():
            self._rounds, self._last = self._round(), True
        return self._ending

    def _seen(self, error: Exception) -> RecoveryEvent:
        """Converts the error that ended an attempt into an observation for the state machine."""
        if isinstance(error, CancelledError):  # caused by a future that was another task's argument
            return recovery.Interruption(
                time.monotonic(), "another client cancelled this run's tasks (client.restart()?)"
            )
        if isinstance(error, WorkerLostError):
            self._context.membership.refresh()  # emits WorkerLost if that has not happened yet
            kind = recovery.Departure if isinstance(error, DepartureError) else recovery.Interruption
            return kind(time.monotonic(), loss_line(self._context, error))
        if isinstance(error, StoppedError):
            return recovery.WorkersJoined(time.monotonic(), len(self._candidates()))
        return recovery.Interruption(time.monotonic(), str(error))

    def _attempt(self) -> Outcome:
        """Runs one attempt, from the current layout to an evaluated model."""
        context = self._context
        partitions = self._work_set.ensure_matrices(reassign=self._anew)
        self._anew = False
        self._hooks.on_matrices_ready()
        context.emit(Placed(workers=self._work_set.places(), device=context.placement.device))
        callbacks = TrainingCallbacks(self._checkpoints.latest, self._hear, self._checkpoints.keep, self._stops, True)
        with context.clock.stage("rounds"):
            attempt = Attempt(context, self._prepared, partitions, self._rounds, callbacks)
            trained = self._trainer.rounds(attempt, self._trainer.spec(attempt))
        if self._last and self._reported < trained.result.rounds:  # no event came of the round the ranks agreed on
            last = trained.result.last_round(trained.result.rounds)
            context.publish(last)
            self._hear(last)
        if trained.result.state is not None:
            self._checkpoints.keep(trained.result.state)
        self._note_findings(trained.findings)  # after the state: if `data.strict` raises here, no round is lost
        workers = partitions.workers
        del partitions, attempt
        if not self._shared:
            self._work_set.release()
        with context.clock.stage("evaluate"):
            evaluation = evaluate(context, self._prepared, trained, workers)
        return Outcome(trained, evaluation, context.names(workers), self._trainer.name, self._rounds)

    def _note_findings(self, found: Sequence[Finding]) -> None:
        """Emits findings; StrictError, with `data.strict`, says how to save the model all the same."""
        try:
            self._context.emit_note(*found)
        except StrictError as error:
            if (kept := self._checkpoints.saved()) is None:
                raise
            raise StrictError(
                f"{error}; the checkpoint of round {kept} is kept: resume with data.strict = false to save its model"
            ) from None

    def _recover(self, now: Recovery, seen: RecoveryEvent) -> Recovery:
        """Waits for workers if the decision is to wait, then lays the run out on those that are present."""
        now = step(now, seen, self._policy)
        workers: tuple[WorkerInfo, ...] = ()
        told = False
        while now.state == "waiting":
            self._context.membership.raise_if_lost(())  # raises if the run was ended meanwhile
            workers = self._usable(now.expected)
            now = step(now, recovery.WorkersPresent(time.monotonic(), len(workers)), self._policy)
            if now.state == "waiting":
                if not told and workers:
                    self._context.emit_incident(
                        Waiting(workers=len(workers), expected=now.expected, seconds=now.wait_seconds(self._policy))
                    )
                told = True
                time.sleep(TICK_SECONDS)
        if now.state == "failed":
            short = self._context.membership.out_of_memory(self._context.planned_nbytes)
            raise TrainingError("; ".join((*now.events, now.reason, *([short] if short else []))))
        return self._restart(now, workers, joined=isinstance(seen, recovery.WorkersJoined))

    def _restart(self, now: Recovery, workers: tuple[WorkerInfo, ...], *, joined: bool) -> Recovery:
        context, before = self._context, {worker.address for worker in self._context.placement.workers}
        context.placement = replace(context.placement, workers=workers)
        self._hooks.on_workers_changed(workers)
        self._anew, context.round = joined, self._round()
        for worker in workers if joined else ():
            if worker.address not in before:
                context.emit_incident(WorkerJoined(worker=worker.name))
        context.emit_incident(Restarted(round=self._round(), workers=len(workers)))
        return step(now, recovery.AttemptStarted(len(workers)), self._policy)

    def _hear(self, event: Event) -> None:
        if isinstance(event, RoundDone):
            self._context.round = max(self._context.round, event.round)
            self._reported = event.round
        if isinstance(event, Note):
            self._context.emit_note(event.message)  # also kept for the report
            return
        self._context.relay(event)
        ends_after = self._hooks.ends_after
        if isinstance(event, RoundDone) and ends_after is not None and event.round > self._asked and not self._ending:
            self._asked = event.round
            last = event.round >= self._rounds
            self._ending = bool(ends_after(event)) and not last  # and stays so: later events are not asked about

    def _take_joined(self) -> None:
        """Uses workers that have joined, or come back, since the last training on the shared rows."""
        workers, context = self._candidates(), self._context
        if context.job.cluster.elastic and len(workers) > len(context.placement.workers):
            context.placement = replace(context.placement, workers=workers)
            self._hooks.on_workers_changed(workers)
            self._anew = True

    def _stops(self) -> bool:
        """Whether the ranks are to agree on a round to stop after."""
        return (self._ending and not self._last) or self._more_workers()

    def _more_workers(self) -> bool:
        """Whether workers have joined that can be used from this checkpoint on."""
        kept, self._kept_here = self._kept_here, self._round()
        if not self._context.job.cluster.elastic or kept == self._kept_here:
            return False
        return len(self._candidates()) > len(self._context.placement.workers)

    def _candidates(self) -> tuple[WorkerInfo, ...]:
        """Returns the workers that could take part, as many as the job asks for."""
        asked = self._context.job.cluster.workers
        return self._usable(asked if isinstance(asked, int) else sys.maxsize)

    def _usable(self, most: int) -> tuple[WorkerInfo, ...]:
        """Returns at most `most` workers that accept tasks: not those that are retired, or paused for lack of memory."""
        present = self._context.membership.refresh()
        running = {address: facts for address, facts in present.items() if facts["status"] == "running"}
        return usable(running, self._context.placement, most)

    def _round(self) -> int:
        return self._checkpoints.latest.round if self._checkpoints.latest else 0


def loss_line(context: RunContext, lost: WorkerLostError) -> str:
    """Returns the line that was emitted when the loss was noticed."""
    (name,) = context.names([lost.worker])
    for told in reversed(context.incidents):
        if isinstance(told, WorkerLost) and told.worker == name:
            return str(incident(told))
    return f"worker {name} lost: {lost.reason}"
