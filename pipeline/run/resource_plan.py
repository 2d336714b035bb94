"""Plans the resources of a job from its metadata, what earlier runs on this machine took, and a probe."""

import dataclasses
from collections.abc import Sequence

from distributed import Client

from pipeline.cluster.affinity import cores
from pipeline.config.job import Job, require_job
from pipeline.config.prices import load_prices
from pipeline.data.opened_sources import Inputs
from pipeline.data.rows import RowPlan
from pipeline.data.schema.schema_merge import is_text
from pipeline.data.schema.target_survey import survey_fragment
from pipeline.errors import JobError
from pipeline.planning.audit import AuditLine, correction
from pipeline.planning.forecast import Correction
from pipeline.planning.job_size import JobSize
from pipeline.planning.plan import Evidence, Plan, PlanOptions
from pipeline.planning.storage_plan import Resources, StoragePlan
from pipeline.run.audit import kind_of_job
from pipeline.run.audit_history import fingerprint, read_history
from pipeline.run.metadata import check_with_trainer, resolve, resources_of
from pipeline.runtime.context import RunContext
from pipeline.runtime.membership import WorkerMembership
from pipeline.runtime.placement import find_workers
from pipeline.runtime.rpc import require_client

MOST_WORKERS = 1_024


def plan_of_run(context: RunContext, inputs: Inputs, resources: Resources) -> Plan | None:
    """The plan of a run on the workers that it has; a damaged history is left aside with a note.  None if it cannot be
    planned.
    """
    history, note = read_history()
    if note is not None:
        context.emit_note(note)
    if not _plannable(inputs):
        return None
    evidence = evidence_of(inputs, resources, history)
    return Plan.of(_size(inputs, evidence), inputs.survey(), [resources], evidence)


def _plannable(inputs: Inputs) -> bool:
    """Whether metadata tell how large the job is: not those of a Dask collection that has not been computed."""
    return inputs.training.format != "dask" or inputs.rows is not None


def check_run(inputs: Inputs) -> None:
    """Checks what `metadata.open_checked` leaves: whether the run fits on the workers of its job, and the trainer's
    parameters.
    """
    check_with_trainer(inputs)
    resources = resources_of(inputs.job.cluster)
    StoragePlan.of(inputs.survey(), resources).validate()
    history, _ = read_history()
    evidence = evidence_of(inputs, resources, history)
    if _plannable(inputs):
        Plan.of(_size(inputs, evidence), inputs.survey(), [resources], evidence).validate()


def evidence_of(inputs: Inputs, resources: Resources, history: Sequence[AuditLine]) -> Evidence:
    """What the history says of a job on these workers."""
    machine = fingerprint(resources.device)
    here = tuple(line for line in history if line.machine == machine)
    return Evidence(correction(here, machine, kind_of_job(inputs)) if here else Correction(), here)


