"""The resource plan: choice, refusals, answers, text."""

import dataclasses
import json
import math

import pytest

from pipeline.config.prices import Prices
from pipeline.errors import ClusterError
from pipeline.planning.forecast import default_costs
from pipeline.planning.job_size import JobSize
from pipeline.planning.plan import Evidence, Plan, PlanOptions
from pipeline.planning.plan_table import render
from pipeline.planning.storage_plan import FragmentSize, Resources, Survey, WorkerResources
from tests.planning.test_forecast import SIZE

GIB = 2**30
PRICES = Prices.model_validate({
    "currency": "EUR",
    "mode": {"on_demand": {"worker_hour": 1.0}, "spot": {"worker_hour": 0.3, "losses_per_hour": 0.01}},
})  # fmt: skip


def survey_of(size: JobSize, **changed: object) -> Survey:
    rows = size.rows // size.fragments
    made = Survey(
        formats=("parquet",), files=size.files,
        fragments=tuple(FragmentSize(nbytes, rows) for nbytes in size.fragment_nbytes),
        columns=tuple((f"x{place}", "float") for place in range(size.columns)), target=("y", "int8"), objective="auto",
        matrix="auto", row_order="auto", ranking=False, bins=255, params={"max_depth": size.depth},
    )  # fmt: skip
    return dataclasses.replace(made, **changed)  # type: ignore[arg-type]


def workers(count: int, threads: int = 1, limit: int = 8 * GIB) -> Resources:
    return Resources("cpu", (WorkerResources(threads, limit),) * count, "give them more")


