"""A plan: where data will lie, what a worker is expected to take, and which runs are refused."""

import dataclasses
import re
from typing import Any, Literal

import pytest

from pipeline.errors import ClusterError, JobError
from pipeline.planning.memory import MIB, WORKER_NBYTES, spare_nbytes, worker_need
from pipeline.planning.storage_plan import (
    FITTING_SHARE,
    FragmentSize,
    Resources,
    Storage,
    StorageChoice,
    StoragePlan,
    Survey,
    WorkerResources,
)

ROWS, FRAGMENT_ROWS = 1_000_000, 100_000


def survey_of(
    features: int = 128,
    rows: int = ROWS,
    matrix: StorageChoice = "auto",
    row_order: Literal["auto", "key", "source"] = "auto",
    ranking: bool = False,
) -> Survey:
    fragments = rows // FRAGMENT_ROWS
    return Survey(
        formats=("parquet",),
        files=2,
        fragments=(FragmentSize(FRAGMENT_ROWS * features * 8, FRAGMENT_ROWS),) * fragments,
        columns=tuple((f"x{i}", "double") for i in range(features)),
        target=("late", "bool"),
        objective="auto",
        matrix=matrix,
        row_order=row_order,
        ranking=ranking,
        bins=255,
        params={"max_depth": 6},
    )


def workers(limit_nbytes: int, count: int = 1, threads: int = 2) -> Resources:
    return Resources("cpu", (WorkerResources(threads, limit_nbytes),) * count, "raise cluster.memory")


def least_limit(nbytes: int) -> int:
    """The least limit that so much fits in."""
    return int(nbytes / FITTING_SHARE) + 1


WIDE = survey_of()
NEED = worker_need(StoragePlan.of(WIDE, workers(0)).shape, ROWS)
IN_MEMORY = Storage("memory", "memory", NEED.all_nbytes)
CODES_ON_DISK = Storage("memory", "disk", NEED.memory_nbytes)
ON_DISK = Storage("disk", "disk", NEED.disk_nbytes)


@pytest.mark.parametrize(
    ("limit", "storage"),
    [
        (0, IN_MEMORY),
        (least_limit(NEED.all_nbytes), IN_MEMORY),
        (least_limit(NEED.all_nbytes) - 2, CODES_ON_DISK),
        (least_limit(NEED.memory_nbytes), CODES_ON_DISK),
        (least_limit(NEED.memory_nbytes) - 2, ON_DISK),
    ],
)
def test_in_memory_while_it_fits_then_codes_on_disk_then_the_matrix(limit: int, storage: Storage) -> None:
    plan = StoragePlan.of(WIDE, workers(limit))
    plan.validate()
    assert plan.worker == plan.storage(ROWS, limit) == storage


