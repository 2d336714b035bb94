"""Defines faults that look like a loss but are none, or are announced: slow, silent, leaving or late processes."""

from dataclasses import replace

from faults.script import Act, Choice, ClusterSetup, Script
from faults.scripts import LOST, WAIT_SECONDS

BLOCKED_SECONDS = 12.0
SILENT = "has not answered for 5 s"  # in the note about a silent scheduler
SHORT_BLOCK_SECONDS = 8.0
STALLED_SECONDS = 20.0
CUT_OFF_SECONDS = 25.0
CUT_OFF_HANG_SECONDS = 8.0
SLOW_LIMIT_SECONDS = 240.0  # of a run that has to wait for long
ABSENT_SECONDS = 12.0  # longer than until the first note
STARTED_SECONDS = 4.0  # that a worker takes to start
PATIENCE_SECONDS = 60.0
FLAPS = 4


def scheduler_blocked(choice: Choice) -> Script:
    act = Act("block", "", "RoundDone", round=choice.checkpoint_rounds, seconds=BLOCKED_SECONDS)
    return Script(acts=(act,), says=SILENT, limit_seconds=SLOW_LIMIT_SECONDS)


def scheduler_blocked_often(choice: Choice) -> Script:
    """Ten times from the survey on; events that a run receives at once after a block cause several."""
    acts = (
        *(Act("block", "", "FragmentDone", stage=stage) for stage in ("survey", "statistics", "blocks")),
        *(Act("block", "", event) for event in ("Planned", "MatrixDone", "Placed")),
        *(Act("block", "", "RoundDone", round=number) for number in (1, 5, 20, choice.last)),
    )
    blocks = tuple(replace(act, seconds=SHORT_BLOCK_SECONDS) for act in acts)
    return Script(acts=blocks, says=SILENT, limit_seconds=SLOW_LIMIT_SECONDS)


def processors_hogged(_: Choice) -> Script:
    return Script(cluster=ClusterSetup(hogs=True), limit_seconds=SLOW_LIMIT_SECONDS)


def network_stalled(choice: Choice) -> Script:
    """Between a worker and all of Dask; XGBoost's own connections continue."""
    act = Act("stall", "", "RoundDone", round=choice.checkpoint_rounds, seconds=STALLED_SECONDS)
    return Script(
        acts=(act,), cluster=ClusterSetup(special=choice.worker, proxied=True), limit_seconds=SLOW_LIMIT_SECONDS
    )


def network_stalled_in_blocks(choice: Choice) -> Script:
    act = Act("stall", "", "FragmentDone", stage="statistics", seconds=STALLED_SECONDS)
    return Script(
        acts=(act,), cluster=ClusterSetup(special=choice.worker, proxied=True), limit_seconds=SLOW_LIMIT_SECONDS
    )


def host_cut_off(choice: Choice) -> Script:
    """The stall outlasts `cluster.hang_seconds`: the worker counts as lost, although its processes still run."""
    act = Act("stall", "", "RoundDone", round=choice.checkpoint_rounds, seconds=CUT_OFF_SECONDS)
    return Script(
        acts=(act,), cluster=ClusterSetup(special=choice.worker, proxied=True), says=LOST, departs=True,
        settings=(f"cluster.hang_seconds={CUT_OFF_HANG_SECONDS:g}", f"cluster.wait_seconds={WAIT_SECONDS}"),
        limit_seconds=SLOW_LIMIT_SECONDS,
    )  # fmt: skip


def lifetime_over(choice: Choice) -> Script:
    """As at a queue's time limit: the worker leaves on its own, in any stage."""
    seconds = STARTED_SECONDS + 0.6 * choice.seconds
    cluster = ClusterSetup(special=choice.worker, options=("--lifetime", f"{seconds:.1f}s"))
    return Script(cluster=cluster, settings=(f"cluster.wait_seconds={WAIT_SECONDS}",), departs=True)


def empty_at_start(_: Choice) -> Script:
    cluster = ClusterSetup(absent_seconds=ABSENT_SECONDS)
    return Script(cluster=cluster, settings=(f"cluster.patience={PATIENCE_SECONDS:g}s",), says="no worker")


def flapping(choice: Choice) -> Script:
    act = Act("flap", choice.worker, "RoundDone", round=choice.checkpoint_rounds, times=FLAPS)
    return Script(acts=(act,), says=LOST, faults=FLAPS, limit_seconds=SLOW_LIMIT_SECONDS)


def checkpoints_read_only(choice: Choice) -> Script:
    folder = f"{choice.model}.checkpoints"
    act = Act("read-only", folder, "Checkpoint", round=2 * choice.checkpoint_rounds)
    return Script(acts=(act,), says="checkpoint", leaves=("out/model.checkpoints",))
