"""What the tasks of the two passes do, one by one and without a cluster."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.config.job import Preprocess, Training
from pipeline.data.fragments import Fragment, Piece
from pipeline.data.rows import TRAIN, VALIDATION, RowPlan
from pipeline.data.schema.roles import Roles
from pipeline.data.schema.target import Target
from pipeline.data.schema.target_survey import LabelSurvey
from pipeline.errors import DataError
from pipeline.preprocess import fit as fitting
from pipeline.preprocess.apply import matrix
from pipeline.preprocess.bins import encode
from pipeline.preprocess.findings import target_findings
from pipeline.preprocess.fit import (
    FragmentTask,
    PassConfig,
    block_facts,
    class_weights,
    collect_unit,
    fit,
    make_block,
    weigh,
)
from pipeline.preprocess.row_cache import row_cache
from pipeline.preprocess.statistics.collect import merge
from pipeline.runtime.worker_session import Content

ROWS, FRAGMENTS = 1_200, 3
CLASSES = Target("y", "multiclass", "multi:softprob", ("a", "b", "c"))
FLAGS = Target("y", "binary", "binary:logistic", (False, True))
NUMBERS = Target("y", "regression", "reg:squarederror")


def table_of(seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "x": pa.array(rng.normal(size=ROWS).astype(np.float32), mask=rng.random(ROWS) < 0.1),
            "few": rng.choice(["u", "v", "w"], ROWS),
            "many": np.char.add("level ", rng.integers(0, 300, ROWS).astype(str)),
        }
    )


@dataclasses.dataclass
class Reader:
    """Stands in for `load_rows`: gives rows made by the test, and counts how often each fragment is read."""

    rows: dict[int, Any]
    reads: list[int]

    def __call__(self, source: object, fragment: Fragment, plan: RowPlan, payload: object) -> Any:
        self.reads.append(fragment.index)
        return self.rows[fragment.index]


@pytest.fixture
def reader(make_rows: Any, monkeypatch: pytest.MonkeyPatch, worker_session: Any) -> Reader:
    """Three fragments, a quarter of their rows to validate on."""
    rows = {}
    for index in range(FRAGMENTS):
        rng = np.random.default_rng(index)
        use = np.where(rng.random(ROWS) < 0.25, VALIDATION, TRAIN)
        rows[index] = make_rows(table_of(index), rng.random(ROWS) < 0.4, index, rng.uniform(1, 2, ROWS), use)
    found = Reader(rows, [])
    monkeypatch.setattr(fitting, "load_rows", found)
    return found


def unit(index: int) -> FragmentTask:
    fragment = Fragment(index, (Piece("<table>", None, None, ROWS, 1),))
    return FragmentTask(source=SimpleNamespace(), fragment=fragment, rows=RowPlan(Roles(("x", "few", "many"))))  # type: ignore[arg-type]


def shared(target: Target, keep_nbytes: int = 0, **training: Any) -> PassConfig:
    return PassConfig("run", Preprocess(), Training(**training), target, FRAGMENTS * ROWS, keep_nbytes)


def fitted(of: PassConfig) -> fitting.Fitted:
    parts = [collect_unit(unit(index), None, of) for index in range(FRAGMENTS)]
    return fit(merge(merge(parts[0], parts[1]), parts[2]), of)


# class weights


def test_classes_weigh_the_same_unless_asked() -> None:
    assert class_weights(CLASSES, [1, 2, 3], Training()) == ()
    assert class_weights(NUMBERS, [], Training()) == ()


def test_balanced_classes_have_the_same_weight_in_all() -> None:
    weights = class_weights(CLASSES, [10, 20, 70], Training(class_weights="balanced"))
    assert np.allclose(np.multiply(weights, [10, 20, 70]), 100 / 3)


def test_a_class_without_training_rows_still_has_a_weight() -> None:
    assert class_weights(CLASSES, [5, 0, 5], Training(class_weights="balanced"))[1] == 1.0


def test_classes_are_weighed_by_name() -> None:
    assert class_weights(CLASSES, [1, 1, 1], Training(class_weights={"c": 3, "a": 0.5})) == (0.5, 1.0, 3.0)
    assert class_weights(FLAGS, [1, 1], Training(class_weights={"true": 2})) == (1.0, 2.0)
    years = Target("y", "multiclass", "multi:softprob", (2001, 2002))
    assert class_weights(years, [1, 1], Training(class_weights={"2002": 2})) == (1.0, 2.0)


def test_class_weights_that_fit_no_class_are_refused() -> None:
    with pytest.raises(DataError, match=r"training.class_weights.B: no such class of y, which has 3$"):
        class_weights(CLASSES, [1, 1, 1], Training(class_weights={"B": 3}))
    for asked in ("balanced", {"a": 1.0}):
        with pytest.raises(DataError, match="the target y makes a regression task"):
            class_weights(NUMBERS, [], Training(class_weights=asked))


def test_row_weight_times_class_weight() -> None:
    label = np.array([0, 1, 1, 0], np.float32)
    own = np.array([1, 2, 3, 4], np.float32)
    assert weigh(label, None, ()) is None
    assert weigh(label, own, ()) is own
    assert np.array_equal(weigh(label, None, (0.5, 2.0)), np.array([0.5, 2, 2, 0.5], np.float32))
    assert np.array_equal(weigh(label, own, (0.5, 2.0)), np.array([0.5, 4, 6, 2], np.float32))


# what cannot be trained on


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"use": np.full(ROWS, VALIDATION, np.uint8)}, "0 rows are left to train on, 10 are needed"),
        ({"label": np.ones(ROWS, np.float32)}, "the training rows of the target y are all of one class"),
        ({"weight": np.zeros(ROWS, np.float32)}, "the weights of all training rows are 0"),
    ],
)
def test_rows_that_cannot_be_trained_on(reader: Reader, change: dict[str, Any], says: str) -> None:
    reader.rows = {index: dataclasses.replace(rows, **change) for index, rows in reader.rows.items()}
    with pytest.raises(DataError, match=says):
        fitted(shared(FLAGS))


def test_a_target_that_is_constant_in_the_training_part_only_is_refused(reader: Reader) -> None:
    for index, rows in reader.rows.items():
        reader.rows[index] = dataclasses.replace(rows, label=np.where(rows.use == TRAIN, 0.1, 7).astype(np.float32))
    with pytest.raises(DataError, match=r"the target y has the same value in all [\d,]+ training rows"):
        fitted(shared(NUMBERS))


def test_classes_whose_rows_all_weigh_nothing_are_refused(reader: Reader) -> None:
    for index, rows in reader.rows.items():
        reader.rows[index] = dataclasses.replace(rows, weight=(rows.label == 1).astype(np.float32))
    with pytest.raises(DataError, match=r"that weigh more than 0 are all of one class: see data\.weight"):
        fitted(shared(FLAGS))


def test_classes_of_no_or_one_training_row_are_findings(reader: Reader) -> None:
    target = Target("y", "multiclass", "multi:softprob", ("a", "b", "c", "d"))
    first = int(np.flatnonzero(reader.rows[0].use == TRAIN)[0])
    for index, rows in reader.rows.items():
        label = (rows.label > 0).astype(np.float32)
        label[rows.use == VALIDATION] = 3
        if index == 0:
            label[first] = 2
        reader.rows[index] = dataclasses.replace(rows, label=label)
    none, one = fitted(shared(target)).findings
    assert (none.kind, none.count, none.setting) == ("class_without_rows", 1, "data.validation")
    assert (one.kind, one.count, one.column) == ("class_of_one_row", 1, "y")
    assert one.message.startswith("1 of the 4 classes of the target y has 1 training row: ")


# the intercept's labels


def test_the_intercept_counts_every_training_row_once(reader: Reader) -> None:
    found = fitted(shared(FLAGS))
    train = [rows.use == TRAIN for rows in reader.rows.values()]
    label = np.concatenate([r.label[t] for r, t in zip(reader.rows.values(), train, strict=True)]).astype(np.float64)
    weight = np.concatenate([r.weight[t] for r, t in zip(reader.rows.values(), train, strict=True)]).astype(np.float64)
    assert found.mean_label == pytest.approx((weight * label).sum() / weight.sum(), rel=1e-12)
    assert fitted(shared(NUMBERS)).mean_label == pytest.approx(found.mean_label, rel=1e-12)


def test_balanced_classes_have_an_even_intercept(reader: Reader) -> None:
    reader.rows = {index: dataclasses.replace(rows, weight=None) for index, rows in reader.rows.items()}
    found = fitted(shared(FLAGS, class_weights="balanced"))
    assert found.mean_label == pytest.approx(0.5, rel=1e-12)


# blocks


def coded(values: np.ndarray, found: fitting.Fitted) -> np.ndarray:
    """Bin codes of a matrix of features, (rows, features)."""
    return np.column_stack([encode(values[:, feature], feature, found.cuts) for feature in range(values.shape[1])])


def test_a_block_holds_what_the_recipe_makes(reader: Reader) -> None:
    """Training rows get the encodings of the other folds, validation rows those that predictions will use."""
    of = shared(FLAGS)
    found = fitted(of)
    assert found.recipe.names == ("x", "few", "many")
    for index, rows in reader.rows.items():
        block = make_block(unit(index), None, of, found)
        final = coded(matrix(found.recipe, rows.table), found)
        out_of_fold = coded(matrix(found.recipe, rows.table, fold_keys=rows.fold_key), found)
        train = rows.use == TRAIN
        assert np.array_equal(block.codes[train], out_of_fold[train])
        assert np.array_equal(block.codes[~train], final[~train])
        assert not np.array_equal(out_of_fold[:, 2], final[:, 2])  # else this test shows nothing
        assert np.array_equal(out_of_fold[:, :2], final[:, :2])
        assert (block.label is rows.label, block.weight is rows.weight) == (True, True)
        assert block_facts(block) == fitting.BlockFacts(int(train.sum()), int((~train).sum()), block.nbytes)


def test_class_weights_reach_training_and_validation_rows(reader: Reader) -> None:
    of = shared(FLAGS, class_weights={"true": 2})
    block, rows = make_block(unit(0), None, of, fitted(of)), reader.rows[0]
    assert np.array_equal(block.weight, rows.weight * np.where(rows.label == 1, np.float32(2), np.float32(1)))


def test_a_block_without_a_split_is_all_training_rows(reader: Reader) -> None:
    of = shared(FLAGS)
    found = fitted(of)
    reader.rows[0] = dataclasses.replace(reader.rows[0], use=None)
    block = make_block(unit(0), None, of, found)
    expected = matrix(found.recipe, reader.rows[0].table, fold_keys=reader.rows[0].fold_key)
    assert np.array_equal(block.codes, coded(expected, found))
    assert block_facts(block) == fitting.BlockFacts(ROWS, 0, block.nbytes)


def test_the_preview_is_a_sample_of_the_training_rows(reader: Reader) -> None:
    found = fitted(shared(FLAGS))
    assert len(found.preview) == len(found.preview_label) <= fitting.PREVIEW_ROWS
    assert found.statistics.samples is None
    assert len(found.preview) == found.statistics.rows  # all of them, where they are few


# rows kept between the passes


def both_passes(of: PassConfig) -> None:
    found = fitted(of)
    for index in range(FRAGMENTS):
        make_block(unit(index), None, of, found)


def test_without_room_every_fragment_is_read_twice(reader: Reader) -> None:
    both_passes(shared(FLAGS))
    assert reader.reads == [0, 1, 2, 0, 1, 2]


def test_with_room_no_fragment_is_read_again(reader: Reader, worker_session: Any) -> None:
    both_passes(shared(FLAGS, keep_nbytes=1 << 30))
    assert reader.reads == [0, 1, 2]
    assert worker_session.contents() == []


def test_as_many_fragments_are_kept_as_there_is_room_for(reader: Reader) -> None:
    sizes = [rows.table.nbytes for rows in reader.rows.values()]
    both_passes(shared(FLAGS, keep_nbytes=sizes[0] + sizes[1]))
    assert reader.reads == [0, 1, 2, 2]


def test_kept_rows_are_the_runs_own_and_go_with_it(reader: Reader, worker_session: Any) -> None:
    rows = reader.rows[0]
    for _ in range(2):  # a task that runs again puts the same rows
        row_cache("run").keep_rows(rows, 1 << 30)
    row_cache("other").keep_rows(rows, 1 << 30)
    content = Content("rows of 1 fragment", rows.table.nbytes)
    assert worker_session.contents() == [("run", content), ("other", content)]
    row_cache("third").keep_rows(rows, 3 * rows.table.nbytes - 1)  # the limit is that of all runs together
    assert row_cache("third").take_rows(0) is None
    worker_session.close("run")
    assert row_cache("run").take_rows(0) is None
    row_cache("run").keep_rows(rows, 1 << 30)  # a task that was still at work when its run ended
    assert row_cache("run").take_rows(0) is None
    assert row_cache("other").take_rows(0) is rows
    assert row_cache("other").take_rows(0) is None
    assert worker_session.contents() == []


@pytest.mark.parametrize(
    ("values", "kind", "asked", "task", "asks"),
    [
        (7, "int", "auto", "regression", True),
        (20, "int", "auto", "regression", True),
        (21, "int", "auto", "regression", False),
        (7, "float", "auto", "regression", False),
        (7, "int", "reg:squarederror", "regression", False),
        (7, "int", "auto", "ranking", False),
        (2, "int", "auto", "binary", False),
        (None, "int", "auto", "regression", False),  # more than are counted
    ],
)
def test_whole_numbers_of_few_values_may_be_classes(
    values: int | None, kind: Any, asked: str, task: Any, asks: bool
) -> None:
    labels = LabelSurvey(kind, None if values is None else dict.fromkeys(range(values), 10))
    found = target_findings(labels, Target("y", task, "reg:squarederror"), asked)
    assert [finding.kind for finding in found] == ["few_whole_numbers"] * asks
    if asks:
        assert f"the target y has {values} different whole numbers" in found[0].message
