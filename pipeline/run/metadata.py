"""Resolves a job before a row is read: opens its sources, checks columns, types, parameters and names, plans the run.

So a mistake is reported at once, before a cluster starts for it or a task runs.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence

from pipeline.config.job import Cluster, Data, Job, require_job
from pipeline.config.names import hint, matches
from pipeline.config.parameters import check_params, check_quantiles
from pipeline.config.urls import is_url
from pipeline.data.opened_sources import Inputs, open_inputs
from pipeline.data.schema.target_inference import check_types
from pipeline.errors import JobError
from pipeline.planning.storage_plan import Device, Resources, WorkerResources
from pipeline.preprocess.features import feature_names
from pipeline.preprocess.settings import column_settings, kind_of
from pipeline.run.settings import unused_settings
from pipeline.training.trainers import trainer_named


def resolve(
    job: Job, source: object | None = None, *, names: Sequence[str] | None = None, allow_code: bool = False
) -> Inputs:
    """Returns the opened sources of a job, with columns, types, parameters and names checked.

    `source`: data in memory instead of `data.source`; `names`: the columns of an array.  UserError for what does not
    fit.
    """
    require_job(job)
    inputs = open_checked(job, source, names=names, allow_code=allow_code)
    check_with_trainer(inputs)
    return inputs


def resources_of(cluster: Cluster) -> Resources:
    """What the workers of a job may use, before any is started; ClusterError for a device that cannot be used."""
    from pipeline.cluster.launchers.launched import more_memory  # these import Dask
    from pipeline.cluster.launchers.layout import layout

    if cluster.scheduler is None:
        local = layout(cluster)
        worker = WorkerResources(local.threads, local.memory_limit_nbytes)
        return Resources(local.device, (worker,) * local.workers, more_memory(local=True))
    assumed = WorkerResources(1 if cluster.threads == "auto" else cluster.threads, 0)
    count = 1 if cluster.workers == "auto" else cluster.workers
    note = f"the workers of {cluster.scheduler} are known once a client is connected to it; assumed here: {count}"
    device: Device = "cuda" if cluster.device == "cuda" else "cpu"
    return Resources(device, (assumed,) * count, more_memory(local=False), note)


def are_local(data: Data) -> bool:
    """Whether no source is a URL, so that metadata are read without waiting for a network."""
    sources = [data.source, (data.validation and data.validation.source) or []]
    return not any(
        map(is_url, itertools.chain.from_iterable([one] if isinstance(one, str) else one for one in sources))
    )


def check_with_trainer(inputs: Inputs) -> None:
    """JobError for parameters that the trainer refuses.  Apart from the other checks: they need not wait for its import."""
    trainer_named().check(inputs.job.training, inputs.job.training.objective)


def open_checked(
    job: Job, source: object | None = None, *, names: Sequence[str] | None = None, allow_code: bool = False
) -> Inputs:
    """Does what `resolve` does, except for the checks of the trainer.  Imports neither XGBoost nor Dask."""
    check_params(job.training.params, job.training.metrics, job.training.objective)
    check_quantiles(job.training.quantiles, job.training.objective)
    inputs = open_inputs(job, source, names=names, allow_code=allow_code)
    check_types(inputs.job.data, inputs.job.training, inputs.schema)
    return _without_empty(inputs)


def _without_empty(inputs: Inputs) -> Inputs:
    """Drops from the job the settings for columns that the files have but that cannot be features this time.

    JobError for names that fit no feature, and for options that do not fit a column's type.
    """
    job, roles = inputs.job, inputs.roles
    absent = {**inputs.training.left_out, **dict.fromkeys(inputs.training.null_columns, "has no value in any file")}
    notes: dict[str, None] = {}

    def kept(setting: str, names: list[str], fits: Callable[[str, str], bool]) -> list[str]:
        """Returns the names without those that match absent columns only."""
        out = []
        for name in names:
            if not any(fits(name, column) for column in roles.features):
                lacking = next((column for column in absent if fits(name, column)), None)
                if lacking is not None:
                    notes[f"{setting}: {name} is left out: the column {lacking!r} {absent[lacking]}"] = None
                    continue
            out.append(name)
        return out

    columns = kept("preprocess.columns", list(job.preprocess.columns), matches)
    monotone = kept("training.monotone", list(job.training.monotone), _made_from)
    groups = [kept("training.interactions", group, _made_from) for group in job.training.interactions]
    _check_features("training.monotone", monotone, roles.features)
    for group in groups:
        _check_features("training.interactions", group, roles.features)
    preprocess = job.preprocess.model_copy(update={"columns": {name: job.preprocess.columns[name] for name in columns}})
    settings = column_settings(preprocess, roles.features)
    kinds = {
        name: kind_of(name, setting, inputs.schema.field(name).type, exact=name in preprocess.columns)
        for name, setting in settings.items()
    }
    formats = [source.format for source in inputs.sources]
    shown = job.model_copy(update={"preprocess": preprocess})
    unused = unused_settings(shown, formats, settings, kinds)
    if not notes:
        return dataclasses.replace(inputs, roles=dataclasses.replace(roles, notes=(*roles.notes, *unused)))
    training = job.training.model_copy(
        update={
            "monotone": {name: job.training.monotone[name] for name in monotone},
            "interactions": [group for group in groups if group],
        }
    )
    job = job.model_copy(update={"preprocess": preprocess, "training": training})
    return dataclasses.replace(inputs, job=job, roles=dataclasses.replace(roles, notes=(*roles.notes, *notes, *unused)))


def _made_from(feature: str, column: str) -> bool:
    """Whether a feature may be derived from a column: `day.hour` and `origin=late` are made from day and origin."""
    name = feature_names([column])[0]
    return feature in (name, column) or feature.startswith((f"{name}.", f"{name}=", f"{name}_"))


def _check_features(setting: str, names: list[str], columns: tuple[str, ...]) -> None:
    """Raises JobError for a name that no feature can have."""
    for name in names:
        if not any(_made_from(name, column) for column in columns):
            free = [column for column in columns if column not in names]
            raise JobError(f"{setting}: no feature {name!r}{hint(name, free)}")
