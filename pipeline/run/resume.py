"""Decides where a run begins: with the first round, or at the checkpoint of an interrupted run."""

from dataclasses import dataclass

from pipeline.errors import JobError
from pipeline.events.types import Restarted
from pipeline.runtime.context import Walk
from pipeline.training.checkpoint import CheckpointStore, Identity, State


@dataclass(frozen=True)
class Start:
    """Where the rounds begin."""

    state: State | None = None  # None: with the first round
    identity: Identity | None = None  # what the state belongs to

    def checked(self, identity: Identity) -> State | None:
        """Returns the state.  JobError if its features differ from those that the job and the data give now."""
        if self.identity is not None:
            _same(self.identity, identity)
        return self.state


def take_up(walk: Walk, store: CheckpointStore, identity: Identity) -> Start:
    """Starts at the last whole checkpoint.  ModelError if there is none; JobError if it belongs to another run."""
    state, theirs, wrong = store.latest()
    walk.note(*wrong)
    _same(theirs, identity)
    if walk.job.training.rounds < state.round:
        raise JobError(
            f"training.rounds = {walk.job.training.rounds}, but the checkpoint has {state.round}: ask for at least as many"
        )
    walk.round = state.round
    walk.listen(Restarted(round=state.round, workers=len(walk.placement.workers)))
    return Start(state, theirs)


def _same(theirs: Identity, ours: Identity) -> None:
    differences = theirs.differences(ours)
    if differences:
        raise JobError(f"this is not the run that was interrupted: {'; '.join(differences)}")
