"""Makes the job of a command line, and the client that runs it."""

import contextlib
import importlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.cli.options import settings_given
from pipeline.cli.terminal import OutputMode

if TYPE_CHECKING:
    from distributed import Client

    from pipeline.config.job import Cluster, Job

HELD_OUT = 0.2  # the validation share without a job file and an option


def job_from(source: tuple[str, ...], validation: str | None) -> "Job":
    """The job of a TOML file, or of files and options."""
    from pipeline.config.job import Job, Setting

    settings = settings_given()
    share = validation is not None and validation.replace(".", "", 1).isdigit()
    nothing_held_out = share and float(validation or 0) == 0
    if validation is not None and not nothing_held_out:
        value = f"share={validation}" if share else f"source={json.dumps(validation, ensure_ascii=False)}"
        settings.insert(0, Setting(f"data.validation={{{value}}}", "--validation"))
    if len(source) == 1 and source[0].endswith(".toml"):
        job = Job.load(source[0], settings)
    else:
        if not any(setting.startswith("data.validation") for setting in settings):
            settings.insert(0, f"data.validation.share={HELD_OUT}")
        files = source[0] if len(source) == 1 else list(source)
        job = Job.parse({"data": {"source": files}}, settings=settings, origin="command line")
    if nothing_held_out:
        job = job.model_copy(update={"data": job.data.model_copy(update={"validation": None})})
    return job


def connecting(
    cluster: "Cluster", output_mode: OutputMode, verb: str, first: Callable[[], object]
) -> contextlib.AbstractContextManager["Client"]:
    """A client of the cluster; errors of `first` are raised before a cluster starts, and the verb's module is
    imported meanwhile.
    """
    import pipeline

    return pipeline.connect(
        cluster, debug=output_mode.debug, meanwhile=lambda: importlib.import_module(verb), first=first
    )
