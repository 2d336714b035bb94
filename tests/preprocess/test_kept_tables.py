"""Text is parsed once on the workers: the survey keeps what it parses for the statistics."""

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest

import pipeline
from pipeline.config.job import Cluster, Job
from pipeline.data import fragments
from pipeline.data.formats import readers
from pipeline.data.fragments import Fragment, Piece
from pipeline.data.opened_sources import Inputs, open_inputs, reader
from pipeline.data.rows import RowPlan, Split
from pipeline.data.schema.target import Target
from pipeline.errors import UserError
from pipeline.preprocess import prepare
from pipeline.preprocess.fit import FragmentTask, PassConfig, TableCache, collect_unit, survey_unit
from pipeline.preprocess.row_cache import RowCache, drop_tables, row_cache
from pipeline.runtime.worker_session import NAME, contents_on

FILES, ROWS, FRAGMENTS, RUN = 4, 300, 18, "run"
MUCH = 1 << 30


@pytest.fixture(autouse=True)
def small_fragments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fragments, "MIN_FRAGMENT_NBYTES", 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """CSV files of several fragments; in the last two all rows are late."""
    rng, folder = np.random.default_rng(0), tmp_path / "data"
    folder.mkdir()
    for number in range(FILES):
        x = rng.normal(size=ROWS)
        columns = {
            "x": x,
            "word": rng.choice(["u", "v", "w"], ROWS),
            "late": np.full(ROWS, number >= 2),
            "y": np.where(x + rng.normal(size=ROWS) > 0, "yes", "no"),
        }
        pacsv.write_csv(pa.table(columns), folder / f"{number}.csv")
    return folder


def job_of(folder: Path, *settings: str) -> Job:
    fixed = ["training.rounds=3", "output.report=false", "data.fragment_mib=1", "training.early_stopping=0"]
    return Job.parse({"data": {"source": str(folder), "target": "y"}}, settings=[*fixed, *settings])


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Piece]:
    """The pieces, each as often as it is parsed for its rows."""
    found: list[Piece] = []
    read = readers.read

    def counted(kind: str, piece: Piece, *arguments: Any) -> pa.Table:
        found.append(piece)
        return read(kind, piece, *arguments)

    monkeypatch.setattr(readers, "read", counted)
    return found


def passes(inputs: Inputs, room: int) -> list[Any]:
    """Surveys and statistics of all fragments, on one worker that may keep `room` bytes; the statistics."""
    plan = RowPlan(inputs.roles, inputs.derivation)
    source = reader(inputs.training)
    units = [FragmentTask(source, fragment, plan) for fragment in inputs.training.fragments]
    for unit in units:
        survey_unit(unit, None, TableCache(RUN, room))
    target = Target("y", "binary", "binary:logistic", ("no", "yes"))
    shared = PassConfig(RUN, inputs.job.preprocess, inputs.job.training, target, inputs.rows, keep_nbytes=0)
    rows = dataclasses.replace(plan, target=target, split=Split("none"))
    return [collect_unit(dataclasses.replace(unit, rows=rows), None, shared) for unit in units]


def pieces_of(inputs: Inputs) -> list[Piece]:
    return [piece for fragment in inputs.training.fragments for piece in fragment.pieces]


def test_with_room_each_file_is_parsed_once(folder: Path, parsed: list[Piece], worker_session: Any) -> None:
    inputs = open_inputs(job_of(folder))
    passes(inputs, MUCH)
    assert parsed == pieces_of(inputs)
    assert worker_session.contents() == []  # each table went as its statistics were collected


def test_without_room_it_is_parsed_for_each_pass(folder: Path, parsed: list[Piece], worker_session: Any) -> None:
    inputs = open_inputs(job_of(folder))
    passes(inputs, 0)
    assert parsed == [*pieces_of(inputs), *pieces_of(inputs)]
    assert worker_session.contents() == []


def test_no_more_is_kept_than_there_is_room_for(folder: Path, parsed: list[Piece], worker_session: Any) -> None:
    inputs = open_inputs(job_of(folder))
    largest = max(fragment.nbytes for fragment in inputs.training.fragments)
    passes(inputs, 2 * largest)
    kept = 2 * len(pieces_of(inputs)) - len(parsed)
    assert 0 < kept < len(pieces_of(inputs))


