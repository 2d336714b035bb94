"""Runs as they would have been recorded: generated, the same every time."""

import math
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pipeline.events import types

BEGIN = 1_790_000_000.0  # seconds since the epoch
GB = 10**9
Recorded = Iterator[tuple[str, types.Event]]
Curve = Callable[[int, random.Random], Mapping[str, float]]

ROWS = {"0": 4_100_000, "1": 2_300_000}  # two workers, one of them faster
COMPUTE_SECONDS = {"0": 0.21, "1": 0.23}  # a round
EXCHANGE_SECONDS = 0.02


def binary(run: str = "flights-3f2a", begin: float = BEGIN, *, killed: bool = True) -> Recorded:
    """Two unequal workers, 300 rounds with validation; worker 1 is killed at round 137 and comes back."""
    flow = _Flow(run, begin)
    yield from flow.prepare("flights/*.parquet", rows=6_400_000, features=28, fragments=32, objective="binary")
    yield from flow.place(ROWS)
    if killed:
        yield from flow.rounds(1, 137, 300, _auc)
        yield flow.say(types.WorkerLost, after=1.2, worker="1", stage="rounds", round=137, reason="killed by signal 9")
        yield flow.say(types.Waiting, after=0.1, workers=1, expected=2, seconds=60.0)
        yield flow.say(types.WorkerJoined, after=6.5, worker="1")
        yield flow.say(types.Restarted, after=1.5, round=130, workers=2)
        yield from flow.make_again(12)
        yield from flow.place(ROWS)
        yield from flow.rounds(131, 300, 300, _auc)
    else:
        yield from flow.rounds(1, 300, 300, _auc)
    yield from flow.finish({"train.auc": 0.9312, "validation.auc": 0.9057, "validation.logloss": 0.2871})


def multiclass(run: str = "covertype-77b0", begin: float = BEGIN + 400) -> Recorded:
    """Four workers, seven classes, stopped early."""
    flow = _Flow(run, begin)
    names = {str(i): 145_000 for i in range(4)}
    yield from flow.prepare("covertype.csv", rows=None, features=54, fragments=8, objective="multiclass, 7 classes")
    yield flow.say(types.Note, message="the 7 classes are very unequal: the rarest has 2,747 of 581,012 rows")
    yield flow.say(
        types.Skipped, fragment=5, reason="covertype.csv, bytes 41,943,040 to 50,331,648: 55 fields expected, 31 found"
    )
    yield from flow.place(names)
    yield from flow.rounds(1, 88, 400, _mlogloss)
    yield from flow.finish({"validation.mlogloss": 0.3512, "validation.merror": 0.1383})


def ranking(run: str = "mslr-<b>1</b>", begin: float = BEGIN + 800) -> Recorded:
    """One worker, a ranking; it is still running.  Its name is one that a page has to escape."""
    flow = _Flow(run, begin)
    yield from flow.prepare("mslr/*.svm", rows=2_270_296, features=136, fragments=12, objective="ranking")
    yield from flow.place({"0": 2_270_296})
    yield from flow.rounds(1, 160, 500, _ndcg)


def failed(run: str = "broken-01", begin: float = BEGIN + 200) -> Recorded:
    """It fails while it reads."""
    flow = _Flow(run, begin)
    yield flow.say(types.Started, verb="train", run=run)
    yield flow.say(types.FragmentDone, after=0.5, stage="statistics", done=1, total=9, rows=1_000)
    yield flow.say(
        types.Failed, after=0.2, message="column 'delay <min>' has infinite values; set data.infinite = \"missing\""
    )


def everything() -> Recorded:
    """Several runs on one scheduler, the newest still running."""
    yield from binary()
    yield from failed()
    yield from multiclass()
    yield from ranking()


