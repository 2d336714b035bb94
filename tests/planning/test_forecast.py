"""The forecast of a run: how it moves with the job, the layout and what was measured."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.planning.forecast import WALL_STAGES, Correction, Forecast, MeasuredTrees, default_costs, forecast
from pipeline.planning.job_size import JobSize
from pipeline.planning.stage_memory import STAGES as MEMORY_STAGES
from pipeline.planning.stage_memory import MemoryFacts
from pipeline.planning.work import STAGES, Layout, Shares, grown

FACTS = MemoryFacts(keep_nbytes=50 << 20, missing=False)
SIZE = JobSize(
    rows=1_000_000, validation_rows=100_000, numeric_columns=28, text_columns=0, features=28, bins=28 * 255, files=8,
    fragment_nbytes=(14_000_000,) * 16, text_nbytes=0, rounds=100, trees=1, depth=8,
)  # fmt: skip
ONE = Layout(1, 2)


def of(layout: Layout = ONE, correction: Correction | None = None, **changed: object) -> Forecast:
    size = dataclasses.replace(SIZE, **changed)  # type: ignore[arg-type]
    return forecast(size, layout, FACTS, correction or Correction())


def test_every_stage_is_predicted() -> None:
    found = of()
    assert set(found.cpu) == set(STAGES)
    assert set(found.wall) == set(WALL_STAGES)
    assert set(found.memory.terms) == set(MEMORY_STAGES)
    assert all(seconds >= 0 for seconds in (*found.cpu.values(), *found.wall.values()))
    assert found.cpu["rounds"] > 0
    assert found.wall["report"] > 0
    assert of(report=False).wall["report"] == 0


@pytest.mark.parametrize("changed", [
    {"rows": 2_000_000}, {"features": 56, "bins": 56 * 255, "numeric_columns": 56}, {"rounds": 200}, {"trees": 3}, {"depth": 10},
    {"validation_rows": 400_000, "rows": 1_300_000},
])  # fmt: skip
def test_more_of_anything_takes_longer(changed: dict[str, object]) -> None:
    assert of(**changed).cpu_seconds > of().cpu_seconds
    assert of(**changed).wall_seconds > of().wall_seconds


@pytest.mark.parametrize("changed", [
    {"rows": 2_000_000}, {"features": 56, "bins": 56 * 255, "numeric_columns": 56}, {"depth": 12}, {"trees": 5},
])  # fmt: skip
def test_more_of_anything_takes_more_memory(changed: dict[str, object]) -> None:
    assert of(**changed).memory.peak_nbytes > of().memory.peak_nbytes


def test_more_workers_take_less_time_each_but_exchange_histograms() -> None:
    one, two = of(Layout(1, 1), rows=20_000_000, report=False), of(Layout(2, 1), rows=20_000_000, report=False)
    assert two.wall["rounds"] < one.wall["rounds"]
    assert two.cpu["elsewhere"] > one.cpu["elsewhere"]
    assert two.memory.of("rounds") < one.memory.of("rounds")


def test_workers_without_a_fragment_have_no_part() -> None:
    found = of(Layout(4, 1), fragment_nbytes=(200_000_000,))
    assert found.used_workers == 1
    assert len(found.round_compute) == 1


def test_a_correction_scales_its_stage_only() -> None:
    how = Correction(cpu={"rounds": 2.0}, rss={"rounds": 1.5}, rss_offset_nbytes={"rounds": 1e7})
    plain, corrected = of(), of(correction=how)
    assert corrected.cpu["rounds"] == pytest.approx(2 * plain.cpu["rounds"])
    assert corrected.cpu["statistics"] == plain.cpu["statistics"]
    assert corrected.wall["rounds"] > 1.5 * plain.wall["rounds"]
    assert corrected.memory.of("matrix") == plain.memory.of("matrix")
    assert corrected.memory.of("rounds") == pytest.approx(1.5 * (plain.memory.of("rounds") + 1e7))


@given(st.floats(12, 250))  # a level with less than half a split on average ends a tree: smaller ones are not modelled
@settings(max_examples=30, deadline=None)
def test_trees_are_as_large_as_measured(leaves: float) -> None:
    _, tree = grown(SIZE, default_costs().fill, leaves)
    assert 1 + sum(tree.splits) == pytest.approx(leaves, rel=0.05, abs=1)


def test_measured_trees_grow_with_the_rows() -> None:
    small = Correction(trees=MeasuredTrees(60.0, 20_000, 100, 8, 0, "depthwise"))
    same = of(correction=small, rows=20_000, validation_rows=0).cpu["rounds"]
    more = of(correction=small, rows=2_000_000, validation_rows=0).cpu["rounds"]
    assert more > 10 * same


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=40), st.integers(1, 12), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_shares_sum_to_one_and_the_busiest_thread_has_at_least_its_part(
    fragments: list[int], workers: int, threads: int
) -> None:
    shares = Shares.of(dataclasses.replace(SIZE, fragment_nbytes=tuple(fragments)), workers)
    assert sum(shares.of_rows) == pytest.approx(1)
    assert shares.used == min(workers, len(fragments))
    assert 1 / (shares.used * threads) <= shares.busiest(threads) * 1.000001
    assert shares.busiest(threads) <= 1


def test_the_numbers_of_a_size_survive_json() -> None:
    assert JobSize.from_dict(SIZE.to_dict()) == SIZE
