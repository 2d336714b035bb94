"""Lists what takes a worker's memory in each stage, in bytes of the resident set, which its limit is about.

Terms are products of counts and sizes; `unit_costs.json` has the factor of each term in each stage, which
`python -m benchmarks.plan_fit` finds in the peaks of measured runs.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.config.encoding import ENCODING
from pipeline.efficiency.cost import BIN_NBYTES, TreeShape
from pipeline.planning.job_size import JobSize
from pipeline.planning.memory import MAX_CACHED_NODES, ROW_NBYTES
from pipeline.planning.work import Layout, Shares

STAGES = ("reading", "statistics", "blocks", "matrix", "rounds", "evaluation")
TEXT_NBYTES = 32  # of a decoded text with its offset, about
FLOAT_NBYTES = 4


@dataclass(frozen=True)
class MemoryFacts:
    """What the plan of storage has decided, as far as memory depends on it."""

    keep_nbytes: int  # raw rows that a worker keeps between the passes
    missing: bool  # whether a value is missing
    matrix_on_disk: bool = False
    codes_on_disk: bool = False


@dataclass(frozen=True)
class StageMemory:
    """Bytes by stage and term: of the worker with most rows."""

    terms: Mapping[str, Mapping[str, float]]

    def scaled(self, factors: Mapping[str, Mapping[str, float]]) -> "StageMemory":
        """With each term times its factor; terms without one take nothing."""
        return StageMemory(
            {
                stage: {term: nbytes * factors.get(stage, {}).get(term, 0.0) for term, nbytes in terms.items()}
                for stage, terms in self.terms.items()
            }
        )

    def corrected(self, offsets: Mapping[str, float], factors: Mapping[str, float]) -> "StageMemory":
        """With an offset in the process itself and all terms times a factor, by stage."""
        return StageMemory(
            {
                stage: {
                    term: max(0.0, nbytes + (offsets.get(stage, 0.0) if term == "base" else 0.0))
                    * factors.get(stage, 1.0)
                    for term, nbytes in terms.items()
                }
                for stage, terms in self.terms.items()
            }
        )

    def of(self, stage: str) -> float:
        return math.fsum(self.terms[stage].values())

    @property
    def peak_stage(self) -> str:
        return max(self.terms, key=self.of)

    @property
    def peak_nbytes(self) -> int:
        return round(self.of(self.peak_stage))

    @property
    def largest_term(self) -> tuple[str, str]:
        """(stage, term) of what takes most in the peak's stage; the process itself where it takes more than the rest."""
        terms = self.terms[self.peak_stage]
        if 2 * terms["base"] > self.peak_nbytes:
            return self.peak_stage, "base"
        return self.peak_stage, max((term for term in terms if term != "base"), key=lambda term: terms[term])

    def to_dict(self) -> dict[str, Any]:
        """A dict of JSON values."""
        return {
            stage: {term: round(nbytes) for term, nbytes in terms.items() if nbytes}
            for stage, terms in self.terms.items()
        }


def stage_memory(size: JobSize, layout: Layout, shares: Shares, tree: TreeShape, facts: MemoryFacts) -> StageMemory:
    """The terms of each stage, before their factors."""
    rows = size.rows * shares.of_rows[0]
    at_once = min(layout.threads, shares.fragments[0])
    largest = max(size.fragment_nbytes, default=0)
    fragment_rows = size.rows * largest / max(1, size.nbytes)
    texts = fragment_rows * size.text_columns * TEXT_NBYTES * at_once
    decoded = fragment_rows * size.columns * 8 * at_once
    kept = min(float(facts.keep_nbytes), size.nbytes * shares.of_rows[0])
    sampled = float(min(size.sample_rows, size.train_rows))
    values = rows * size.features
    codes = values * ENCODING.nbytes
    page = min(values, 2.0**24)
    matrix = (page if facts.matrix_on_disk else values) * (2.0 if facts.missing else 1.0)
    nodes = 1 + sum(tree.splits[: max(0, (size.depth or len(tree.splits) + 1) - 1)])
    histograms = BIN_NBYTES * size.bins * min(2 * nodes, MAX_CACHED_NODES)
    row_state = rows * (ROW_NBYTES + 12 * (size.trees - 1))
    blocks = 0.0 if facts.codes_on_disk else codes
    sample = {
        "sample": sampled * size.columns * FLOAT_NBYTES,
        "sample_texts": sampled * size.text_columns * TEXT_NBYTES,
    }
    base = {"base": 1.0, "expressions": float(size.derived), "expression_threads": float(size.derived * (at_once - 1))}
    text = {"tables": kept if size.text_nbytes else 0.0, "parsed": float(largest * at_once * bool(size.text_nbytes))}
    rows_held = {"matrix": matrix, "row_state": row_state}
    return StageMemory(
        {
            "reading": {**base, **text, "kept": kept, "rows": fragment_rows * at_once * 8},
            "statistics": {**base, **text, **sample, "decoded": decoded, "texts": texts, "kept": kept, "columns": float(size.columns * 4096)},
            "blocks": {**base, **text, **sample, "decoded": decoded, "texts": texts, "kept": kept, "codes": blocks},
            "matrix": {**base, **rows_held, "codes": blocks, "decoded": decoded},
            "rounds": {**base, **rows_held, "histograms": histograms},
            "evaluation": {**base, **rows_held, "histograms": histograms, "scores": rows * size.trees * 16},
        }
    )  # fmt: skip