def plan(
    job: Job,
    client: Client | None = None,
    *,
    source: object | None = None,
    names: Sequence[str] | None = None,
    allow_code: bool = False,
    workers: Sequence[int] | None = None,
    probe_seconds: float = 0.0,
    deadline_seconds: float | None = None,
    budget: float | None = None,
    inputs: Inputs | None = None,
) -> Plan:
    """Plans what a training will need, before it runs: time, memory and price for each number of workers.

    `print` shows the plan; `.best` is the layout to use; `validate` raises ClusterError where no layout fits into memory or
    meets the deadline or the budget.  The workers are those that `pipeline.connect` would start, as many as each of
    `workers` (default: 1, 2, 4, ... up to the cores; 1 and the number that the job names, if it names one); behind
    `cluster.scheduler` and with a client, those of its cluster.  Only metadata are read, and of a target of several
    classes the first fragment's.  `probe_seconds` above 0 measures a part of the job on a worker of the client first.
    `deadline_seconds` and `budget` (in the currency of the job's `cluster.prices`) choose among the layouts.
    `source`, `names`, `allow_code` and `inputs` as for `pipeline.train`; UserError for what it would refuse.
    """
    require_job(job)
    if client is not None:
        require_client(client)
    if probe_seconds and client is None:
        raise JobError("a probe needs workers: pass a client, or leave probe_seconds at 0")
    prices = None if job.cluster.prices is None else load_prices(job.cluster.prices)
    if budget is not None and prices is None:
        raise JobError("a budget needs prices: name a file of prices in cluster.prices (--prices)")
    inputs = inputs or resolve(job, source, names=names, allow_code=allow_code)
    job = inputs.job
    resources = _resources(job, client, workers)
    history, note = read_history()
    evidence = evidence_of(inputs, resources[0], history)
    if probe_seconds and client is not None:
        from pipeline.run.probe import probe

        found = probe(client, inputs, probe_seconds)
        evidence = dataclasses.replace(
            evidence, correction=found.applied_to(evidence.correction), probe_seconds=found.seconds, busy=found.busy
        )
    notes = [note] if note is not None else []
    if resources[0].device == "cuda":
        notes.append("costs were measured on CPUs: what a GPU takes is not known before a probe on one")
    evidence = dataclasses.replace(evidence, notes=tuple(notes))
    options = PlanOptions(deadline_seconds, budget, prices, job.training.checkpoint_seconds)
    size = _size(inputs, evidence)
    if evidence.correction.facts is None:
        size = dataclasses.replace(size, trees=max(size.trees, _classes(inputs)))
    return Plan.of(size, inputs.survey(), resources, evidence, options)


def _size(inputs: Inputs, evidence: Evidence) -> JobSize:
    """The job's size from metadata, with what such a job is known to be."""
    facts = evidence.correction.facts
    return inputs.size() if facts is None else facts.applied_to(inputs.size())


def _classes(inputs: Inputs) -> int:
    """The trees of a round that a target of several classes has in the first fragment, of which only this is read; 1 for
    other targets, and where fragments that cannot be read are left out.
    """
    job, fragment = inputs.job, inputs.training.fragments[0]
    several = job.training.objective.startswith("multi:")
    named = job.training.objective == "auto" and is_text(inputs.schema.field(str(job.data.target)).type)
    if not (several or named) or job.data.skip_bad_fragments or inputs.training.format == "dask":
        return 1
    rows = RowPlan(roles=inputs.roles, derivation=inputs.derivation, seed=job.training.seed)
    label = survey_fragment(inputs.training, fragment, rows, inputs.training.payload(fragment)).label
    classes = len(label.counts or ()) if label is not None else 0
    return classes if classes > 2 or several else 1


def _resources(job: Job, client: Client | None, workers: Sequence[int] | None) -> list[Resources]:
    """The workers of each layout to plan."""
    if workers is not None and (not workers or min(workers) < 1 or max(workers) > MOST_WORKERS):
        found = ",".join(map(str, workers))
        raise JobError(f"workers (--workers) {found}: expected numbers from 1 to {MOST_WORKERS:,}")
    if client is not None and job.cluster.scheduler is not None:
        everything = _of_cluster(client, job)
        present = len(everything.workers)
        counts = _counts(present) if workers is None else list(workers)
        if max(counts) > present:
            raise JobError(f"--workers {max(counts)}: the cluster has {present}")
        return [dataclasses.replace(everything, workers=everything.workers[:count]) for count in counts]
    if workers is None:
        asked = job.cluster.workers
        workers = _counts(cores()) if asked == "auto" else sorted({1, asked})
    return [resources_of(job.cluster.model_copy(update={"workers": count})) for count in workers]


def _of_cluster(client: Client, job: Job) -> Resources:
    with WorkerMembership(client, job.cluster.hang_seconds) as membership:
        every = job.cluster.model_copy(update={"workers": "auto"})
        return find_workers(client, every, membership).resources


def _counts(most: int) -> list[int]:
    """1, 2, 4, ... up to `most`, and `most`.

    >>> _counts(6), _counts(1)
    ([1, 2, 4, 6], [1])
    """
    return sorted({*(1 << power for power in range(most.bit_length()) if 1 << power <= most), most})
