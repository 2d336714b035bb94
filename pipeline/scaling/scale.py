"""Implements the verb `scale`: from a job, or synthetic rows, to a measured, predicted and explained scaling run."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed import Client

from pipeline.config.job import Cluster, Job
from pipeline.data.files import waiting
from pipeline.data.opened_sources import Inputs
from pipeline.efficiency import records
from pipeline.efficiency.records import Result
from pipeline.events.types import EventHandler, Failed, Note, Saved, Started, discard
from pipeline.run.metadata import resolve
from pipeline.run.modules import TASKS
from pipeline.runtime.context import clear_exception_frames
from pipeline.runtime.placement import Placement, placement
from pipeline.runtime.rpc import require_client
from pipeline.scaling import samples
from pipeline.scaling.calibration import load_or_calibrate
from pipeline.scaling.compare import comparison
from pipeline.scaling.environment import circumstances
from pipeline.scaling.experiment import ExperimentContext, RunMetadata, measure
from pipeline.scaling.explain import explain_result
from pipeline.scaling.pictures import NAMES
from pipeline.scaling.plan import Plan, ScaleOptions, default_folder
from pipeline.scaling.report import REPORT, write_report
from pipeline.scaling.synthetic import Synthetic
from pipeline.scaling.workloads import JobWorkload, SyntheticWorkload, WorkloadSource
from pipeline.storage.atomic import claim

BUSY = 0.5  # load per core, in the minute before: above it a note is emitted


def scale(
    client: Client,
    job: Job | Synthetic,
    plan: Plan | None = None,
    wish: ScaleOptions | None = None,
    *,
    cluster: Cluster | None = None,
    listen: EventHandler = discard,
    inputs: Inputs | None = None,
) -> Result:
    """Predicts and measures how boosting scales over the first workers of the client's cluster; writes the report.

    `job`: a job with its files, or `Synthetic` rows.  `cluster`: for synthetic rows; a job has its own. `inputs`: what
    `metadata.resolve` returned for this job, if it was called before; otherwise it is called here, before the first
    task.  Only the boosting rounds are measured: no metrics, no early stopping.  UserError for errors the user can
    fix.  However the run ends, the samples so far are in the folder's result.json.
    """
    require_client(client)
    plan, wish = plan or Plan(), wish or ScaleOptions()
    section = job.cluster if isinstance(job, Job) else cluster or Cluster()
    section = section.model_copy(update={"workers": plan.most})
    listen(Started(verb="scale", run=""))
    folder, about = None, circumstances()
    try:
        earlier = None if wish.compare is None else records.read(wish.compare)
        if earlier is not None and not wish.force:
            records.check_comparable(about, earlier.circumstances)
        folder = claim(wish.out or default_folder(), overwrite=wish.overwrite, ours=is_scaling_folder)
        with waiting.notes_to(listen):
            rows = job if isinstance(job, Synthetic) else inputs or resolve(job, allow_code=wish.allow_code)
        subject = functools.partial(_subject, client, rows, listen)
        result = _scaled(client, subject, plan, ScaleContext(section, folder, wish, about, listen), earlier)
    except BaseException as error:
        clear_exception_frames(error)
        if folder is not None and (folder / records.RESULT).exists():
            listen(Note(message=f"what was measured so far is in {folder}"))
        listen(Failed.of(error))
        raise
    listen(Saved(path=str(folder / REPORT), sha256=""))
    return result


@dataclass(frozen=True)
class ScaleContext:
    section: Cluster
    folder: Path
    wish: ScaleOptions
    circumstances: Mapping[str, Any]  # collected before the run starts anything
    on_event: EventHandler


def _scaled(
    client: Client,
    make_subject: Callable[[Placement], WorkloadSource],
    plan: Plan,
    scale_context: ScaleContext,
    earlier: Result | None,
) -> Result:
    def place() -> Placement:
        return placement(client, scale_context.section, modules=TASKS)

    where = place()
    workload = make_subject(where)
    try:
        machine, calibrated = load_or_calibrate(client, where, plan.workers, recalibrate=scale_context.wish.recalibrate)
        context = ExperimentContext(client, workload, place, machine, scale_context.on_event, scale_context.folder)
        arguments = {**scale_context.wish.arguments, **dataclasses.asdict(plan)}
        metadata = RunMetadata(
            arguments, (*where.notes, *busy(scale_context.circumstances), *calibrated), scale_context.circumstances
        )
        for message in metadata.notes:
            scale_context.on_event(Note(message=message))
        result = measure(context, plan, metadata)
    finally:
        workload.close()
    result = dataclasses.replace(result, sentences=tuple(explain_result(result, machine)))
    if earlier is not None:
        compared = comparison(result, earlier, force=scale_context.wish.force)
        result = dataclasses.replace(result, notes=(*result.notes, *compared))
    records.write(result, scale_context.folder)
    write_report(result, machine, scale_context.folder)
    return result


def _subject(client: Client, rows: Synthetic | Inputs, on_event: EventHandler, where: Placement) -> WorkloadSource:
    return (
        SyntheticWorkload(client, rows) if isinstance(rows, Synthetic) else JobWorkload(client, rows, where, on_event)
    )


def busy(about: Mapping[str, Any]) -> list[str]:
    """A note if other programs were busy before this run started."""
    load, cores = about["machine"]["load_before"], about["machine"]["cores"]
    words = "seconds measured while other programs run are not reliable, and neither is a calibration"
    return [f"this machine was busy (load {load} on {cores} cores): {words}"] if load > BUSY * cores else []


def is_scaling_folder(folder: Path) -> bool:
    """Whether it contains only the output of a scaling run."""
    names = {path.name for path in folder.iterdir()}
    ours = {records.RESULT, samples.SAMPLES, REPORT, f".{records.RESULT}.partial", *(f"{name}.png" for name in NAMES)}
    return records.RESULT in names and names <= ours