class _Flow:
    """Emits events of one run with a clock of its own."""

    def __init__(self, run: str, begin: float) -> None:
        self.run, self.now, self.random = run, begin, random.Random(run)
        self.rows: Mapping[str, int] = {}

    def say(self, kind: type[types.Event], *, after: float = 0.0, **fields: Any) -> tuple[str, types.Event]:
        self.now += after
        return self.run, kind(time=self.now, **fields)

    def prepare(self, data: str, *, rows: int | None, features: int, fragments: int, objective: str) -> Recorded:
        settings = {"data.path": data, "objective": objective, "training.rounds": "300", "training.learning_rate": "0.1",
                    "training.max_depth": "8", "training.early_stopping": "30"}  # fmt: skip
        yield self.say(types.Started, verb="train", run=self.run)
        yield self.say(types.JobResolved, after=0.1, settings=settings)
        yield self.say(types.Planned, after=0.3, rows=rows, features=features, fragments=fragments, workers=2, threads=4,
                       nbytes=2_100_000_000)  # fmt: skip
        for stage, seconds in (("statistics", 0.35), ("blocks", 0.5)):
            began = self.now
            for done in range(1, fragments + 1):
                after = seconds * self.random.uniform(0.6, 1.4)
                yield self.say(
                    types.FragmentDone, after=after, stage=stage, done=done, total=fragments, rows=done * 200_000
                )
            if stage == "statistics":
                yield self.say(types.StatisticsDone, rows=rows or 581_012, seconds=self.now - began)
        yield self.say(types.BlocksDone, rows=rows or 581_012, nbytes=716_800_000, seconds=self.now - began)
        yield self.say(types.MatrixDone, after=1.9, nbytes=179_200_000, seconds=1.9)

    def make_again(self, fragments: int) -> Recorded:
        """What a lost worker had, on the one that came in its place."""
        began = self.now
        for done in range(1, fragments + 1):
            yield self.say(
                types.FragmentDone, after=0.2, stage="blocks", done=done, total=fragments, rows=done * 200_000
            )
        yield self.say(types.BlocksDone, after=0.01, rows=2_400_000, nbytes=268_800_000, seconds=self.now - began)
        yield self.say(types.MatrixDone, after=0.7, nbytes=67_200_000, seconds=0.7)

    def place(self, rows: Mapping[str, int]) -> Recorded:
        self.rows, total = rows, sum(rows.values())
        power = {name: 0.5 + count / total for name, count in rows.items()}
        places = tuple(
            types.Place(worker=name, rows=count, share=count / total, capability=power[name] / sum(power.values()),
                  threads=4, memory_limit_nbytes=2 * GB, planned_nbytes=700_000_000 + count * 160)
            for name, count in rows.items()
        )  # fmt: skip
        yield self.say(types.Placed, after=0.2, workers=places)

    def rounds(self, first: int, last: int, rounds: int, curve: Curve) -> Recorded:
        best, best_round = -math.inf, 0
        for number in range(first, last + 1):
            compute = {name: COMPUTE_SECONDS.get(name, 0.2) * self.random.uniform(0.9, 1.1) for name in self.rows}
            seconds = max(compute.values()) + EXCHANGE_SECONDS * (len(self.rows) > 1)
            self.now += seconds
            metrics = curve(number, self.random)
            deciding = list(metrics.values())[-1]
            better = deciding if "auc" in list(metrics)[-1] or "ndcg" in list(metrics)[-1] else -deciding
            if better > best:
                best, best_round = better, number
            yield self.say(types.RoundDone, round=number, rounds=rounds, metrics=metrics, best_round=best_round,
                           best=abs(best), rows_per_second=sum(self.rows.values()) / seconds)  # fmt: skip
            for name, count in self.rows.items():
                yield self.say(
                    types.WorkerRounds, worker=name, first=number, round=number, seconds=seconds,
                    cpu_seconds=compute[name] - 0.012, runqueue_seconds=self.random.uniform(0.004, 0.012),
                    bytes_sent=172_032, memory_nbytes=int(620_000_000 + count * (150 + 8 * self.random.random())),
                )  # fmt: skip
            if number % 10 == 0:
                yield self.say(types.Checkpoint, round=number, path=f"model/checkpoints/{number}", seconds=0.03)

    def finish(self, metrics: Mapping[str, float]) -> Recorded:
        yield self.say(types.Evaluated, after=2.1, metrics=metrics, seconds=2.0)
        yield self.say(types.Saved, after=0.6, path="models/flights", sha256="0" * 64)


def _auc(number: int, random_: random.Random) -> Mapping[str, float]:
    return {
        "train.logloss": 0.24 + 0.45 * math.exp(-number / 40),
        "validation.logloss": 0.285 + 0.41 * math.exp(-number / 38) + random_.gauss(0, 0.0006),
        "train.auc": 0.94 - 0.2 * math.exp(-number / 60),
        "validation.auc": 0.906 - 0.18 * math.exp(-number / 45) + random_.gauss(0, 0.0004),
    }


def _mlogloss(number: int, random_: random.Random) -> Mapping[str, float]:
    return {
        "train.mlogloss": 0.2 + 1.7 * math.exp(-number / 15),
        "validation.mlogloss": 0.35 + 1.6 * math.exp(-number / 14) + max(0, number - 58) * 0.0005,
        "train.merror": 0.08 + 0.3 * math.exp(-number / 20),
        "validation.merror": 0.138 + 0.28 * math.exp(-number / 18) + max(0, number - 58) * 0.0003,
    }


def _ndcg(number: int, random_: random.Random) -> Mapping[str, float]:
    noise = random_.gauss(0, 0.001)
    return {
        "train.ndcg@10": 0.58 - 0.25 * math.exp(-number / 50),
        "validation.ndcg@10": 0.49 - 0.2 * math.exp(-number / 40) + noise,
    }
