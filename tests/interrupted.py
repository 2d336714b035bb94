"""A training that is interrupted at a known place: after its rounds, before its evaluation."""

from distributed import Client

import pipeline
from pipeline.config.job import Job
from pipeline.events.types import Evaluated, Event


class StoppedEarlyError(Exception):
    """Ends the run."""


def train_interrupted(client: Client, job: Job) -> None:
    """Runs until the rounds are boosted, and no further: a checkpoint of the last one is left."""

    def listen(event: Event) -> None:
        if isinstance(event, Evaluated):
            raise StoppedEarlyError

    try:
        pipeline.train(client, job, listen=listen)
    except StoppedEarlyError:
        return
    raise AssertionError("the run was not interrupted")
