"""Blocks with their codes in memory and in files; and who is made to have them in files."""

import dataclasses
import gc
import pickle
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest

from pipeline.config.job import Preprocess, Training
from pipeline.data.fragment_rows import Rows
from pipeline.data.fragments import Fragment, Piece
from pipeline.data.rows import TRAIN, VALIDATION, RowPlan
from pipeline.data.schema.roles import Roles
from pipeline.data.schema.target import Target
from pipeline.errors import OutputError
from pipeline.preprocess import fit
from pipeline.preprocess.block import Block
from pipeline.storage import scratch
from pipeline.storage.spill import StoredArray


def block(rows: int = 5_000, validation: bool = True) -> Block:
    rng = np.random.default_rng(0)
    return Block(
        fragment=3,
        codes=rng.integers(0, 256, (rows, 6), dtype=np.uint8),
        label=rng.random(rows, dtype=np.float32),
        weight=None,
        group=None,
        row_ids=np.arange(rows, dtype=np.uint64),
        use=(rng.random(rows) < 0.2).astype(np.uint8) if validation else None,
    )


def test_only_the_codes_go_to_disk(tmp_path: Path) -> None:
    before = block()
    after = before.on_disk(tmp_path)
    assert isinstance(after.codes, StoredArray)
    assert after.nbytes == before.nbytes
    assert (before.disk_nbytes, after.disk_nbytes) == (0, 5_000 * 6)
    assert before.__sizeof__() - after.__sizeof__() == 5_000 * 6
    assert after.on_disk(tmp_path) is after
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [5_000 * 6]


@pytest.mark.parametrize("validation", [True, False])
def test_both_give_the_same_rows(tmp_path: Path, validation: bool) -> None:
    before = block(validation=validation)
    after = before.on_disk(tmp_path)
    for use in (TRAIN, VALIDATION):
        rows = before.rows_for(use)
        one, other = (list(each.chunks(each.rows_for(use))) for each in (before, after))
        np.testing.assert_array_equal(np.concatenate(one), before.codes[rows])
        np.testing.assert_array_equal(np.concatenate(other or [np.empty((0, 6), np.uint8)]), before.codes[rows])


def test_a_block_travels_with_its_codes(tmp_path: Path) -> None:
    before = block()
    arrived = pickle.loads(pickle.dumps(before.on_disk(tmp_path)))
    assert isinstance(arrived.codes, np.ndarray)
    for field in dataclasses.fields(Block):
        np.testing.assert_array_equal(getattr(arrived, field.name), getattr(before, field.name))
    assert not list(tmp_path.iterdir())


def test_where_there_is_no_room_the_block_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = scratch.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(scratch.shutil, "disk_usage", lambda folder: usage._replace(free=0))
    with pytest.raises(OutputError, match="the bin codes of a block take 30 KiB of scratch space, 0 KiB are free"):
        block().on_disk(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("codes", "short", "in_memory"), [("memory", False, [0, 1, 2]), ("memory", True, []), ("disk", False, [])]
)
def test_the_second_pass_spills_where_memory_gets_short(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    worker_session: Any,
    codes: Literal["memory", "disk"],
    short: bool,
    in_memory: list[int],
) -> None:
    """And in the given folder; files go with the blocks, the folder when the run is over."""
    table = pa.table({"a": np.arange(2_000) / 7, "b": np.arange(2_000) % 5})
    monkeypatch.setattr(fit, "load_rows", lambda source, fragment, plan, payload: rows_of(table, fragment.index))
    monkeypatch.setattr(fit, "memory_is_short", lambda: short)
    shared = fit.PassConfig(
        uuid.uuid4().hex, Preprocess(), Training(), TARGET, 6_000, 0, scratch=str(tmp_path), codes=codes
    )  # fmt: skip
    fitted = fit.fit(fit.collect_unit(unit(0), None, shared), shared)
    blocks = [fit.make_block(unit(number), None, shared, fitted.encoder) for number in range(3)]
    assert [each.fragment for each in blocks if not fit.block_facts(each).disk_nbytes] == in_memory
    assert len(list(tmp_path.rglob("*.array"))) == 3 - len(in_memory)
    assert all(np.array_equal(np.asarray(each.codes)[:, 1], np.arange(2_000) % 5) for each in blocks)
    blocks.pop()
    gc.collect()
    assert len(list(tmp_path.rglob("*.array"))) == (2 if not in_memory else 0)
    worker_session.close(shared.run)
    assert not list(tmp_path.iterdir())


TARGET = Target("y", "binary", "binary:logistic", (False, True))


def unit(index: int) -> fit.FragmentTask:
    fragment = Fragment(index, (Piece("<table>", None, None, 2_000, 1),))
    return fit.FragmentTask(source=SimpleNamespace(), fragment=fragment, rows=RowPlan(Roles(("a", "b"))))  # type: ignore[arg-type]


def rows_of(table: pa.Table, fragment: int) -> Rows:
    ids = np.arange(table.num_rows, dtype=np.uint64) | np.uint64(fragment << 40)
    label = (np.arange(table.num_rows) % 2).astype(np.float32)
    return Rows(fragment, table, ids, label, weight=None, group=None, fold_key=ids, use=None, dropped={})