def planned(size: JobSize = SIZE, options: PlanOptions | None = None, limit: int = 8 * GIB, **changed: object) -> Plan:
    resources = [workers(count, 2 // min(2, count), limit) for count in (1, 2, 4)]
    return Plan.of(size, survey_of(size, **changed), resources, options=options)


SMALL = dataclasses.replace(SIZE, rows=5_000, validation_rows=1_000, rounds=20, fragment_nbytes=(400_000,), files=1)
LARGE = dataclasses.replace(SIZE, rows=200_000_000, validation_rows=0, fragment_nbytes=(10**9,) * 24)
WIDE = dataclasses.replace(
    SIZE, rows=100_000, validation_rows=0, numeric_columns=400, features=400, bins=400 * 255, depth=6,
    fragment_nbytes=(20_000_000,) * 8, sample_rows=100_000,
)  # fmt: skip


def test_5_a_small_job_is_not_distributed() -> None:
    plan = planned(SMALL)
    assert plan.best is not None
    assert plan.best.layout.workers == 1
    assert any(answer.startswith("do not distribute: 1 worker takes") for answer in plan.answers())


def test_5_a_large_job_is() -> None:
    plan = planned(LARGE, limit=200 * GIB)
    assert plan.best is not None
    assert plan.best.layout.workers == 4
    assert plan.answers()[0].startswith("fastest: 4 workers")


def test_5_workers_that_would_idle_are_named() -> None:
    assert "2 workers asked, the rows lie in 1 fragment: 1 will have nothing to do" in planned(SMALL).answers()


def test_2_time_and_memory_grow_with_rows_features_and_depth() -> None:
    growth = planned(LARGE, limit=200 * GIB).growth
    assert set(growth) == {"rows", "features", "depth"}
    assert all(wall > 1 for wall, _ in growth.values())
    assert growth["rows"][1] > 1.5
    assert growth["features"][1] > 1.5


def test_6_the_cheapest_mode_within_the_deadline_is_chosen() -> None:
    free = planned(LARGE, PlanOptions(prices=PRICES), limit=200 * GIB)
    assert free.cheapest is not None
    layout, mode = free.cheapest
    assert mode.mode == "spot"
    assert free.best is layout
    hurried = planned(
        LARGE, PlanOptions(deadline_seconds=1.01 * free.layouts[2].wall.high, prices=PRICES), limit=200 * GIB
    )
    assert hurried.cheapest is not None
    assert hurried.cheapest[0].layout.workers == 4
    assert hurried.cheapest[1].cost > mode.cost
    hurried.validate()


def test_7_a_worker_that_is_surely_ended_is_refused() -> None:
    with pytest.raises(
        ClusterError,
        match=r"in the (statistics|blocks), .* for the sample of the statistics, and is ended at 190 MiB.*preprocess\.sample_rows",
    ):
        planned(WIDE, limit=200 * 2**20).validate()


def test_7_between_the_ends_there_is_a_note() -> None:
    peak = planned(WIDE, limit=0).layouts[0].peak
    one = planned(WIDE, limit=int(peak.middle / 0.95), matrix="memory").layouts[0]
    assert one.refused is None
    assert one.tight is not None
    assert "preprocess.sample_rows" in one.tight
    assert one.tight in one.notes
    roomy = planned(WIDE, limit=int(1.01 * peak.high / 0.95), matrix="memory").layouts[0]
    assert roomy.tight is None


def test_7_between_the_ends_the_matrix_goes_to_disk_where_that_helps() -> None:
    size = dataclasses.replace(LARGE, rows=20_000_000, fragment_nbytes=(10**8,) * 24)
    free = planned(size, limit=0)
    one = planned(size, limit=int(free.layouts[0].peak.middle / 0.95))
    assert one.layouts[0].storage.worker.matrix == "disk"
    assert one.layouts[0].refused is None
    fixed = planned(size, limit=int(free.layouts[0].peak.middle / 0.95), matrix="memory")
    assert fixed.layouts[0].storage.worker.matrix == "memory"


def test_a_deadline_that_nothing_meets_names_the_nearest() -> None:
    with pytest.raises(ClusterError, match=r"--deadline 1 s: the nearest is (1|2|4) worker.*training\.rounds"):
        planned(options=PlanOptions(deadline_seconds=1.0)).validate()
    with pytest.raises(
        ClusterError, match=r"nothing meets --deadline 2 min 0 s and --budget 1e-06: the nearest is .* EUR"
    ):
        planned(options=PlanOptions(deadline_seconds=120.0, budget=1e-6, prices=PRICES)).validate()


def test_without_a_limit_nothing_is_refused_and_the_formula_is_not_defined() -> None:
    plan = planned(WIDE, limit=0)
    plan.validate()
    assert math.isinf(plan.resource_formula()["worker_nbytes"])
    assert "not defined: the workers have no memory limit" in render(plan)
    json.dumps(plan.to_dict(), allow_nan=False)


def test_5_the_formula_of_the_articles_has_its_units() -> None:
    found = planned(limit=GIB).resource_formula()
    assert found["workers_by_memory"] == found["data_nbytes"] / found["worker_nbytes"]
    expected = found["workers_by_memory"] * found["work_seconds"] / found["compression"]
    assert found["R_worker_seconds"] == pytest.approx(expected)


def test_3_memory_is_told_by_stage_and_term() -> None:
    document = planned().to_dict()["layouts"][0]
    assert set(document["rss_nbytes"]) == {"reading", "statistics", "blocks", "matrix", "rounds", "evaluation"}
    assert document["rss_nbytes"]["rounds"]["matrix"] > 0
    assert (
        document["peak_rss_nbytes"]["low"] < document["peak_rss_nbytes"]["middle"] < document["peak_rss_nbytes"]["high"]
    )


def test_9_the_table_has_bars_for_time_and_memory() -> None:
    text = planned(options=PlanOptions(prices=PRICES)).table()
    assert "<- best" in text
    assert "EUR" in text
    bars = [line for line in text.splitlines() if "####" in line]
    assert any(line.strip().startswith("rounds") for line in bars)
    assert any("statistics" in line for line in bars)
    assert max(map(len, text.splitlines())) < 260


def test_numbers_say_what_they_stand_on() -> None:
    assert Evidence().source() == "costs measured on another machine"
    assert Evidence(probe_seconds=4.2).source() == "a probe of 4 s"


def test_1_busy_is_told_apart_from_slow() -> None:
    plan = Plan.of(SIZE, survey_of(SIZE), [workers(1)], Evidence(probe_seconds=4.0, busy=3.1))
    assert "x 3.1; times are for a quiet machine" in plan.table()
    assert plan.layouts[0].wall.middle == Plan.of(SIZE, survey_of(SIZE), [workers(1)]).layouts[0].wall.middle


def test_the_packages_costs_are_complete() -> None:
    costs = default_costs()
    for kind in ("cpu", "wall", "rss"):
        assert len(costs.residuals[kind]["total"]) >= 60
    assert min(cost for of in costs.cpu.values() for cost in of.values()) > 0


def test_gpus_are_not_judged_by_a_model_of_cpus() -> None:
    resources = dataclasses.replace(workers(1, limit=200 * 2**20), device="cuda")
    one = Plan.of(WIDE, survey_of(WIDE), [resources]).layouts[0]
    assert one.refused is None
    assert one.tight is None
    assert one.storage.worker.matrix == "memory"


def test_a_deadline_chooses_a_layout_that_meets_it() -> None:
    free = planned(LARGE, limit=200 * GIB)
    fast = free.layouts[2]
    plan = planned(LARGE, PlanOptions(deadline_seconds=1.001 * fast.wall.high), limit=200 * GIB)
    assert plan.best is not None
    assert plan.best.layout == fast.layout
    plan.validate()


def test_spot_workers_that_make_no_progress_are_refused() -> None:
    prices = Prices.model_validate({"mode": {"spot": {"worker_hour": 0.1, "losses_per_hour": 3_600}}})
    with pytest.raises(ClusterError, match="no progress is possible"):
        planned(LARGE, PlanOptions(deadline_seconds=1e6, prices=prices), limit=200 * GIB).validate()
