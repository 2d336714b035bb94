"""/team: workers that come and go, and memory next to a limit beyond the axis."""

import math
from collections.abc import Mapping
from typing import Any

from pipeline.dashboard.pages.registry import PAGES
from pipeline.events.types import Place, Placed, Restarted, Started, WorkerLost
from pipeline.monitoring.state.run_store import RunStore
from tests.dashboard.test_pages import drawn, sources, words
from tests.monitoring.state.test_run_store import worker_rounds

TRAINING, TEAM = PAGES[0], PAGES[2]
GB = 10**9


def placed(time: float, shares: Mapping[str, float], limit: int = 2 * GB) -> Placed:
    return Placed(time=time, workers=tuple(
        Place(worker=name, rows=int(1_000 * share), share=share, capability=share, threads=1, memory_limit_nbytes=limit,
              planned_nbytes=GB) for name, share in shares.items()
    ))  # fmt: skip


def working(time: float, *names: str, memory: int = GB) -> RunStore:
    board = RunStore()
    for name in names:
        board.apply("a", worker_rounds(name, 1, time, memory_nbytes=memory))
    return board


def memory_of(board: RunStore) -> dict[str, Any]:
    return next(data for data in sources(drawn(TEAM, board)) if "memory" in data)


def test_a_dead_workers_memory_is_not_now() -> None:
    board = RunStore()
    board.apply("a", placed(1.0, {"0": 0.44, "1": 0.56}))
    for name in "01":
        board.apply("a", worker_rounds(name, 1, 2.0, memory_nbytes=GB))
    board.apply("a", WorkerLost(time=3.0, worker="1", stage="rounds", round=1, reason="killed"))
    board.apply("a", Restarted(time=4.0, round=0, workers=1))
    board.apply("a", placed(5.0, {"0": 1.0}))
    drawn_memory = memory_of(board)
    assert list(drawn_memory["worker"]) == ["0", "1"]
    assert drawn_memory["memory"][0] == 1.0
    assert math.isnan(drawn_memory["memory"][1])
    assert drawn_memory["peak"][1] == 1.0
    assert drawn_memory["said"][1] == "1: away, 1 GB at its peak"
    said = words(drawn(TEAM, board))
    assert "100.0%" in said
    assert "56.0%" not in said


def test_a_worker_that_comes_back_under_another_name_is_another_one() -> None:
    board = working(2.0, "a", "b")
    board.apply("a", placed(1.0, {"a": 0.5, "b": 0.5}))
    board.apply("a", WorkerLost(time=3.0, worker="a", stage="rounds", round=1, reason="killed"))
    board.apply("a", Restarted(time=4.0, round=0, workers=2))
    said = words(drawn(TEAM, board))
    assert "2 workers take part" in said
    assert "other away" not in said
    board.apply("a", placed(6.0, {"c": 0.5, "b": 0.5}))
    board.apply("a", Started(time=1.0, verb="train", run="a"))
    document = drawn(TEAM, board, now=9.0)
    spans = next(data for data in sources(document) if "left" in data)
    assert [*zip(spans["worker"], spans["right"], strict=True)] == [("a", 2.0), ("b", 8.0), ("c", 8.0)]
    marks = next(data for data in sources(document) if "marker" in data)
    assert list(marks["marker"]) == ["x"]
    said = words(document)
    assert "2 workers take part" in said
    assert '<td><span class="lost">lost</span></td>' in said
    assert "left</td>" not in said
    assert "away" not in words(drawn(TRAINING, board))


def test_a_worker_that_comes_back_under_its_name_is_drawn_as_coming_back() -> None:
    board = working(2.0, "a", "b")
    for event in (
        Started(time=1.0, verb="train", run="a"),
        placed(1.0, {"a": 0.5, "b": 0.5}),
        WorkerLost(time=3.0, worker="a", stage="rounds", round=1, reason="killed"),
        Restarted(time=4.0, round=0, workers=2),
        placed(6.0, {"a": 0.5, "b": 0.5}),
    ):
        board.apply("a", event)
    document = drawn(TEAM, board, now=9.0)
    spans = next(data for data in sources(document) if "left" in data)
    assert list(spans["worker"]) == ["a", "a", "b"]
    assert list(spans["left"])[1] == 5.0
    marks = next(data for data in sources(document) if "marker" in data)
    assert [*zip(marks["marker"], marks["at"], strict=True)] == [("x", 2.0), ("triangle", 5.0)]
    assert "lost</span></td>" not in words(document)


def test_workers_stand_in_an_order_that_stays() -> None:
    board = working(2.0, "10", "w2", "2", "w10")
    assert list(memory_of(board)["worker"]) == ["2", "10", "w2", "w10"]
    board.apply("a", placed(3.0, {"10": 0.5, "2": 0.5}))
    assert list(memory_of(board)["worker"]) == ["2", "10", "w2", "w10"]


def test_a_limit_that_is_far_away_is_reported() -> None:
    board = working(2.0, "0")
    board.apply("a", placed(1.0, {"0": 1.0}, limit=64 * GB))
    assert math.isnan(memory_of(board)["limit"][0])
    assert "The limit is beyond the axis: 64 GB for each." in words(drawn(TEAM, board))
    board.apply("a", placed(3.0, {"0": 1.0}, limit=2 * GB))
    assert memory_of(board)["limit"][0] == 2.0
    assert "beyond the axis" not in words(drawn(TEAM, board))
