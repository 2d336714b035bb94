"""What the training tests share: small data of every kind, and training it over a given layout."""

import dataclasses
import itertools
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from distributed import wait

from pipeline.cluster.scheduler_info import scheduler_info
from pipeline.config.metric_registry import round_metrics
from pipeline.config.xgboost import ModelShape, xgboost_params
from pipeline.preprocess.bins import Cuts, encode, make_cuts
from pipeline.preprocess.block import Block
from pipeline.preprocess.row_order import fit_row_order
from pipeline.runtime.sessions import close_run
from pipeline.training.state import State
from pipeline.training.trainer import RoundsResult, Scores, TrainingCallbacks
from pipeline.training.xgboost.dispatch import run_training
from pipeline.training.xgboost.intercept import LabelSummary, base_score
from pipeline.training.xgboost.matrix import build_partition
from pipeline.training.xgboost.spec import RoundsSpec

ROWS, FRAGMENTS = 6_000, 12


@dataclass(frozen=True)
class Case:
    """A data set and what to train on it."""

    objective: str
    features: np.ndarray  # (rows, features) float32
    label: np.ndarray
    levels: tuple[int | None, ...]
    weight: np.ndarray | None = None
    group: np.ndarray | None = None
    validation_share: float = 0.25
    params: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)  # of the RoundsSpec
    shape: dict[str, Any] = field(default_factory=dict)
    rounds: int = 20
    ordered: bool = False  # the rows of each block by a key, not as they come

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"f{i}" for i in range(self.features.shape[1]))

    @property
    def use(self) -> np.ndarray:
        rng = np.random.default_rng(7)
        if self.group is not None:
            return (rng.random(self.group.max() + 1) < self.validation_share)[self.group].astype(np.uint8)
        return (rng.random(len(self.label)) < self.validation_share).astype(np.uint8)

    def cuts(self) -> Cuts:
        return make_cuts(self.features[self.use == 0], self.levels)

    def blocks(self, cuts: Cuts) -> list[Block]:
        codes = np.column_stack([encode(self.features[:, f], f, cuts) for f in range(len(self.levels))])
        bounds = np.linspace(0, len(self.label), FRAGMENTS + 1).astype(int)
        if self.group is not None:  # no query is split
            bounds = np.searchsorted(self.group, self.group[np.minimum(bounds, len(self.label) - 1)])
            bounds[-1] = len(self.label)
        blocks = [
            Block(
                fragment=i,
                codes=codes[a:b],
                label=self.label[a:b],
                weight=None if self.weight is None else self.weight[a:b],
                group=None if self.group is None else self.group[a:b].astype(np.int64),
                row_ids=(np.uint64(i) << np.uint64(40)) | np.arange(b - a, dtype=np.uint64),
                use=self.use[a:b],
            )
            for i, (a, b) in enumerate(itertools.pairwise(bounds))
        ]
        if self.ordered and self.group is None:
            order = fit_row_order(codes[::3], self.label[::3], None, self.levels, self.shape.get("classes", 0))
            return [block.reordered(order.positions(np.asarray(block.codes))) for block in blocks]
        return blocks

    def spec(self) -> RoundsSpec:
        train = self.label[self.use == 0]
        labels = LabelSummary(mean=float(train.mean(dtype=np.float64)), values=train)
        shape = ModelShape(self.names, **self.shape)
        intercept = base_score(self.objective, labels, shape.quantiles)
        params = xgboost_params(self.objective, shape, intercept, {"max_depth": 5, **self.params}, seed=3)
        options = {"metrics": round_metrics(self.objective), "timeout_seconds": 60, **self.options}
        return RoundsSpec(run=uuid.uuid4().hex, params=params, rounds=self.rounds, seed=3, **options)


@pytest.fixture(scope="session", name="make_case")
def _make_case() -> Callable[..., Case]:
    return make_case


