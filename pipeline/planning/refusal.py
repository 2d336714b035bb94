"""Says what takes too much memory, and which setting changes that."""

from pipeline.formatting import mib
from pipeline.planning.intervals import Interval
from pipeline.planning.stage_memory import StageMemory
from pipeline.planning.storage_plan import LIMIT_SHARE

TERMS = {
    "base": ("the process itself", "raise cluster.memory, or use fewer workers"),
    "expressions": ("DuckDB, for data.derive and data.where", "raise cluster.memory, or use fewer workers"),
    "expression_threads": ("DuckDB in several threads", "lower cluster.threads"),
    "tables": ("tables parsed from text", "raise cluster.memory"),
    "parsed": ("text while it is parsed", "lower data.fragment_mib or cluster.threads"),
    "kept": ("rows kept between the passes", "raise cluster.memory"),
    "rows": ("target columns", "lower data.fragment_mib"),
    "decoded": ("decoded rows", "lower data.fragment_mib or cluster.threads"),
    "texts": ("decoded texts", "lower data.fragment_mib or cluster.threads"),
    "sample": ("the sample of the statistics", "lower preprocess.sample_rows"),
    "sample_texts": ("texts in the sample of the statistics", "lower preprocess.sample_rows"),
    "columns": ("statistics of the columns", "exclude columns (data.exclude)"),
    "codes": ("bin codes", "add workers, or raise cluster.memory"),
    "matrix": ("the quantised matrix", 'set training.matrix = "disk", or add workers'),
    "row_state": ("the state of the rows", "add workers, or train on fewer rows"),
    "histograms": ("histograms of the trees", "lower training.params.max_depth or training.max_bin"),
    "scores": ("predictions of the rows", "add workers"),
}  # fmt: skip
STAGES = {
    "reading": "reading", "statistics": "the statistics", "blocks": "the blocks", "matrix": "building the matrix",
    "rounds": "the rounds", "evaluation": "the evaluation",
}  # fmt: skip


def refusal(memory: StageMemory, peak: Interval, limit_nbytes: int) -> str | None:
    """Why a worker with this limit (0: none) would surely be ended; None where it may live."""
    if not limit_nbytes or peak.low <= LIMIT_SHARE * limit_nbytes:
        return None
    stage, term = memory.largest_term
    what, change = TERMS[term]
    return (
        f"a worker is expected to take {mib(peak.middle)} ({mib(peak.low)} to {mib(peak.high)}) in {STAGES[stage]}, "
        f"{mib(memory.terms[stage][term])} of it for {what}, and is ended at {mib(LIMIT_SHARE * limit_nbytes)}, "
        f"{100 * LIMIT_SHARE:.0f} % of its limit of {mib(limit_nbytes)}: {_advice(change)}"
    )


def tight(memory: StageMemory, peak: Interval, limit_nbytes: int) -> str | None:
    """A note where a worker with this limit may be ended, though it is not sure to be."""
    if not limit_nbytes or not peak.low <= LIMIT_SHARE * limit_nbytes < peak.high:
        return None
    stage, term = memory.largest_term
    what, change = TERMS[term]
    return (
        f"a worker is expected to take {mib(peak.low)} to {mib(peak.high)} in {STAGES[stage]}, most of it for {what}, and "
        f"is ended at {mib(LIMIT_SHARE * limit_nbytes)}: {_advice(change)}"
    )


def _advice(change: str) -> str:
    return change if "cluster.memory" in change else f"{change}, or raise cluster.memory"
