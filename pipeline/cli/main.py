"""Defines the commands: parse, call a verb, print.  No logic.

Heavy modules are imported inside the verbs, so that `--help` answers at once and Dask's workers, which import
this module where the installed command starts them, stay light.
"""

import contextlib
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from pipeline.cli.job_source import HELD_OUT, connecting, job_from
from pipeline.cli.options import (
    OpenedInput,
    OpenedJob,
    Verb,
    allow_code,
    check_out,
    check_recorded,
    cluster_options,
    events_file,
    job_option,
    model_and_data,
    model_options,
    output_options,
    set_option,
    settings_given,
    with_resume_hint,
)
from pipeline.cli.plan_command import plan
from pipeline.cli.scale_options import JOB_EXAMPLE, explained, run_scale, scale_options
from pipeline.cli.terminal import (
    EXIT_CODES,
    OutputMode,
    closing_errors_as_notes,
    flushed,
    leave,
    run,
    show,
    silence_warnings,
)

if TYPE_CHECKING:
    from distributed import Client

    from pipeline.config.job import Cluster
    from pipeline.events.types import EventHandler


def _cluster_asked() -> "Cluster":
    """The cluster options, for a verb that has no job."""
    return _asked("cluster")[0]


def _asked(*sections: str) -> tuple["Cluster", dict[str, Any]]:
    """The cluster options and the options for fields of `data.csv`; JobError for a field of another section."""
    from pipeline.config.job import Job
    from pipeline.errors import JobError

    settings = settings_given()
    for setting in settings:
        if not setting.strip().startswith(tuple(f"{section}." for section in sections)):
            raise JobError(f"--set {setting}: only fields of {' and '.join(sections)} can be set here")
    job = Job.parse({"data": {"source": []}}, settings=settings, origin="command line")
    return job.cluster, job.data.csv.model_dump(exclude_unset=True)


@contextlib.contextmanager
def _connected(
    cluster: "Cluster", output_mode: OutputMode, on_event: "EventHandler", verb: str, first: Callable[[], object]
) -> Iterator["Client"]:
    """A client of the cluster; emits a note on its dashboard."""
    from pipeline.dashboard import lazy
    from pipeline.events.types import Note
    from pipeline.run.modules import TASKS

    with connecting(cluster, output_mode, verb, first) as client:
        from pipeline.runtime.placement import await_workers  # imported with the verb, while the cluster started

        if cluster.dashboard:
            lazy.tell(client, on_event)
        await_workers(client, cluster, lambda message: on_event(Note(message=message)), TASKS)
        yield client


@contextlib.contextmanager
def _connected_to_train(
    cluster: "Cluster", output_mode: OutputMode, on_event: "EventHandler", first: Callable[[], object]
) -> Iterator[tuple["Client", "EventHandler"]]:
    """A client of the cluster, and an event handler that emits where the pages of the run are when it begins."""
    from pipeline.dashboard import lazy

    with connecting(cluster, output_mode, "pipeline.run.train", first) as client:
        yield client, lazy.telling(client, on_event) if cluster.dashboard else on_event


