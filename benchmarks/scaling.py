"""Measures how boosting scales on synthetic rows, or on a job's: `pipeline scale` with --rows, --features and --depth.

    python -m benchmarks.scaling --rows 400000 --features 32 --depth 6 --workers 1,2 --mode strong,weak

The workers make the rows themselves, so any size is available at once, and shares may be uneven (--shares 0.3,0.7).
"""

import sys
from typing import Any

import click

from pipeline.cli.options import Verb, output_options, settings_given
from pipeline.cli.scale_options import ROWS_EXAMPLE, explained, run_scale, scale_options
from pipeline.cli.terminal import OutputMode, run
from pipeline.config.job import Job
from pipeline.scaling.synthetic import Synthetic

WHAT = "Synthetic rows, made by the workers themselves, or the training of --job are measured."


@click.command(cls=Verb, help=explained(WHAT, ROWS_EXAMPLE))
@click.option("--job", metavar="JOB.toml", help="Instead of synthetic rows.")
@click.option(
    "--rows",
    type=click.IntRange(1),
    default=400_000,
    show_default=True,
    help="Strong scaling: of all workers together; weak: of each.",
)
@click.option("--features", type=click.IntRange(1), default=32, show_default=True)
@click.option("--depth", type=click.IntRange(1), default=6, show_default=True)
@click.option("--classes", type=click.IntRange(2), default=2, show_default=True, help="More than 2: a tree each.")
@click.option("--bins", type=click.IntRange(2, 253), default=253, show_default=True, help="Of each feature.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@scale_options
@output_options
def command(talk: OutputMode, job: str | None, **options: Any) -> None:
    if job is not None:
        asked = Job.load(job, settings_given())
        run_scale(talk, asked, asked.cluster, {**options, "trained": job})
        return
    cluster = Job.parse({"data": {"source": []}}, settings=settings_given(), origin="command line").cluster
    fields = ("rows", "features", "depth", "classes", "bins", "seed")
    data = Synthetic(**{name: options[name] for name in fields})
    run_scale(talk, data, cluster, {**options, "trained": str(data)})


def main() -> None:
    sys.exit(run(command, sys.argv[1:], "python -m benchmarks.scaling"))


if __name__ == "__main__":
    main()
