"""The texts of the pages: the name of a run, its quality, the time left, its problems."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
from bokeh.models import Select

from pipeline.dashboard.pages.registry import PAGES
from pipeline.events.types import (
    Checkpoint,
    Evaluated,
    Failed,
    JobResolved,
    Note,
    Restarted,
    Saved,
    Started,
    WorkerRounds,
)
from pipeline.monitoring.state.run_store import RunStore
from tests.dashboard import recorded
from tests.dashboard.test_pages import drawn, partly, words
from tests.monitoring.state.test_run_store import filled, round_done

TRAINING, EFFICIENCY, WORKERS = PAGES
ASKED = {"data.target": "late", "output.model": "models/flights/", "training.early_stopping": "20"}


def going(rounds: int, *, best_round: int = 0, of: int = 300, **fields: Any) -> RunStore:
    """A run with so many rounds behind it, two a second."""
    board = RunStore()
    board.apply("62aa2efa78d0", Started(time=9.0, verb="train", run="62aa2efa78d0"))
    board.apply("62aa2efa78d0", JobResolved(time=9.5, settings=ASKED))
    for number in range(1, rounds + 1):
        best = min(number, best_round or number)
        said = round_done(number, 10.0 + number / 2, rounds=of, best_round=best, best=0.5, **fields)
        board.apply("62aa2efa78d0", said)
    return board


@pytest.mark.parametrize(
    ("measured", "exact", "shown"),
    [
        ("validation.mlogloss", {"train.logloss": 0.458, "validation.logloss": 0.6125}, "validation.logloss</span><b>0.6125"),
        ("validation.merror", {"train.logloss": 0.458, "validation.accuracy": 0.7125}, "validation.accuracy</span><b>0.7125"),
        ("validation.auc", {"train.auc": 0.9, "validation.auc": 0.8125}, "validation.auc</span><b>0.8125"),
        ("train.rmse", {"train.mae": 2.0, "train.rmse": 3.125}, "train.rmse</span><b>3.125"),
    ],
)  # fmt: skip
def test_how_good_at_the_end_is_what_decided(measured: str, exact: Mapping[str, float], shown: str) -> None:
    board = going(30, metrics={measured: 0.5})
    board.apply("62aa2efa78d0", Evaluated(time=99.0, metrics=exact, seconds=1.0))
    board.apply("62aa2efa78d0", Saved(time=100.0, path="m", sha256=""))
    assert f"How good: {shown}" in words(drawn(TRAINING, board))


def test_how_long_still_knows_of_early_stopping() -> None:
    said = words(drawn(TRAINING, going(100, best_round=95)))
    assert "about 1 min 40 s" in said
    assert "at most 200 rounds more, fewer if it stops early" in said
    board = going(115, best_round=95)
    assert "no round was better for 20: it stops early" in words(drawn(TRAINING, board))
    assert board.runs["62aa2efa78d0"].eta is None


def test_without_validation_nothing_stops_early() -> None:
    board = going(100, metrics={"train.auc": 0.5})
    assert board.runs["62aa2efa78d0"].patience_left is None
    assert "stops early" not in words(drawn(TRAINING, board))


def test_a_run_is_called_what_a_person_calls_it() -> None:
    board = filled(recorded.failed())
    for event in (Started(time=9e9, verb="train", run="62aa2efa78d0"), JobResolved(time=9e9, settings=ASKED)):
        board.apply("62aa2efa78d0", event)
    doc = drawn(TRAINING, board)
    (select,) = [model for model in doc.models if isinstance(model, Select)]
    (label,) = [label for value, label in select.options if value == "62aa2efa78d0"]
    assert label.startswith("train late, flights, ")
    assert label.endswith(", running, 62aa2efa78d0")
    for page in PAGES:
        assert "train late, flights <span class=sub>62aa2efa78d0</span>: " in words(drawn(page, board))


def test_both_speeds_are_of_the_same_rounds() -> None:
    board = RunStore()
    for number in range(1, 101):  # of 1,000 rows; every second one takes three times as long
        seconds = 1.5 if number % 2 else 0.5
        at = 10.0 + number + (0.5 if number % 2 else 0.0)
        board.apply("a", round_done(number, at, rows_per_second=1_000 / seconds))
        board.apply("a", WorkerRounds(time=at, worker="0", first=number, round=number, seconds=seconds, cpu_seconds=seconds,
                                     runqueue_seconds=0.0, bytes_sent=0, memory_nbytes=1))  # fmt: skip
    assert "1.01 rounds/s, 1,009 rows/s in the last 59 rounds" in words(drawn(TRAINING, board))


def test_the_folder_to_resume_is_named_as_long_as_it_is_there() -> None:
    board = going(20)
    board.apply("62aa2efa78d0", Checkpoint(time=30.0, round=18, path="models/flights", seconds=0.1))
    said = words(drawn(TRAINING, board))
    assert "<td>folder for --resume</td><td>models/flights</td>" in said
    assert "round 18" in said
    failed, saved = Failed(time=40.0, message="lost"), Saved(time=41.0, path="models/flights", sha256="")
    board.apply("62aa2efa78d0", failed)
    assert "folder for --resume" in words(drawn(TRAINING, board))
    board.apply("62aa2efa78d0", saved)
    assert "--resume" not in words(drawn(TRAINING, board))


@pytest.mark.parametrize(
    ("queued", "said", "unsaid"),
    [
        (7.0, "For 70% it has no core", "% it waits"),
        (0.0, "For 76% it waits: for its own threads, for memory", "no core:"),
    ],
)
def test_one_worker_that_does_not_compute_is_explained_and_no_alarm(queued: float, said: str, unsaid: str) -> None:
    board = going(10)
    board.apply("62aa2efa78d0", WorkerRounds(time=20.0, worker="0", first=1, round=10, seconds=10.0, cpu_seconds=2.4,
                                            runqueue_seconds=queued, bytes_sent=0, memory_nbytes=1))  # fmt: skip
    for page in (TRAINING, EFFICIENCY):
        shown = words(drawn(page, board))
        assert said in shown
        assert unsaid not in shown
        assert "card warn" not in shown


def test_an_alarm_is_seen() -> None:
    board = going(10)
    board.apply("62aa2efa78d0", Note(time=14.0, message="alarm: pe < 0.6 (now 0.5 <b>, round 8)"))
    board.apply("62aa2efa78d0", Note(time=14.0, message="something else"))
    said = words(drawn(TRAINING, board))
    assert "<p class=alarm>alarm: pe &lt; 0.6 (now 0.5 &lt;b&gt;, round 8), 5 s after the start</p>" in said
    assert '<span class="alarm">alarm: pe &lt; 0.6' in said
    assert '<span class="alarm">alarm: pe &lt; 0.6' in words(drawn(WORKERS, board))
    assert "<b>, round 8" not in said
    assert board.runs["62aa2efa78d0"].state == "running"


@pytest.mark.parametrize("said", [Restarted(time=61.0, round=90, workers=2), None])
def test_how_long_still_after_a_restart_is_not_called_the_start(said: Restarted | None) -> None:
    board = going(100 if said else 0)
    if said:
        board.apply("62aa2efa78d0", said)
    shown = words(drawn(TRAINING, board))
    again, first = "known after some more rounds", "known after the first rounds"
    assert (again in shown, first in shown) == ((True, False) if said else (False, True))


def test_a_record_that_ends_before_its_run_says_so() -> None:
    _, rest = partly(recorded.binary(), 0.0)
    board = RunStore(recorded=True)
    for run, event in rest[:300]:
        board.apply(run, event)
    assert "the record ends here" in words(drawn(TRAINING, board))
    for run, event in rest[300:]:
        board.apply(run, event)
    assert "the record ends" not in words(drawn(TRAINING, board))
    assert "the record ends" not in words(drawn(TRAINING, partly(recorded.binary(), 0.5)[0]))


def test_a_replayed_event_is_the_same_event() -> None:
    event = Note(time=3.0, message="x")
    board = RunStore(recorded=True)
    board.apply("a", event)
    board.apply("a", dataclasses.replace(event, time=2.0))
    assert board.runs["a"].notes == [(2.0, "x"), (3.0, "x")]


def test_the_speeds_agree_where_rounds_are_left_out() -> None:
    board, before = RunStore(), 0
    for number, at in (
        (1, 20.0),
        (2, 21.0),
        (5, 22.5),
        (45, 42.5),
    ):  # 2 rounds a second of 1,000 rows, the first slower
        seconds = at - (board.runs["a"].heard if before else at - 1)
        board.apply("a", round_done(number, at, rows_per_second=1_000 * (number - before) / seconds))
        before = number
    assert "1.96 rounds/s, 1,956 rows/s in the last 44 rounds" in words(drawn(TRAINING, board))