def _print_fields(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        from pipeline.cli.output import fields_text

        show(fields_text())
        context.exit()


@click.group(epilog=EXIT_CODES, context_settings={"max_content_width": 110})
@click.version_option(package_name="dask-train-pipeline", message="%(version)s")
def cli() -> None:
    """From a folder of files to a trained boosted-tree model, on every core or GPU of the machines you have.

    \b
    Example:
      pipeline train data/ --target late --out models/late
      pipeline predict models/late new_data/ --out predictions/
    """


@cli.command(cls=Verb, short_help="Train, evaluate and save a model.")
@click.argument("source", nargs=-1, required=True, metavar="JOB.toml | DATA...")
@job_option("--target", field="data.target", text=True, metavar="COLUMN")
@click.option(
    "--validation",
    metavar="SHARE|FILES",
    help="The validation rows: a share of the rows, chosen by a hash of their row ids, or other files; 0: none.  "
    f"[data.validation, default: as the job file says; without one {HELD_OUT}]",
)
@job_option("--out", field="output.model", text=True, metavar="DIR")
@job_option("--overwrite", field="output.overwrite", is_flag=True, flag_value=True, default=None)
@job_option(
    "--no-report",
    field="output.report",
    is_flag=True,
    flag_value=False,
    default=None,
    help="Write no report.html and no pictures.",
)
@job_option("--rounds", field="training.rounds", metavar="N")
@click.option(
    "--resume",
    type=click.Path(),
    metavar="DIR",
    help="Resume an interrupted run from its last checkpoint.  DIR: the output folder of that run.",
)
@cluster_options
@set_option()
@allow_code
@click.option(
    "--fields",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_fields,
    help="Print every field of a job with its default, and exit.",
)
@click.option("--events", metavar="FILE", help="Record the run's events in FILE; `pipeline watch FILE` shows them.")
@output_options
def train(
    output_mode: OutputMode,
    source: tuple[str, ...],
    validation: str | None,
    allow_code: bool,
    resume: str | None,
    events: str | None,
    **_: Any,
) -> None:
    """Train a model, evaluate it and write its folder, from a job file or from files and a target column.

    Options win over the job file, --set wins over both.  Defaults that matter: the objective follows the target's
    type (true/false or two values: binary:logistic; more texts: multi:softprob; other numbers: reg:squarederror),
    the positive class is the one that sorts last, and without a job file 20 % of the rows are held out to stop
    early and to evaluate on.

    \b
    Example:
      pipeline train flights/ --target late --validation 0.1 --out models/late
      pipeline train workflows/flights.toml --set training.rounds=50 --workers 2
      pipeline train workflows/flights.toml --resume models/flights
    """
    import pipeline
    from pipeline.cli.output import training_text
    from pipeline.cluster.launchers import fork_server
    from pipeline.run.modules import WARM_UP
    from pipeline.runtime.timing import StageTimer, monotonic_epoch, process_start

    clock = StageTimer(begin=process_start())
    saved: list[pipeline.TrainResult] = []
    with closing_errors_as_notes(saved), output_mode.running() as tell, contextlib.ExitStack() as stack:
        on_event = stack.enter_context(with_resume_hint(tell))
        job = job_from(source, validation)
        check_out(job, resume)  # before starting a cluster for it
        if events is not None:
            from pipeline.events.recording import recorded

            on_event = stack.enter_context(recorded(events_file(events), on_event))

        opened = OpenedJob(job, on_event, clock, allow_code=allow_code)
        stack.enter_context(fork_server.started_early(job.cluster, WARM_UP))
        importlib.import_module("pipeline.run.connect")
        clock.seconds["import"] = monotonic_epoch() - clock.begin - clock.seconds.get("metadata", 0.0)
        with clock.stage("connect"):
            client, on_event = stack.enter_context(
                _connected_to_train(job.cluster, output_mode, on_event, opened.check)
            )
        how: dict[str, Any] = {"allow_code": allow_code, "clock": clock, "resume": resume, "inputs": opened.inputs}
        saved.append(pipeline.train(client, job, listen=on_event, **how))
    (result,) = saved
    output_mode.result(
        result.summary, lambda: str(result.summary["model"]) if output_mode.quiet else training_text(result.summary)
    )


cli.add_command(plan)


@cli.command(cls=Verb, short_help="Predict every row of some data.")
@model_and_data
@click.option("--out", required=True, metavar="DIR", help="The folder to write: Parquet, in the order of the rows.")
@click.option(
    "--contributions", is_flag=True, help="Also write each feature's contribution to each prediction (SHAP values)."
)
@click.option("--overwrite", is_flag=True, help="Replace the folder.")
@model_options
@allow_code
@output_options
def predict(output_mode: OutputMode, model: str, data: tuple[str, ...], out: str, **options: Any) -> None:
    """Predict every row of DATA with the model in the folder MODEL.

    \b
    Example:
      pipeline predict models/late new_data/ --out predictions/ --contributions
    """
    import pipeline
    from pipeline.config.urls import local_path

    wanted = {name: options[name] for name in ("contributions", "overwrite")}
    with output_mode.running() as on_event:
        local_path(out, "--out")  # before starting a cluster for it
        cluster, csv = _asked("cluster", "data.csv")
        loaded = pipeline.Model.load(model, allow_code=options["allow_code"])

        def open_data() -> Any:
            from pipeline.inference.predict import claim_predictions, open_to_predict

            claim_predictions(out, wanted["overwrite"])
            return open_to_predict(loaded, _files_of(data), csv=csv)

        opened = OpenedInput(open_data, on_event, _files_of(data))
        with _connected(cluster, output_mode, on_event, "pipeline.inference.predict", opened) as client:
            done = pipeline.predict(client, loaded, opened.value, out=out, listen=on_event, **wanted)
    output_mode.result(done, lambda: str(out))


@cli.command(cls=Verb, short_help="Measure a model on some data.")
@model_and_data
@model_options
@allow_code
@output_options
def evaluate(output_mode: OutputMode, model: str, data: tuple[str, ...], allow_code: bool, **_: Any) -> None:
    """Measure the model in the folder MODEL on DATA, which has to hold the target.

    \b
    Example:
      pipeline evaluate models/late held_out/ --json
    """
    import pipeline
    from pipeline.cli.output import metrics_text

    with output_mode.running() as on_event:
        cluster, csv = _asked("cluster", "data.csv")
        loaded = pipeline.Model.load(model, allow_code=allow_code)

        def open_data() -> Any:
            from pipeline.inference.evaluate import open_to_evaluate

            return open_to_evaluate(loaded, _files_of(data), csv=csv)

        opened = OpenedInput(open_data, on_event, _files_of(data))
        with _connected(cluster, output_mode, on_event, "pipeline.inference.evaluate", opened) as client:
            metrics = pipeline.evaluate(client, loaded, opened.value, listen=on_event)
    output_mode.result(metrics, lambda: metrics_text({"": metrics}))


@cli.command(cls=Verb, short_help="Describe data files, a job or a model folder.")
@click.argument("source", nargs=-1, required=True, metavar="MODEL | JOB.toml | DATA...")
@job_option("--target", field="data.target", text=True, metavar="COLUMN", help="Also show the balance of this column.")
@set_option()
@output_options
def describe(output_mode: OutputMode, source: tuple[str, ...], **_: Any) -> None:
    """Say what is in files (columns, missing and distinct values, files that drift) or in a model folder.

    \b
    Example:
      pipeline describe flights/ --target late
      pipeline describe semicolons.csv --set data.csv.separator=;
      pipeline describe models/late
    """
    import pipeline

    path = source[0]
    if len(source) == 1 and (Path(path) / "manifest.json").exists():
        pipeline.Model.load(path)  # checks every byte
        manifest, card = (
            (Path(path) / name).read_text(encoding="utf-8") for name in ("manifest.json", "MODEL_CARD.md")
        )
        output_mode.result(json.loads(manifest), lambda: card.rstrip())
        return
    with output_mode.running() as on_event:
        waiting = importlib.import_module("pipeline.data.files.waiting")
        with waiting.notes_to(on_event):
            description = pipeline.describe(job_from(source, "0"))
    output_mode.result(description.to_dict(), lambda: str(description))


@cli.command(
    cls=Verb,
    short_help="Measure and predict how efficient training is.",
    help=explained("The training of JOB.toml is measured.", JOB_EXAMPLE),
)
@click.argument("job", metavar="JOB.toml")
@scale_options
@allow_code
@output_options
def scale(output_mode: OutputMode, job: str, **options: Any) -> None:
    from pipeline.config.job import Job

    asked = Job.load(job, settings_given())
    run_scale(output_mode, asked, asked.cluster, {**options, "trained": job})


@cli.command(cls=Verb, short_help="Watch a training of another client, or a recorded one.")
@click.argument("source", metavar="tcp://HOST:PORT | EVENTS.jsonl")
@click.option("--run", metavar="ID", help="The run to show.  [default: the newest that is running, or the next]")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8787,
    show_default=True,
    help="Port for the pages of a recorded run; if it is in use, the next free one.",
)
@set_option("A field of cluster")
@output_options
def watch(output_mode: OutputMode, source: str, run: str | None, port: int, **_: Any) -> None:
    """Watch a training: its progress here, if SOURCE is the scheduler it runs on (`cluster.scheduler`, or the one a
    dashboard shows), and its pages in a browser, if SOURCE is what `pipeline train --events` recorded.  With --json,
    what the run came to, at its end, or the link of the pages and what the recorded runs came to, at once.

    Ctrl-C leaves the training alone.  The files of a scheduler with TLS are given by --set cluster.security.ca_file=...
    and so on.

    \b
    Example:
      pipeline watch tcp://127.0.0.1:8786
      pipeline watch events.jsonl
    """
    if "://" in source:
        from pipeline.monitoring.follow import watch as watch_scheduler

        with output_mode.running() as on_event:
            ended = watch_scheduler(source, _cluster_asked(), on_event, run=run)
        output_mode.result(ended, lambda: str(ended["model"]))
    else:
        path = check_recorded(source)
        from pipeline.dashboard.replay import serve

        if not output_mode.debug:
            silence_warnings()

        def ready(said: dict[str, Any]) -> None:
            output_mode.result(
                said, lambda: said["pages"] if output_mode.quiet else f"pages: {said['pages']} (Ctrl-C ends)"
            )

        serve(path, port, ready, run=run, debug=output_mode.debug)