def test_raw_rows_are_kept_only_where_the_matrix_is_in_memory() -> None:
    found = [StoragePlan.of(WIDE, workers(limit, count=2)) for limit in (0, NEED.disk_nbytes // 2)]
    assert [plan.worker.matrix for plan in found] == ["memory", "disk"]
    assert [plan.keep_nbytes for plan in found] == [spare_nbytes(found[0].shape) // 2, 0]
    assert found[0].keep_nbytes > 0


def test_what_the_job_asks_for_is_done() -> None:
    huge = StoragePlan.of(survey_of(rows=50 * ROWS, matrix="memory"), workers(512 * MIB))
    huge.validate()
    assert huge.worker.matrix == "memory"
    small = StoragePlan.of(survey_of(rows=FRAGMENT_ROWS, matrix="disk"), workers(2**40))
    assert (small.worker.matrix, small.worker.codes) == ("disk", "disk")


def test_on_gpus_the_limit_of_the_process_does_not_count() -> None:
    tight = dataclasses.replace(workers(NEED.disk_nbytes * 2), device="cuda")
    assert StoragePlan.of(WIDE, tight).worker.matrix == "memory"
    assert StoragePlan.of(dataclasses.replace(WIDE, matrix="disk"), tight).worker.matrix == "disk"


@pytest.mark.parametrize("asked", ["auto", "disk"])
def test_rows_that_no_disk_helps_are_refused_with_the_numbers(asked: StorageChoice) -> None:
    """Narrow rows: what stays in memory of each is more than half of what a disk could take."""
    plan = StoragePlan.of(survey_of(features=4, rows=80 * ROWS, matrix=asked), workers(1024 * MIB, count=2))
    with pytest.raises(ClusterError) as refused:
        plan.validate()
    said = str(refused.value)
    for part in ("40,000,000 rows", "72 bytes a row", "1,024 MiB", "cluster.memory", 'training.matrix = "disk"'):
        assert part in said
    assert "\n" not in said
    assert said in plan.table()
    plan.storage(4_000_000, 1024 * MIB)  # of a worker with fewer of them
    with pytest.raises(ClusterError, match="40,000,000 rows"):
        plan.storage(40_000_000, 1024 * MIB)


@pytest.mark.parametrize(("limit", "told"), [(0, 0), (8192, 0), (400, 1)])
def test_a_plan_beyond_the_limit_is_reported(limit: int, told: int) -> None:
    plan = StoragePlan.of(survey_of(features=50, matrix="memory"), workers(limit * MIB))
    planned = plan.worker.planned_nbytes
    assert planned > 400 * MIB
    assert len(plan.notes) == told
    for note in plan.notes:
        assert note == (
            f"a worker is expected to take {planned / MIB:,.0f} MiB, and is ended near its limit of 400 MiB: "
            "raise cluster.memory"
        )


def test_a_compressed_file_that_keeps_one_thread_alone_is_reported() -> None:
    one = dataclasses.replace(
        WIDE, fragments=(FragmentSize(200 * MIB, None),), formats=("csv",), files=1, compressed=(200 * MIB,)
    )
    (note,) = StoragePlan.of(one, workers(0)).notes
    assert note == (
        "1 compressed file of up to about 200 MiB of text: one thread reads each; 1 fragment for 2 threads: split the text "
        "into 2 files or more, or decompress it"
    )
    assert StoragePlan.of(one, workers(0, threads=1)).notes == ()
    assert StoragePlan.of(dataclasses.replace(one, compressed=()), workers(0)).notes == ()
    assert StoragePlan.of(dataclasses.replace(one, compressed=(MIB,)), workers(0)).notes == ()


def test_the_worker_with_the_least_memory_decides() -> None:
    mixed = Resources("cpu", tuple(WorkerResources(1, limit) for limit in (2**40, 0, NEED.disk_nbytes)), "")
    plan = StoragePlan.of(WIDE, mixed)
    assert plan.resources.limit_nbytes == NEED.disk_nbytes
    assert plan.shape.workers == 3


def test_another_plan_is_made_when_more_is_known() -> None:
    first = StoragePlan.of(WIDE, workers(0))
    later = first.revised(trees=7, objective="multi:softprob", rows=ROWS // 2, missing=True)
    assert (first.shape.classes, first.shape.rows, first.shape.missing) == (1, ROWS, False)
    assert (later.shape.classes, later.shape.rows, later.shape.missing) == (7, ROWS // 2, True)
    assert later.resources == first.resources
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.keep_nbytes = 0  # type: ignore[misc]


def test_rows_of_text_files_are_estimated_from_their_bytes() -> None:
    text = dataclasses.replace(survey_of(features=10), fragments=(FragmentSize(80_000, None), FragmentSize(8_000, 70)))
    plan = StoragePlan.of(text, workers(0))
    assert (plan.shape.rows, plan.shape.fragment_rows) == (1_070, 1_000)
    assert re.search(r"^data +about 1,070 rows in 2 fragments of 2 files \(parquet\)$", plan.table(), re.MULTILINE)


@pytest.mark.parametrize(("given", "depth"), [(None, 6), (3, 3), ("9", 9), (0, 6), (-1, 6), ("deep", 6)])
def test_a_depth_that_xgboost_refuses_counts_as_its_default(given: object, depth: int) -> None:
    assert StoragePlan.of(dataclasses.replace(WIDE, params={"max_depth": given}), workers(0)).shape.depth == depth


def test_the_table_shows_data_workers_storage_and_memory() -> None:
    plan = StoragePlan.of(WIDE, dataclasses.replace(workers(2**34, count=12), note="assumed"))
    lines = [re.sub(" {2,}", "|", line) for line in str(plan).splitlines()]
    memory = f"{plan.worker.planned_nbytes / MIB:,.0f} MiB"
    assert plan.worker.planned_nbytes > WORKER_NBYTES
    assert lines == [
        "data|1,000,000 rows in 10 fragments of 2 files (parquet)",
        "features from|128 columns: x0 double, x1 double, x2 double, x3 double, x4 double, x5 double and 122 more",
        "target|late bool; objective auto",
        "workers|12 x 2 threads on the CPU, 16,384 MiB each; 2 without rows: these lie in 10 fragments",
        "matrix|in memory",
        "bin codes|in memory until the matrix is built",
        f"raw rows|{plan.keep_nbytes / MIB:,.0f} MiB a worker kept between the passes, the rest is decoded again",
        "order of rows|as in the source",
        f"memory of a worker|{memory} at its peak, its limit is 16,384 MiB",
        f"memory of all|{plan.nbytes / MIB:,.0f} MiB, {plan.nbytes_missing / MIB:,.0f} MiB if values are missing",
        "note|assumed",
    ]


@pytest.mark.parametrize(
    ("rows", "asked", "ranking", "device", "chosen"),
    [
        (1_000_000, "auto", False, "cpu", "key"),
        (100_000, "auto", False, "cpu", "key"),
        (90_000, "auto", False, "cpu", "source"),  # FRAGMENT_ROWS is more: no fragment
        (1_000_000, "source", False, "cpu", "source"),
        (0, "key", False, "cpu", "key"),
        (1_000_000, "auto", False, "cuda", "source"),
        (1_000_000, "key", False, "cuda", "key"),
        (1_000_000, "auto", True, "cpu", "source"),
    ],
)
def test_the_order_of_rows_is_decided_by_all_rows(
    rows: int, asked: Any, ranking: bool, device: Any, chosen: str
) -> None:
    """However many workers share them."""
    survey = survey_of(28, rows, row_order=asked, ranking=ranking)
    for count in (1, 7):
        plan = StoragePlan.of(survey, dataclasses.replace(workers(0, count), device=device))
        plan.validate()
        assert plan.row_order == chosen


def test_long_rows_are_not_ordered() -> None:
    assert [StoragePlan.of(survey_of(features), workers(0)).row_order for features in (64, 65)] == ["key", "source"]
    assert StoragePlan.of(survey_of(65, row_order="key"), workers(0)).row_order == "key"


def test_rows_of_a_ranking_stay_in_source_order() -> None:
    plan = StoragePlan.of(survey_of(row_order="key", ranking=True), workers(0))
    assert plan.row_order == "source"
    with pytest.raises(JobError, match=r'training.row_order = "key": the rows of a query stay together'):
        plan.validate()


def test_the_order_of_rows_stays_when_more_is_known() -> None:
    """The blocks are made in the order that the first pass has found."""
    plan = StoragePlan.of(survey_of(28), workers(0))
    assert plan.revised(rows=90_000).row_order == "key"
