"""Defines `pipeline plan`: what a run will need, before it runs."""

from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.job_source import HELD_OUT, connecting, job_from
from pipeline.cli.options import Verb, allow_code, job_option, output_options, set_option
from pipeline.cli.scale_options import Numbers
from pipeline.cli.terminal import OutputMode

if TYPE_CHECKING:
    from pipeline.config.job import Job
    from pipeline.data.opened_sources import Inputs
    from pipeline.planning.plan import Plan

PROBE_SECONDS = 5.0


@click.command(cls=Verb, name="plan", short_help="What a run will need: time, memory, price.")
@click.argument("source", nargs=-1, metavar="JOB.toml | DATA...")
@job_option("--target", field="data.target", text=True, metavar="COLUMN")
@click.option(
    "--validation",
    metavar="SHARE|FILES",
    help=f"As for `pipeline train`; without a job file {HELD_OUT}.  [data.validation]",
)
@click.option(
    "--workers",
    type=Numbers(int),
    metavar="N,N,...",
    help="Numbers of workers to compare; default: 1, 2, 4, ... up to the cores, or up to the workers of the scheduler.",
)
@click.option(
    "--probe",
    type=click.FloatRange(0, 600),
    default=PROBE_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="CPU seconds for measuring a part of the job on one worker; 0: metadata and earlier runs only.",
)
@click.option("--deadline", metavar="TIME", help="The run has to end in this time, e.g. 90s, 10m or 1h30m.")
@click.option("--budget", metavar="AMOUNT", help="The run may cost so much, in the currency of the prices.")
@job_option("--prices", field="cluster.prices", text=True, metavar="FILE")
@job_option("--rounds", field="training.rounds", metavar="N")
@job_option("--device", field="cluster.device", text=True, metavar="NAME")
@job_option("--threads", field="cluster.threads", metavar="N")
@job_option("--scheduler", field="cluster.scheduler", text=True, metavar="URL")
@set_option()
@allow_code
@click.option("--audits", is_flag=True, help="Print how far earlier plans on this machine were off, and exit.")
@output_options
def plan(
    output_mode: OutputMode,
    source: tuple[str, ...],
    validation: str | None,
    workers: tuple[int, ...] | None,
    probe: float,
    deadline: str | None,
    budget: str | None,
    allow_code: bool,
    audits: bool,
    **_: Any,
) -> None:
    """Say what a training will need before it runs, for each number of workers: time, memory, price.

    Memory is the resident set of a worker, which its nanny compares with its limit.  Four of five runs should stay
    within the numbers in brackets.  Nothing is written but the history of audits, which every training adds to.

    \b
    Example:
      pipeline plan workflows/flights.toml --workers 1,2,4
      pipeline plan data/ --target late --probe 0 --prices prices.toml --deadline 10m
    """
    from pipeline.config.quantities import parse_budget, parse_deadline

    if audits:
        return _audits(output_mode)
    if not source:
        raise click.UsageError("expected a job file, or files and --target")
    seconds = None if deadline is None else _parsed(parse_deadline, "--deadline", deadline)
    amount = None if budget is None else _parsed(parse_budget, "--budget", budget)
    with output_mode.running() as on_event:
        from pipeline.data.files import waiting
        from pipeline.run.metadata import resolve

        job = job_from(source, validation)
        with waiting.notes_to(on_event):
            inputs = resolve(job, allow_code=allow_code)
        how: dict[str, Any] = {
            "workers": workers, "deadline_seconds": seconds, "budget": amount, "inputs": inputs, "allow_code": allow_code
        }  # fmt: skip
        made = _planned(output_mode, inputs.job, inputs, probe, how)
    output_mode.result(made.to_dict(), made.table)
    made.validate()
    return None


def _planned(output_mode: OutputMode, job: "Job", inputs: "Inputs", probe: float, how: dict[str, Any]) -> "Plan":
    """The plan; a cluster of one worker is started for a probe, and a scheduler asked for its workers."""
    import pipeline

    if not probe and job.cluster.scheduler is None:
        return pipeline.plan(job, **how)
    one = (
        job.cluster
        if job.cluster.scheduler is not None
        else job.cluster.model_copy(update={"workers": 1, "dashboard": False})
    )
    with connecting(one, output_mode, "pipeline.run.probe", lambda: None) as client:
        return pipeline.plan(job, client, probe_seconds=probe, **how)


def _parsed(parse: Any, option: str, text: str) -> float:
    from pipeline.errors import JobError

    try:
        return float(parse(text))
    except ValueError as error:
        raise JobError(f"{option} {text}: {error}") from None


def _audits(output_mode: OutputMode) -> None:
    """Prints how far earlier plans on this machine were off."""
    from pipeline.formatting import aligned
    from pipeline.planning.audit import accuracy, coverage_table
    from pipeline.run.audit_history import history_file, machine_here, read_history

    history, note = read_history()
    machine = machine_here()
    found = accuracy(history, machine)
    head = ("", "runs", "median error", "within the 80 % interval")
    lines = aligned([head, *coverage_table(found)], right=(1, 2)) if found else ["no run on this machine yet"]
    notes = [note] if note is not None else []
    document = {
        "file": str(history_file()),
        "runs": {
            name: {"runs": one.runs, "median_error": one.median_error, "coverage": one.coverage}
            for name, one in found.items()
        },
        "notes": notes,
    }
    output_mode.result(document, lambda: "\n".join([*lines, *notes]))
