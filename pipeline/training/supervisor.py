"""Supervises a training: when workers are lost, decides (recovery), repairs the layout, resumes from the last state."""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace

from pipeline.config.job import seconds_of
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
from pipeline.preprocess.passes import Prepared
from pipeline.runtime.context import Walk, let_go
from pipeline.runtime.placement import WorkerInfo, usable
from pipeline.runtime.shared_value import cancelled_by_others
from pipeline.training import recovery
from pipeline.training.checkpoint import CheckpointStore, Identity, State
from pipeline.training.recovery import Policy, Recovery, Seen, step
from pipeline.training.workset import Team
from pipeline.training.xgboost.boost import Evaluation, boost, evaluate
from pipeline.training.xgboost.dispatch import StoppedError, Trained
from pipeline.training.xgboost.training_events import Going

TICK_SECONDS = 0.2  # between two polls of the cluster, while workers are waited for


@dataclass(frozen=True)
class Outcome:
    """The result of a training."""

    trained: Trained
    evaluation: Evaluation
    workers: tuple[str, ...]  # names, by rank


class Checkpoints:
    """The latest state of a training, in memory and on the disk."""

    def __init__(self, walk: Walk, store: CheckpointStore, identity: Identity, start: State | None) -> None:
        self._walk, self._store, self._identity = walk, store, identity
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
            self._walk.round = max(self._walk.round, state.round)
            refused, self._refused = self._refused, False
            refusal: str | None = None
            try:
                self._store.write(state, self._identity)
            except OSError as error:
                refusal, self._refused = self._refusal(error), True
            seconds = time.monotonic() - start
        # outside the lock: the caller's listener must not run while it is held
        if refusal is None:
            self._walk.listen(Checkpoint(round=state.round, path=str(self._store.model), seconds=seconds))
        elif not refused:  # noted once, not at every checkpoint
            self._walk.note(refusal)

    def saved(self) -> int | None:
        """Returns the round of the last checkpoint on the disk; None if there is none."""
        return next(iter(self._store.rounds()), None)

    def _refusal(self, error: OSError) -> str:
        kept = self.saved()
        later = "there would be nothing to resume" if kept is None else f"--resume would go on from round {kept}"
        reason = error.strerror or str(error)
        return f"checkpoints cannot be written to {self._store.folder}: {reason}; training goes on, but {later}"


@dataclass(frozen=True)
class Beside:
    """Hooks called by the supervisor in addition to the event handler."""

    stands: Callable[[], object] = lambda: None  # all matrices are built: the moment of most memory
    joined: Callable[[tuple[WorkerInfo, ...]], object] = lambda workers: None  # the run continues on these


