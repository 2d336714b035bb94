"""Draws the pictures of a scaling run with Matplotlib: each as PNG for general use, and as SVG for the report."""

from pipeline.efficiency.machine import Machine
from pipeline.efficiency.records import Result
from pipeline.scaling import charts, charts_far
from pipeline.scaling.chart_style import Draw, Format, Picture, drawn
from pipeline.scaling.view import summarise_points

NAMES = ("seconds", "split", "predicted", "allreduce", "serial_fraction", "far_seconds", "far_efficiency")


def pictures(result: Result, machine: Machine | None, kind: Format) -> dict[str, Picture]:
    """Picture by name; pictures without a measurement or prediction are left out."""
    points = summarise_points(result)
    wanted: dict[str, tuple[Draw, bool]] = {
        "seconds": (charts.seconds, bool(points)),
        "split": (charts.split, bool(points)),
        "predicted": (charts.predicted, bool(charts.checked(result))),
        "allreduce": (charts_far.allreduce, machine is not None and bool(machine.collectives)),
        "serial_fraction": (charts_far.serial, bool(charts_far.fractions(points))),
        "far_seconds": (charts_far.seconds, machine is not None and bool(points)),
        "far_efficiency": (charts_far.efficiency, machine is not None and bool(points)),
    }
    return {name: drawn(draw, result, machine, kind) for name, (draw, there) in wanted.items() if there}
