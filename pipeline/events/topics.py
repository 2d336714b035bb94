"""Names the topics of Dask's scheduler on which runs are heard: few and fixed, so every message names its run."""

# For everyone who follows runs: {run: id, event: encoded event, client: its id}; without client from a worker.
RUN_EVENTS = "pipeline-events"
# Of workers, for their run's client: {run: id} with an encoded event, the round of a checkpoint, or a task's span
# (stage, start, stop, cpu_seconds).
WORKER_EVENTS = "pipeline"