class Supervisor:
    """Runs the attempts of one training."""

    def __init__(self, walk: Walk, prepared: Prepared, checkpoints: Checkpoints, beside: "Beside") -> None:
        self._walk, self._prepared, self._checkpoints, self._beside = walk, prepared, checkpoints, beside
        cluster, training = walk.job.cluster, walk.job.training
        self._policy = Policy(cluster.wait_seconds, training.max_restarts, seconds_of(cluster.patience))
        self._team = Team(walk, prepared)
        self._anew = False  # whether all fragments are assigned anew
        self._kept_here = 0  # checkpoints of this attempt

    def run(self) -> Outcome:
        """Returns when the model is evaluated.  TrainingError says what happened if there were too many failures."""
        now = recovery.begin(len(self._walk.placement.workers))
        while True:
            try:
                outcome = self._attempt()
            except (WorkerLostError, CollectiveError, StoppedError, CancelledError) as error:
                if isinstance(error, CancelledError) and not cancelled_by_others(error):
                    raise
                seen = self._seen(error)
                let_go(error)  # its frames hold matrices whose memory may be needed
            else:
                return outcome
            with self._walk.clock.stage("recovery"):
                now = self._recover(step(now, recovery.Checkpointed(self._round()), self._policy), seen)

    def _seen(self, error: Exception) -> Seen:
        """Converts the error that ended an attempt into an observation for the state machine."""
        if isinstance(error, CancelledError):  # caused by a future that was another task's argument
            return recovery.Interrupted(
                time.monotonic(), "another client cancelled this run's tasks (client.restart()?)"
            )
        if isinstance(error, WorkerLostError):
            self._walk.members.look()  # emits WorkerLost if that has not happened yet
            kind = recovery.Departed if isinstance(error, DepartureError) else recovery.Interrupted
            return kind(time.monotonic(), self._line(error))
        if isinstance(error, StoppedError):
            return recovery.Joined(time.monotonic(), len(self._candidates()))
        return recovery.Interrupted(time.monotonic(), str(error))

    def _attempt(self) -> Outcome:
        """Runs one attempt, from the current layout to an evaluated model."""
        walk = self._walk
        partitions = self._team.ready(anew=self._anew)
        self._anew = False
        self._beside.stands()
        walk.listen(Placed(workers=self._team.places(), device=walk.placement.device))
        going = Going(self._checkpoints.latest, self._hear, self._checkpoints.keep, self._more_workers)
        with walk.clock.stage("rounds"):
            trained, found = boost(walk, self._prepared, partitions, going)
        if trained.result.state is not None:
            self._checkpoints.keep(trained.result.state)
        self._note_findings(found)  # after the state is kept: if `data.strict` raises here, the rounds are not lost
        workers = partitions.workers
        del partitions
        self._team.release()
        with walk.clock.stage("evaluate"):
            evaluation = evaluate(walk, self._prepared, trained, workers)
        return Outcome(trained, evaluation, walk.names(workers))

    def _note_findings(self, found: Sequence[Finding]) -> None:
        """Emits findings; StrictError, with `data.strict`, says how to save the model all the same."""
        try:
            self._walk.note(*found)
        except StrictError as error:
            if (kept := self._checkpoints.saved()) is None:
                raise
            raise StrictError(
                f"{error}; the checkpoint of round {kept} is kept: resume with data.strict = false to save its model"
            ) from None

    def _recover(self, now: Recovery, seen: Seen) -> Recovery:
        """Waits for workers if the decision is to wait, then lays the run out on those that are present."""
        now = step(now, seen, self._policy)
        workers: tuple[WorkerInfo, ...] = ()
        told = False
        while now.state == "waiting":
            self._walk.members.check(())  # raises if the run was ended meanwhile
            workers = self._usable(now.expected)
            now = step(now, recovery.Present(time.monotonic(), len(workers)), self._policy)
            if now.state == "waiting":
                if not told and workers:
                    self._walk.happened(
                        Waiting(workers=len(workers), expected=now.expected, seconds=now.wait_seconds(self._policy))
                    )
                told = True
                time.sleep(TICK_SECONDS)
        if now.state == "failed":
            short = self._walk.members.out_of_memory(self._walk.planned_nbytes)
            raise TrainingError("; ".join((*now.events, now.reason, *([short] if short else []))))
        return self._restart(now, workers, joined=isinstance(seen, recovery.Joined))

    def _restart(self, now: Recovery, workers: tuple[WorkerInfo, ...], *, joined: bool) -> Recovery:
        walk, before = self._walk, {worker.address for worker in self._walk.placement.workers}
        walk.placement = replace(walk.placement, workers=workers)
        self._beside.joined(workers)
        self._anew, walk.round = joined, self._round()
        for worker in workers if joined else ():
            if worker.address not in before:
                walk.happened(WorkerJoined(worker=worker.name))
        walk.happened(Restarted(round=self._round(), workers=len(workers)))
        return step(now, recovery.Started(len(workers)), self._policy)

    def _hear(self, event: Event) -> None:
        if isinstance(event, RoundDone):
            self._walk.round = max(self._walk.round, event.round)
        if isinstance(event, Note):
            self._walk.note(event.message)  # also kept for the report
        else:
            self._walk.listen(event)

    def _more_workers(self) -> bool:
        """Whether workers have joined that can be used from this checkpoint on."""
        kept, self._kept_here = self._kept_here, self._round()
        if not self._walk.job.cluster.elastic or kept == self._kept_here:
            return False
        return len(self._candidates()) > len(self._walk.placement.workers)

    def _candidates(self) -> tuple[WorkerInfo, ...]:
        """Returns the workers that could take part, as many as the job asks for."""
        asked = self._walk.job.cluster.workers
        return self._usable(asked if isinstance(asked, int) else sys.maxsize)

    def _usable(self, most: int) -> tuple[WorkerInfo, ...]:
        """Returns at most `most` workers that accept tasks: not those that are retired, or paused for lack of memory."""
        present = self._walk.members.look()
        running = {address: facts for address, facts in present.items() if facts["status"] == "running"}
        return usable(running, self._walk.placement, most)

    def _round(self) -> int:
        return self._checkpoints.latest.round if self._checkpoints.latest else 0

    def _line(self, lost: WorkerLostError) -> str:
        """Returns the line that was emitted when the loss was noticed."""
        (name,) = self._walk.names([lost.worker])
        for told in reversed(self._walk.incidents):
            if isinstance(told, WorkerLost) and told.worker == name:
                return str(incident(told))
        return f"worker {name} lost: {lost.reason}"
