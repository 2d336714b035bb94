"""Defines the options that verbs share: fields of the job, the cluster, the output mode."""

import contextlib
import importlib.util
import json
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.terminal import ARGUMENTS, EXIT_CODES, OutputMode

if TYPE_CHECKING:
    from pipeline.config.job import Job
    from pipeline.data.opened_sources import Inputs
    from pipeline.events.types import Event, EventHandler
    from pipeline.runtime.timing import StageTimer


class Verb(click.Command):
    """A command whose help ends with the exit codes, and whose usage errors point to its own help."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:  # the parser's own errors lack the command
            error.ctx = error.ctx or ctx
            raise

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_paragraph()
        formatter.write_text(EXIT_CODES)


class JobOption(click.Option):
    """An option that sets one field of the job; the field's description and default are its help."""

    def __init__(self, *args: Any, field: str, text: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.field = field
        self.text = text  # the value is a string, even where it looks like a number

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from pipeline.config.fields import job_fields

        field = job_fields()[self.field]
        said = self.help or f"{field.description[:1].upper()}{field.description[1:]}."
        default = "" if field.default == "none" else f", default: {field.default}"
        names, _ = super().get_help_record(ctx) or ("", "")
        return names, f"{said}  [{self.field}{default}]"

    def setting(self, value: Any) -> str:
        written = json.dumps(value, ensure_ascii=False) if self.text or isinstance(value, bool) else value
        from pipeline.config.job import Setting

        return Setting(f"{self.field}={written}", self.opts[0])


def all_of(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """All decorators combined; the first is shown first in `--help`."""

    def decorate(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def output_options(function: Any) -> Any:
    """Adds --json, --quiet and --debug, which reach the verb as `talk`."""

    def wrapped(*, json: bool, quiet: bool, debug: bool, **kwargs: Any) -> None:
        function(OutputMode(json, quiet, debug), **kwargs)

    wrapped.__name__, wrapped.__doc__ = function.__name__, function.__doc__
    return all_of(
        click.option("--json", is_flag=True, help="One JSON object on stdout, everything else on stderr."),
        click.option("--quiet", is_flag=True, help="No progress, only the result."),
        click.option("--debug", is_flag=True, help="Tracebacks, and the logs of Dask and XGBoost."),
    )(wrapped)


def job_option(*names: str, field: str, **kwargs: Any) -> Any:
    """Decorator: an option for one field of the job; the command line overrides the file."""
    return click.option(*names, cls=JobOption, field=field, expose_value=True, **kwargs)


def set_option(what: str = "Any field of the job") -> Any:
    """Decorator: `--set`, for the fields that `what` names."""
    return click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help=f"{what}; may be repeated.")


cluster_options = all_of(
    job_option("--device", field="cluster.device", text=True, metavar="NAME"),
    job_option("--workers", field="cluster.workers", metavar="N"),
    job_option("--threads", field="cluster.threads", metavar="N"),
    job_option("--scheduler", field="cluster.scheduler", text=True, metavar="URL"),
)
model_options = all_of(
    cluster_options,
    set_option("A field of cluster, or of data.csv if the CSV format differs from the training's"),
)
model_and_data = all_of(
    click.argument("model", type=click.Path()),
    click.argument("data", nargs=-1, required=True),
)
allow_code = click.option("--allow-code", is_flag=True, help="Let data.function, your own Python code, run.")


def settings_given() -> list[str]:
    """The job fields set by the options of the running command; --set is applied last and overrides the others."""
    context = click.get_current_context()
    options = [option for option in context.command.params if isinstance(option, JobOption)]
    given = {option: context.params[str(option.name)] for option in options}
    return [
        *(option.setting(value) for option, value in given.items() if value is not None),
        *context.params["settings"],
    ]


class OpenedInput[Value]:
    """Opens input before a cluster starts for it (`first` of `pipeline.connect`); the event handler gets notes on
    slow storage.

    `value` is the result of `open_it`, `default` until then.
    """

    def __init__(self, open_it: Callable[[], Value], on_event: "EventHandler", default: Value) -> None:
        self._open, self._on_event, self.value = open_it, on_event, default

    def __call__(self) -> None:
        from pipeline.data.files import waiting

        with waiting.notes_to(self._on_event):
            self.value = self._open()


class OpenedJob:
    """Opens the sources of a job: local ones at once, so that what their metadata refuse need not wait for the import
    of Dask; others in `check`, while the cluster starts.
    """

    def __init__(self, job: "Job", on_event: "EventHandler", clock: "StageTimer", *, allow_code: bool) -> None:
        from pipeline.run import metadata

        self._job, self._on_event, self._clock, self._allow_code = job, on_event, clock, allow_code
        self.inputs = self._open() if metadata.are_local(job.data) else None

    def check(self) -> None:
        """Checks whether the job can run, for `first` of `pipeline.connect`; UserError where it cannot."""
        from pipeline.run import resource_plan

        self.inputs = self.inputs or self._open()
        with self._clock.stage("metadata"):
            resource_plan.check_run(self.inputs)

    def _open(self) -> "Inputs":
        from pipeline.data.files import waiting
        from pipeline.run import metadata

        with self._clock.stage("metadata"), waiting.notes_to(self._on_event):
            return metadata.open_checked(self._job, allow_code=self._allow_code)


def check_out(job: "Job", resume: str | None) -> None:
    """Raises UserError where the job's model folder, or the one to resume, cannot be used."""
    from pipeline.errors import JobError
    from pipeline.run.output_lock import check_output_dir

    model = job.output.model
    given = any(setting.partition("=")[0].strip() == "output.model" for setting in settings_given())
    if resume and model and given and Path(model).absolute() != Path(resume).absolute():
        raise JobError(
            f"--out {model} with --resume {resume}: a resumed run writes to the interrupted run's folder: leave out --out"
        )
    if resume or model:
        check_output_dir(resume or model or "", resume=bool(resume), overwrite=job.output.overwrite)


def events_file(name: str) -> Path:
    """The path to record events to; UserError for an invalid name or a URL."""
    from pipeline.config.urls import local_path
    from pipeline.errors import UserError

    if not name:
        raise UserError("--events '': expected the name of a file")
    return local_path(name, "--events")


def check_recorded(source: str) -> Path:
    """The recorded file given to `pipeline watch`; UserError where it or an option is invalid, or Bokeh is missing."""
    from pipeline.errors import UserError

    if re.fullmatch(r"[\w.-]+:\d+", source) and not Path(source).exists():
        raise UserError(f"{source}: no such file; a scheduler is given as tcp://{source}")
    if given := settings_given():
        raise UserError(
            f"--set {given[0]}: has no effect on a recorded file; --set is for a scheduler, tcp://HOST:PORT"
        )
    if importlib.util.find_spec("bokeh") is None:
        raise UserError("the pages of a recorded file need Bokeh, which is not installed: pip install 'bokeh>=3.9'")
    return Path(source)


@contextlib.contextmanager
def with_resume_hint(on_event: "EventHandler") -> Iterator["EventHandler"]:
    """An event handler that passes events on; if the block fails after a checkpoint, the error gets a hint on how to
    resume.
    """
    from pipeline.events.types import Checkpoint, Restarted

    arguments: list[str] = click.get_current_context().meta.get(ARGUMENTS, [])
    model: list[str] = []
    asked = click.get_current_context().params.get("resume")

    def hear(event: "Event") -> None:
        if isinstance(event, Checkpoint):
            model[:] = [event.path]
        elif isinstance(event, Restarted) and asked and not model:
            model[:] = [asked]
        on_event(event)

    try:
        yield hear
    except BaseException as error:
        for note in _resume_hints(model[0] if model else "", arguments, error):
            error.add_note(note)
        raise


def _resume_hints(model: str, arguments: Sequence[str], error: BaseException) -> tuple[str, ...]:
    """The hint on how to resume; none without a checkpoint, except for a run that its own alarm has ended."""
    from pipeline.errors import AlarmError, StrictError
    from pipeline.training.checkpoint import CheckpointStore

    rounds = CheckpointStore(Path(model)).rounds() if model else ()
    by_alarm = isinstance(error, AlarmError)
    if not rounds:
        early = "there is no checkpoint to resume from yet (training.checkpoint_rounds, training.checkpoint_seconds)"
        return (early,) if by_alarm else ()
    last = f"the last checkpoint is of round {rounds[0]}"
    if by_alarm:
        last += "; a run resumed with the same alarm may end there again"
    more = " --set data.strict=false" if isinstance(error, StrictError) else ""
    return last, f"resume with: pipeline {_resume_command(arguments, model)}{more}"


def _resume_command(arguments: Sequence[str], model: str) -> str:
    """The command line that continues what this one began.

    >>> _resume_command(["train", "job.toml", "--out", "models/late", "--overwrite", "--rounds", "50"], "models/late")
    'train job.toml --overwrite --rounds 50 --resume models/late'
    """
    kept: list[str] = []
    left = iter(arguments)
    for argument in left:
        name, has_value, _ = argument.partition("=")
        if name in ("--out", "--resume"):
            if not has_value:
                next(left, None)
        else:
            kept.append(argument)
    return shlex.join([*kept, "--resume", model])
