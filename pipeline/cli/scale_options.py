"""Shares options between `pipeline scale` and `python -m benchmarks.scaling`, and the texts that explain the figures."""

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import OpenedInput, all_of, job_option, set_option
from pipeline.cli.terminal import OutputMode

if TYPE_CHECKING:
    from pipeline.config.job import Cluster, Job
    from pipeline.data.opened_sources import Inputs
    from pipeline.efficiency.records import Result
    from pipeline.scaling.plan import ScaleOptions
    from pipeline.scaling.synthetic import Synthetic

EXPLAINED = """
Measure how efficient boosting is over several workers, and compare it with a prediction made before the run.

{what} Workers train together, one thread task each; after every level of a tree they add up histograms over the
network.  Only the boosting rounds are timed: no metrics, no early stopping, the first rounds dropped.  A round takes T
seconds on every worker.  Of these, worker i computes for u_i (useful); the rest is its overhead C_i = T - u_i, measured
part by part: transfer, waiting for later peers, other (run queue, between rounds).

\b
What is printed, N workers, pi_i = worker i's share of all capability (calibrated work per useful second):
  GE   global efficiency: core-seconds that the best single process on the same
       cores needs for a round, over those that the workers need.  1: the cluster
       costs nothing.  The figure to trust: slower compute cannot raise it.
  PE   parallel efficiency: mean u_i / T.  The share of all workers' time that is
       compute, 0 to 1 (POP's and TALP's measure; 0.8 and more is good).
  E    = mean u_i * sum of pi_i / C_i: seconds of compute for every second of
       overhead.  9 means a tenth of the time is lost; no upper bound.  Slow compute,
       or one worker that never waits, raises it, so read it with T, J and PE.
  J    = (sum of pi_i / C_i) * (sum of pi_i * C_i): 1 where all overheads are the
       same, larger the more they differ.  For equal shares PE = E / (E + J).

Written to the folder: result.json (every sample), samples.jsonl (for Extra-P), report.html and pictures.  The
predictions are in result.json before the first measurement.  All points' matrices are on the workers at once.

\b
Example:
  {example}
"""
JOB_EXAMPLE = "pipeline scale workflows/flights.toml --workers 1,2,4 --threads 1 --out scaling/flights"
ROWS_EXAMPLE = "python -m benchmarks.scaling --rows 400000 --features 32 --depth 6 --workers 1,2 --out scaling/rows"


def explained(what: str, example: str) -> str:
    """The help of a command."""
    return EXPLAINED.format(what=what, example=example)


class Numbers(click.ParamType):
    """Option type: numbers separated by commas."""

    name = "numbers"

    def __init__(self, kind: Callable[[str], Any]) -> None:
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self._kind(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r}: expected numbers with commas between them", param, ctx)


scale_options = all_of(
    click.option("--workers", type=Numbers(int), default="1,2", show_default=True, metavar="N,N,...", help="Points."),
    job_option("--threads", field="cluster.threads", metavar="N", help="Of each worker."),
    click.option(
        "--mode", default="strong", show_default=True, metavar="MODE,...",
        help="strong: the same rows for any number of workers; weak: for each worker the same rows.",
    ),
    click.option("--repeat", type=int, default=5, show_default=True, help="Repetitions of each point, interleaved over the points."),
    click.option("--rounds", type=int, default=30, show_default=True, help="Timed rounds of each repetition."),
    click.option(
        "--shares", type=Numbers(float), default=(), metavar="S,S,...",
        help="Uneven shares of the rows, for the point with as many workers, e.g. 0.3,0.7.",
    ),
    click.option("--out", metavar="DIR", help="The folder to write.  [default: a dated one under scaling/]"),
    click.option("--overwrite", is_flag=True, help="Replace an earlier result there."),
    click.option("--recalibrate", is_flag=True, help="Calibrate the model again, even if this machine has a calibration."),
    click.option("--compare", metavar="DIR", help="The folder of an earlier result, to compare each point's seconds with."),
    click.option("--force", is_flag=True, help="Compare even if the earlier result is of another machine."),
    job_option("--device", field="cluster.device", text=True, metavar="NAME"),
    job_option("--scheduler", field="cluster.scheduler", text=True, metavar="URL"),
    set_option(),
)  # fmt: skip


def run_scale(output_mode: OutputMode, asked: "Job | Synthetic", cluster: "Cluster", options: dict[str, Any]) -> None:
    """Connects, measures, prints."""
    import importlib

    import pipeline
    from pipeline.config.urls import local_path
    from pipeline.events.types import Note
    from pipeline.scaling.plan import Plan, ScaleOptions, default_folder

    modes: Any = tuple(options["mode"].split(","))
    plan = Plan(
        workers=options["workers"],
        modes=modes,
        repeat=options["repeat"],
        rounds=options["rounds"],
        shares=options["shares"],
    )
    options["out"] = options["out"] or default_folder()
    local_path(options["out"], "--out")
    wishes = ("out", "overwrite", "recalibrate", "compare", "force", "allow_code")
    wish = ScaleOptions(
        **{name: options[name] for name in wishes if name in options}, arguments={"trained": options["trained"]}
    )
    cluster = cluster.model_copy(update={"workers": plan.most})
    with output_mode.running() as on_event, contextlib.ExitStack() as stack:
        opened = OpenedInput(lambda: _look_ahead(asked, wish), on_event, None)
        client = stack.enter_context(
            pipeline.connect(
                cluster,
                debug=output_mode.debug,
                meanwhile=lambda: importlib.import_module("pipeline.scaling.scale"),
                first=opened,
            )
        )
        if cluster.dashboard:
            from pipeline.dashboard import lazy

            lazy.tell(client, on_event)
        if getattr(asked, "alarm", ()):  # synthetic workloads have no alarms
            on_event(Note(message="alarms are for pipeline train: those of the job are ignored here"))
        result = pipeline.scale(client, asked, plan, wish, cluster=cluster, listen=on_event, inputs=opened.value)
    output_mode.result(result.to_dict(), lambda: options["out"] if output_mode.quiet else said(result, options["out"]))


def _look_ahead(asked: "Job | Synthetic", wish: "ScaleOptions") -> "Inputs | None":
    """The metadata of a job; UserError where they, or the output folder, do not allow the run."""
    from pipeline.config.job import Job
    from pipeline.scaling.plan import default_folder
    from pipeline.storage.atomic import claim

    claim(wish.out or default_folder(), overwrite=wish.overwrite, ours=lambda folder: True)  # `scale` checks again
    if not isinstance(asked, Job):
        return None
    from pipeline.run import metadata

    return metadata.resolve(asked, allow_code=wish.allow_code)


def said(result: "Result", folder: str) -> str:
    """The table, the sentences, and the path of the report."""
    from pipeline.scaling.table import table

    return "\n".join([table(result), "", *result.sentences, "", f"report: {folder}/report.html"])