@cli.command(cls=Verb, short_help="Write synthetic data.")
@click.argument("folder")
@click.option("--rows", type=int, default=1_000_000, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--kind", type=click.Choice(["flights", "numeric"]), default="flights", show_default=True)
@click.option("--features", type=int, default=28, show_default=True, help="Columns of the numeric kind.")
@click.option("--files", type=int, help="Number of files.  [default: one for every 125,000 rows]")
@click.option("--overwrite", is_flag=True, help="Replace the folder.")
@output_options
def generate(output_mode: OutputMode, folder: str, **options: Any) -> None:
    """Write synthetic data as Parquet: the same rows for the same seed, any size in bounded memory.

    \b
    Example:
      pipeline generate data/flights --rows 1000000 --seed 7
    """
    import pipeline

    with output_mode.running() as on_event:
        made = pipeline.generate(folder, listen=on_event, **options)
    output_mode.result(made, lambda: str(folder))


@cli.command(cls=Verb, short_help="Print versions, cores, memory, GPUs and ports of this machine.")
@job_option("--scheduler", field="cluster.scheduler", text=True, metavar="URL")
@set_option("A field of cluster, with --scheduler, e.g. its TLS files")
@output_options
def doctor(output_mode: OutputMode, **_: Any) -> None:
    """Say what this machine offers: versions, cores, memory, GPUs (or why not), ports, threads in a worker.  With
    --scheduler, list what runs keep there until they end: the process, the run, what, and its bytes where known.

    \b
    Example:
      pipeline doctor
      pipeline doctor --scheduler tcp://127.0.0.1:8786
    """
    import pipeline
    from pipeline.cli.output import doctor_text

    with output_mode.running():
        section = _cluster_asked()
        checks = pipeline.doctor(section.scheduler, section=section)
    output_mode.result(checks, lambda: doctor_text(checks))


def _files_of(data: tuple[str, ...]) -> str | list[str]:
    return data[0] if len(data) == 1 else list(data)


def main() -> NoReturn:
    """The entry point of the installed command."""
    from pipeline.cli.lasting_streams import ensure_streams
    from pipeline.cluster import interrupts, lean

    ensure_streams()
    lean.install()  # in a process of our own XGBoost need not import scikit-learn and pandas
    interrupts.heed_termination()
    code = flushed(run(cli, sys.argv[1:]))
    if interrupts.abandoned.is_set():  # its threads may never end, and Python would wait for them
        leave(code)
    sys.exit(code)
