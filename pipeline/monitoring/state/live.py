"""Estimates a run's current efficiency from each worker's report of its last rounds.

Within the wall clock T of its rounds a worker measures the CPU time of its training thread and how long the thread was
ready without a core; for the remainder it was blocked, in a collective.  For the worker that arrives last a collective
takes only its transfer, so that worker is blocked least: the smallest blocked time counts as every worker's transfer,
which is an upper bound, and the rest of each worker's blocked time as waiting.  The report after the run has measured
values.

useful = cpu    other = runqueue    blocked = T - useful - other    transfer = min blocked    wait = blocked - transfer
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.efficiency.definitions import Figures, figures
from pipeline.monitoring.state.run_state import RunState
from pipeline.monitoring.state.worker_state import Sums, WorkerState

SILENT_SECONDS = 60.0  # a worker without messages for so long, while others sent some, is left out
UNEVEN = 0.97  # load balance below which a straggler is named


@dataclass(frozen=True)
class LiveWorker:
    """One worker's share of a round, in seconds; None on GPUs: CPU time does not measure a GPU's work."""

    name: str
    useful: float | None
    transfer: float | None
    wait: float | None
    other: float | None
    queued: float | None  # of `other`: ready to compute, without a core
    bytes_per_round: float | None


@dataclass(frozen=True)
class LiveFigures:
    """The estimates of one run; the figures are None on GPUs, E and J also where there is next to no overhead."""

    seconds: float  # of a round, T
    rounds: int  # that the estimate covers
    workers: tuple[LiveWorker, ...]  # by rank
    PE: float | None
    E: float | None
    J: float | None
    LB: float | None
    SerE: float | None
    TE: float | None
    CommE: float | None
    straggler: str | None  # the worker that the others wait for; None: no particular worker


def figures_of(run: RunState, *, since_start: bool = False) -> LiveFigures | None:
    """The estimates of about the last 30 s, or of all rounds; None before the first rounds."""
    heard = [worker for worker in run.training if worker.sums.rounds and worker.sums.seconds > 0]
    latest = max((worker.heard for worker in heard), default=0.0)
    heard = [worker for worker in heard if worker.heard >= latest - SILENT_SECONDS]
    sums = [worker.sums if since_start else worker.window for worker in heard]
    if not sums or min(each.seconds for each in sums) <= 0:
        return None
    seconds = sum(each.seconds for each in sums) / sum(each.rounds for each in sums)
    rounds = max(each.rounds for each in sums)
    gpu = any(worker.gpu_utilisation is not None or worker.gpu_memory_nbytes is not None for worker in heard)
    if gpu or run.device == "cuda":  # NVML may be missing, and a client that attaches late may not know the device
        return _unmeasured(seconds, rounds, heard, sums)
    return _measured(seconds, rounds, heard, sums)


def _measured(seconds: float, rounds: int, heard: Sequence[WorkerState], sums: Sequence[Sums]) -> LiveFigures:
    useful = [seconds * min(1.0, each.cpu_seconds / each.seconds) for each in sums]
    other = [
        min(seconds - u, seconds * each.runqueue_seconds / each.seconds) for u, each in zip(useful, sums, strict=True)
    ]
    blocked = [max(0.0, seconds - u - o) for u, o in zip(useful, other, strict=True)]
    alone, queued = len(heard) == 1, other
    transfer = 0.0 if alone else min(blocked)
    if alone:  # no exchange with other workers: time without computing is neither transfer nor wait
        other, blocked = [seconds - useful[0]], [0.0]
    found = figures(seconds, useful, [transfer] * len(heard), _capabilities(heard))
    workers = tuple(
        LiveWorker(worker.name, u, transfer, b - transfer, o, q, _bytes_per_round(each))
        for worker, each, u, b, o, q in zip(heard, sums, useful, blocked, other, queued, strict=True)
    )
    return LiveFigures(
        seconds=seconds, rounds=rounds, workers=workers,
        PE=found.PE, E=None if alone else found.E, J=None if alone else found.J, LB=found.LB,
        SerE=found.SerE, TE=found.TE, CommE=found.CommE, straggler=_straggler(found, workers),
    )  # fmt: skip


def _unmeasured(seconds: float, rounds: int, heard: Sequence[WorkerState], sums: Sequence[Sums]) -> LiveFigures:
    workers = tuple(
        LiveWorker(worker.name, None, None, None, None, None, _bytes_per_round(each))
        for worker, each in zip(heard, sums, strict=True)
    )
    return LiveFigures(seconds, rounds, workers, None, None, None, None, None, None, None, None)


def _capabilities(heard: Sequence[WorkerState]) -> list[float]:
    """As given when the rounds began; all equal if one is unknown."""
    known = [worker.place.capability for worker in heard if worker.place is not None and worker.place.capability > 0]
    return known if len(known) == len(heard) else [1.0] * len(heard)


def _straggler(found: Figures, workers: Sequence[LiveWorker]) -> str | None:
    if len(workers) < 2 or found.LB >= UNEVEN:
        return None
    return max(workers, key=lambda worker: (worker.useful or 0.0) + (worker.other or 0.0)).name


def _bytes_per_round(sums: Sums) -> float | None:
    return None if sums.bytes_sent is None else sums.bytes_sent / sums.rounds
