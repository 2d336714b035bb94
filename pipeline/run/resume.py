"""Decides where a run begins: with the first round, or at the checkpoint of an interrupted run."""

from dataclasses import dataclass
from typing import Any

from pipeline.data.opened_sources import Inputs
from pipeline.errors import JobError
from pipeline.events.types import Restarted
from pipeline.runtime.context import RunContext
from pipeline.training.checkpoint import CheckpointStore
from pipeline.training.identity import Identity
from pipeline.training.state import State
from pipeline.training.trainer import Trainer


@dataclass(frozen=True)
class ResumePoint:
    """Where the rounds begin."""

    state: State | None = None  # None: with the first round
    identity: Identity | None = None  # what the state belongs to

    def checked(self, identity: Identity) -> State | None:
        """Returns the state.  JobError if its features differ from those that the job and the data give now."""
        if self.identity is not None:
            _same(self.identity, identity)
        return self.state


def identity_of(context: RunContext, inputs: Inputs, trainer: Trainer[Any]) -> Identity:
    """Returns the identity of this run's checkpoints, as far as metadata determine it."""
    data = tuple(source.fingerprint for source in inputs.sources)
    files = tuple(source.digests for source in inputs.sources)
    return Identity.of(inputs.job, data, context.placement.device, trainer, files)


def load_resume_point(context: RunContext, store: CheckpointStore, identity: Identity) -> ResumePoint:
    """Starts at the last whole checkpoint.  ModelError if there is none; JobError if it belongs to another run."""
    state, theirs, wrong = store.latest()
    context.emit_note(*wrong)
    _same(theirs, identity)
    if context.job.training.rounds < state.round:
        raise JobError(
            f"training.rounds = {context.job.training.rounds}, but the checkpoint has {state.round}: ask for at least as many"
        )
    context.round = state.round
    context.emit(Restarted(round=state.round, workers=len(context.placement.workers)))
    return ResumePoint(state, theirs)


def _same(theirs: Identity, ours: Identity) -> None:
    differences = theirs.differences(ours)
    if differences:
        raise JobError(f"this is not the run that was interrupted: {'; '.join(differences)}")