def make_case(objective: str = "binary:logistic", *, rows: int = ROWS, seed: int = 0, **options: Any) -> Case:
    """Six features: three normal, a heavy-tailed one, one of few values, one of categories; a tenth missing."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((rows, 6)).astype(np.float32)
    features[:, 3] = np.exp(3 * features[:, 3])
    features[:, 4] = rng.integers(0, 4, rows)
    features[:, 5] = rng.integers(0, 12, rows)
    signal = features[:, 0] + features[:, 1] * features[:, 2] + (features[:, 5] % 3 == 1) + np.log1p(features[:, 3])
    signal += rng.standard_normal(rows) * 0.5
    if options.pop("missing", True):
        features[rng.random(features.shape) < 0.1] = np.nan
    group = None
    if objective.startswith("rank:"):
        group = np.sort(rng.integers(0, rows // 25, rows))
        group = np.unique(group, return_inverse=True)[1]
    label = _label(objective, signal, options)
    if options.pop("sort", False):
        order = np.argsort(label, kind="stable")
        features, label = features[order], label[order]
    weight = rng.uniform(0.1, 4, rows).astype(np.float32) if options.pop("weighted", False) else None
    return Case(objective, features, label, (None,) * 5 + (12,), weight=weight, group=group, **options)


def _label(objective: str, signal: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    if objective.startswith("binary:") or objective == "rank:map":
        return (signal > 1.5).astype(np.float32)
    if objective.startswith("multi:"):
        options.setdefault("shape", {"classes": 4})
        return np.searchsorted(np.quantile(signal, [0.3, 0.6, 0.8]), signal).astype(np.float32)
    if objective.startswith("rank:"):
        return np.searchsorted(np.quantile(signal, [0.5, 0.75, 0.9]), signal).astype(np.float32)
    if objective == "reg:quantileerror":
        options.setdefault("shape", {"quantiles": [0.1, 0.5, 0.9]})
    if objective == "reg:logistic":
        return (1 / (1 + np.exp(-signal))).astype(np.float32)
    if objective in ("count:poisson", "reg:gamma", "reg:tweedie", "reg:squaredlogerror"):
        return (np.round(np.exp(0.3 * signal)) + (objective == "reg:gamma")).astype(np.float32)
    return signal.astype(np.float32)


@dataclass(frozen=True)
class Outcome:
    """A training's result with the predictions of all workers, in the order of row ids."""

    result: RoundsResult
    train: Scores
    validation: Scores | None


Train = Callable[..., Outcome]


@pytest.fixture(scope="session")
def train(make_cluster: Callable[[int, int], Any]) -> Train:
    """`train(case, shares)`: trains with `shares` of the fragments on as many workers of a shared cluster.

    `start`: resumes from that state.  `rounds`: instead of the case's.
    """
    client = make_cluster(3, 1)

    def run(
        case: Case,
        shares: Sequence[int] = (FRAGMENTS,),
        listen: Any = lambda event: None,
        start: State | None = None,
        rounds: int | None = None,
    ) -> Outcome:
        workers = sorted(scheduler_info(client)["workers"])[: len(shares)]
        cuts = case.cuts()
        blocks, first, partitions = case.blocks(cuts), 0, []
        for worker, share in zip(workers, shares, strict=True):
            partitions.append(
                client.submit(
                    build_partition, blocks[first : first + share], cuts, case.names, threads=1,
                    workers=[worker], allow_other_workers=False, pure=False,
                )
            )  # fmt: skip
            first += share
        wait(partitions)
        spec = dataclasses.replace(case.spec(), rounds=rounds or case.rounds)
        trained = run_training(client, partitions, workers, spec, TrainingCallbacks(start, listen))
        close_run(client, spec.run)
        parts = client.gather(list(trained.scores))
        return Outcome(trained.result, join([a for a, _ in parts]), join([b for _, b in parts]))

    return run


def join(parts: Sequence[Scores | None]) -> Scores | None:
    kept = [part for part in parts if part is not None and len(part.row_ids)]
    if not kept:
        return None
    ids = np.concatenate([part.row_ids for part in kept])
    order = np.argsort(ids)

    def gather(name: str) -> Any:
        arrays = [getattr(part, name) for part in kept]
        return None if arrays[0] is None else np.concatenate(arrays)[order]

    return Scores(ids[order], gather("prediction"), gather("label"), gather("weight"), gather("group"))
