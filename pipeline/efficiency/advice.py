"""Names the cause of the largest loss of worker time, and the setting that changes it."""

from collections.abc import Mapping
from typing import Any

LEAST_SHARE = 0.05  # of all worker-seconds: a smaller loss is not worth a line
_FRAGMENTS = "smaller fragments divide more evenly: data.fragment_mib"

# (kind, stage) -> (cause, what a user can change); a stage of "" applies to all others of the kind.
_LOSSES: Mapping[tuple[str, str], tuple[str, str]] = {
    ("transfer", ""): (
        "exchanging histograms between workers",
        "fewer workers with more threads each, or a smaller training.max_bin, exchange less",
    ),
    ("wait", ""): ("waiting for the worker that takes longest", _FRAGMENTS),
    ("wait", "rounds"): (
        "waiting in each round for the slowest worker",
        "fewer workers with more threads each wait less; other programs on the cores slow one worker and thereby all",
    ),
    ("other", ""): ("tasks that were not on a core: files, locks, other programs", "an idle machine or faster storage"),
    ("other", "reading"): (
        "waiting for files and importing what reads them, in the first tasks of each worker",
        "this is a fixed cost of a start, and small in longer runs",
    ),
    ("other", "bootstrap"): ("connecting the ranks to each other", "fewer workers connect faster"),
    ("other", "rounds"): (
        "threads that had no core, and the time between rounds",
        "other programs on these cores, or more threads than cores",
    ),
    ("other", "recovery"): ("repeating work after a lost worker", "a shorter training.checkpoint_seconds repeats less"),
    ("other", "scheduling"): (
        "Dask's own work around tasks: deserialising them, its event loop",
        "larger fragments make fewer tasks: data.fragment_mib",
    ),
    ("other", "others"): ("tasks of other clients on these workers", "workers that no other client uses"),
    ("idle", ""): ("the workers had no task while the client worked", "a longer run: this part hardly grows with the data"),
    ("idle", "reading"): (
        "the client read the files' metadata and sent the first tasks",
        "fewer, larger files: each file's footer or header is read",
    ),
    ("idle", "saving"): (
        "the client wrote the report and the model",
        "output.report = false skips the report",
    ),
}  # fmt: skip
_KIND_NAMES = {"wait": "waiting"}  # as in the line of shares


def largest_loss(account: Mapping[str, Any]) -> str | None:
    """The largest loss of an account (`Account.to_dict()`) with its cause and a remedy, in one line.

    None where no loss reaches 5 % of the worker-seconds.

    >>> idle = {"useful": 0.0, "transfer": 0.0, "wait": 0.0, "other": 0.0, "idle": 3.0}
    >>> largest_loss({"worker_seconds": 10.0, "stages": {"saving": idle}})
    'largest loss: 30 % idle in saving: the client wrote the report and the model (output.report = false skips the report)'
    """
    losses = {
        (kind, stage): seconds
        for stage, by_kind in account["stages"].items()
        for kind, seconds in by_kind.items()
        if kind != "useful"
    }
    if not losses:
        return None
    kind, stage = max(losses, key=lambda place: losses[place])
    share = losses[kind, stage] / max(account["worker_seconds"], 1e-9)
    if share < LEAST_SHARE:
        return None
    cause, remedy = explained(kind, stage)
    return f"largest loss: {100 * share:.0f} % {_KIND_NAMES.get(kind, kind)} in {stage}: {cause} ({remedy})"


def explained(kind: str, stage: str) -> tuple[str, str]:
    """(cause of worker time of this kind in this stage of the account, what changes it)."""
    return _LOSSES.get((kind, stage)) or _LOSSES[kind, ""]


def other_parts(account: Mapping[str, Any]) -> str:
    """The components of "other", largest first, as text; "" where it is below 5 % of the worker-seconds.

    >>> parts = {"reading": {"other": 2.0}, "scheduling": {"other": 1.0}, "rounds": {"other": 0.01}}
    >>> other_parts({"worker_seconds": 30.0, "stages": parts})
    'reading 7 %, scheduling 3 %'
    """
    whole = max(account["worker_seconds"], 1e-9)
    shares = {stage: by_kind["other"] / whole for stage, by_kind in account["stages"].items()}
    if sum(shares.values()) < LEAST_SHARE:
        return ""
    shown = sorted((stage for stage in shares if shares[stage] >= 0.005), key=lambda stage: -shares[stage])
    return ", ".join(f"{stage} {100 * shares[stage]:.0f} %" for stage in shown)