def test_tables_that_turn_out_too_large_are_not_parsed_whole_again(folder: Path, worker_session: Any) -> None:
    """The first one shows how much larger than its text a table is."""
    inputs = open_inputs(job_of(folder))
    fragment, other = inputs.training.fragments[:2]
    table = pa.table({"x": np.zeros(fragment.nbytes)})  # eight times the text
    room = 4 * fragment.nbytes
    assert row_cache(RUN).has_room(other, room)
    row_cache(RUN).keep_table(fragment, table, room)
    assert not row_cache(RUN).has_room(other, room)
    assert row_cache(RUN).has_room(other, 9 * other.nbytes)


@pytest.mark.parametrize(
    ("kind", "group", "kept"),
    [
        ("csv", None, True),
        ("csv", "query", False),
        ("libsvm", "query", True),
        ("parquet", None, False),
        ("arrow", None, False),
    ],
)
def test_only_text_is_kept(folder: Path, kind: Any, group: str | None, kept: bool) -> None:
    """Each source by itself: the validation source may have another format."""
    inputs = open_inputs(job_of(folder))
    plan = RowPlan(dataclasses.replace(inputs.roles, group=group), inputs.derivation)
    source = dataclasses.replace(reader(inputs.training), format=kind)
    assert TableCache.takes(FragmentTask(source, inputs.training.fragments[0], plan)) == kept


def test_statistics_are_the_same_from_kept_tables(folder: Path, worker_session: Any) -> None:
    inputs = open_inputs(job_of(folder))
    with_room, without = passes(inputs, MUCH), passes(inputs, 0)
    for left, right in zip(with_room, without, strict=True):
        assert left.columns["x"].moments == right.columns["x"].moments
        assert left.sample.table.equals(right.sample.table)


def test_tables_are_known_by_their_pieces(worker_session: Any) -> None:
    """Where queries are joined, another fragment gets the number."""
    piece, table = Piece("/a.csv", None, (0, 9), 1, 9), pa.table({"a": [1]})
    row_cache(RUN).keep_table(Fragment(3, (piece,)), table, MUCH)
    assert row_cache(RUN).take_table(Fragment(3, (piece, piece))) is None
    assert row_cache(RUN).take_table(Fragment(5, (piece,))) is table
    row_cache(RUN).keep_table(Fragment(3, (piece,)), table, 0)
    assert row_cache(RUN).take_table(Fragment(3, (piece,))) is None
    row_cache(RUN).keep_table(Fragment(3, (piece,)), table, MUCH)
    drop_tables(RUN, type("Worker", (), {"plugins": {NAME: worker_session}}))
    assert worker_session.contents() == []


def held(client: Any) -> int:
    """The tables that workers keep."""

    def count(dask_worker: Any) -> int:
        from pipeline.runtime.worker_session import session_of

        return sum(len(cache.tables) for cache in session_of(dask_worker).each(RowCache).values())

    return sum(client.run(count).values())


def watched(monkeypatch: pytest.MonkeyPatch, client: Any) -> list[int]:
    """The tables that are kept between survey and statistics, of each run."""
    found: list[int] = []
    survey = prepare.survey_target

    def surveyed(*arguments: Any) -> Any:
        result = survey(*arguments)
        found.append(held(client))
        return result

    monkeypatch.setattr(prepare, "survey_target", surveyed)
    return found


# Fragments of the other half move after the survey: their rows only validate, which makes them light.
SPLITS = ("data.validation={share=0.2}", "data.validation={column='late',values=[true]}")


@pytest.mark.parametrize("split", SPLITS)
def test_nothing_is_left_of_a_run(
    client: Any, folder: Path, tmp_path: Path, split: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = watched(monkeypatch, client)
    job = job_of(folder, split, f"output.model={tmp_path}/model")
    with pipeline.prepare(client, job):
        assert kept == [FRAGMENTS]
        assert held(client) == 0
    with pytest.raises(UserError):
        pipeline.train(client, job_of(folder, f"output.model={tmp_path}/b", "training.objective='reg:squarederror'"))
    assert list(client.run(contents_on).values()) == [[], []]


def test_a_worker_that_dies_with_its_tables_changes_nothing(
    client: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pipeline.train(client, job_of(folder, f"output.model={tmp_path}/whole"))
    survey = prepare.survey_target

    def kill(*arguments: Any) -> Any:
        result = survey(*arguments)
        assert held(own) == FRAGMENTS
        os.kill(next(iter(own.run(os.getpid).values())), signal.SIGKILL)
        return result

    monkeypatch.setattr(prepare, "survey_target", kill)
    with pipeline.connect(Cluster(device="cpu", workers=2, threads=1)) as own:
        again = pipeline.train(own, job_of(folder, f"output.model={tmp_path}/again"))
    assert again.model.sha256 == whole.model.sha256
