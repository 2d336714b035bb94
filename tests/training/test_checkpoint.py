"""Checkpoints on the disk: whole or not there, and what they belong to."""

import dataclasses
import errno
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import parameters
from pipeline.config.job import Job
from pipeline.errors import ModelError
from pipeline.training import checkpoint
from pipeline.training.checkpoint import CheckpointStore, decode, encode
from pipeline.training.identity import Identity
from pipeline.training.state import State
from pipeline.training.xgboost.trainer import XGBoostTrainer

TRAINER = XGBoostTrainer()
JOB: dict[str, Any] = {"data": {"source": "x", "target": "y"}}


def state(number: int, **fields: Any) -> State:
    history = {"validation.auc": [0.5] * number, "train.auc": [math.nan] * number}
    return State(number, b"trees %d" % number, history, [0.1] * number, number, 0.5, **fields)


def identity(*settings: str) -> Identity:
    return Identity.of(Job.parse(JOB, settings=settings), ("abc",), "cpu", TRAINER)


def same(one: State, other: State) -> bool:
    """NaN equals NaN here."""
    return repr(dataclasses.asdict(one)) == repr(dataclasses.asdict(other))


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "late")


def test_back_as_it_was(store: CheckpointStore) -> None:
    path = store.write(state(7), identity())
    assert path == store.model.with_name("late.checkpoints") / "round-000007.checkpoint"
    found, theirs, wrong = store.latest()
    assert same(found, state(7))
    assert theirs == identity()
    assert wrong == []


def test_the_last_two_are_kept(store: CheckpointStore) -> None:
    for number in (5, 10, 15):
        store.write(state(number), identity())
    assert sorted(path.name for path in store.folder.iterdir()) == [
        "round-000010.checkpoint",
        "round-000015.checkpoint",
    ]
    store.remove()
    assert not store.folder.exists()
    assert store.rounds() == []


def test_a_damaged_one_falls_back(store: CheckpointStore) -> None:
    store.write(state(5), identity())
    path = store.write(state(10), identity())
    path.write_bytes(path.read_bytes()[:-1])
    found, _, wrong = store.latest()
    assert found.round == 5
    assert wrong == [f"{path}: damaged: its SHA-256 is not the one it was written with"]
    store.path(5).write_bytes(b"")
    with pytest.raises(ModelError, match="no checkpoint is whole"):
        store.latest()


def test_a_whole_one_is_never_given_up_for_a_damaged_one(store: CheckpointStore) -> None:
    store.write(state(10), identity())
    store.write(state(20), identity()).write_bytes(b"damaged")
    assert store.latest()[0].round == 10
    store.write(state(15), identity())
    assert store.rounds() == [15, 10]
    store.write(state(25), identity())
    assert store.rounds() == [25, 15]


def test_a_new_folder_reaches_the_disk(tmp_path: Path) -> None:
    synced: list[Path] = []
    store = CheckpointStore(tmp_path / "late", synced.append)
    store.write(state(5), identity())
    assert synced == [store.folder, store.folder.parent]
    store.write(state(10), identity())
    assert synced[2:] == [store.folder]


def test_nothing_to_resume(store: CheckpointStore) -> None:
    with pytest.raises(ModelError, match=r"nothing to resume: no checkpoint in .*late\.checkpoints"):
        store.latest()


@pytest.mark.parametrize("place", range(0, 500, 7))
def test_every_flipped_byte_is_seen(place: int) -> None:
    content = bytearray(encode(state(3), identity()))
    content[place % len(content)] ^= 1
    with pytest.raises(ModelError):
        decode(bytes(content))


@given(st.binary(max_size=300))
def test_any_bytes(content: bytes) -> None:
    for whole in (content, checkpoint.MAGIC + content, checkpoint.MAGIC_1 + content):
        with pytest.raises(ModelError):
            decode(whole)


@pytest.mark.parametrize(
    "fields",
    [{"round": -1}, {"round": 2}, {"best_round": 9}, {"best": "x"}, {"history": []}, {"round_seconds": ["a"] * 3}],
)
def test_a_right_hash_is_not_enough(fields: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="damaged"):
        decode(encode(dataclasses.replace(state(3), **fields), identity()))


def test_a_full_disk_leaves_what_was_there(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(state(5), identity())

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.write(state(10), identity())
    monkeypatch.undo()
    assert [path.name for path in store.folder.iterdir()] == ["round-000005.checkpoint"]
    assert store.latest()[0].round == 5


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("training.seed=1", "training.seed was 0, now 1"),
        ("data.target=z", 'data.target was "y", now "z"'),
        ("training.params.max_depth=3", "training.params.max_depth was 6, now 3"),
        ("preprocess.max_levels=9", "preprocess.max_levels was 254, now 9"),
    ],
)
def test_what_is_not_the_same_is_named(setting: str, said: str) -> None:
    assert said in identity().differences(identity(setting))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["training.params.max_depth=3"], ["training.params.max_depth was 6, now 3"]),
        (["training.monotone.x=1"], ["training.monotone.x was none, now 1"]),
        (["data.validation.share=0.2"], ["data.validation.share was none, now 0.2"]),
        (["data.derive.z='x > 1'"], ['data.derive.z was none, now "x > 1"']),
    ],
)
def test_a_table_that_was_empty_is_not_named_with_its_fields(settings: list[str], said: list[str]) -> None:
    assert identity().differences(identity(*settings)) == said
    back = [f"{name} was {now}, now {was}" for name, was, now in (re.split(" was |, now ", text) for text in said)]
    assert identity(*settings).differences(identity()) == back


@pytest.mark.parametrize(
    "setting",
    [
        "training.params.eta=0.1",
        "training.params.learning_rate=0.1",
        "training.params.max_depth=6",
        "training.params.colsample_bynode=0.5",
    ],
)
def test_a_parameter_that_is_given_its_default_is_no_difference(setting: str) -> None:
    assert identity(setting).differences(identity()) == identity().differences(identity(setting)) == []


def test_two_names_of_one_parameter_are_one() -> None:
    one, other = identity("training.params.reg_alpha=2"), identity("training.params.alpha=2")
    assert one.differences(other) == []
    assert one.differences(identity()) == ["training.params.alpha was 2, now 0"]


def test_a_changed_default_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    then, named = identity(), identity("training.params.eta=0.1")
    monkeypatch.setattr(parameters, "LEARNING_RATE", 0.2)
    assert then.differences(identity()) == named.differences(identity()) == ["training.params.eta was 0.1, now 0.2"]
    assert then.differences(identity("training.params.eta=0.1")) == []


def test_what_the_target_decided_is_compared_once_it_is_known() -> None:
    then = identity().with_features("count:poisson", "{}", [], {})
    assert then.differences(identity()) == then.differences(identity("training.objective=count:poisson")) == []
    for now in (identity("training.objective=reg:gamma"), identity().with_features("reg:gamma", "{}", [], {})):
        assert then.differences(now) == ['training.objective was "count:poisson", now "reg:gamma"']


def test_the_bound_of_category_splits_is_compared_once_it_is_known() -> None:
    """A checkpoint of an earlier version has XGBoost's default; one of today what the rows have decided."""
    name = "training.params.max_cat_threshold"
    then = identity(f"{name}=64")  # as earlier versions wrote it
    bound = identity().with_features("reg:gamma", "{}", [], {"max_cat_threshold": 5})
    assert then.differences(identity()) == []
    assert then.with_features("reg:gamma", "{}", [], {}).differences(bound) == [f"{name} was 64, now 5"]
    assert bound.differences(identity()) == bound.differences(bound) == []
    assert bound.differences(identity().with_features("reg:gamma", "{}", [], {})) == [f"{name} was 5, now 64"]
    assert bound.differences(identity(f"{name}=64")) == [f"{name} was 5, now 64"]


def test_what_an_old_checkpoint_does_not_say_of_the_target() -> None:
    """Format 1 has the word of the job: "auto" is what it was, and an objective that is named is another."""
    then = dataclasses.replace(identity(), features=identity().with_features("", "{}", [], {}).features)
    assert then.differences(identity()) == then.differences(identity().with_features("reg:gamma", "{}", [], {})) == []
    named = identity("training.objective=reg:gamma")
    assert then.differences(named) == ['training.objective was "auto", now "reg:gamma"']


def test_a_later_format_is_refused(store: CheckpointStore) -> None:
    path = store.write(state(5), identity())
    path.write_bytes(path.read_bytes().replace(b"checkpoint 2", b"checkpoint 3", 1))
    with pytest.raises(ModelError, match="not a checkpoint of this version or an earlier one"):
        store.read(5)


def test_quantiles_that_were_ignored_are_no_difference() -> None:
    assert identity("training.quantiles=[0.5]").differences(identity()) == []
    objective = "training.objective=reg:quantileerror"
    assert identity(objective, "training.quantiles=[0.5]").differences(identity(objective)) == [
        "training.quantiles was [0.5], now []"
    ]


def test_a_table_in_place_of_a_value_is_named() -> None:
    balanced, by_name = identity("training.class_weights=balanced"), identity("training.class_weights.yes=2.0")
    assert balanced.differences(by_name) == [
        'training.class_weights was "balanced", now none', "training.class_weights.yes was none, now 2.0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "setting",
    [
        "training.rounds=7",
        "training.checkpoint_seconds=1.0",
        "cluster.workers=3",
        "data.source=elsewhere",
        "output.report=false",
    ],
)
def test_what_may_differ(setting: str) -> None:
    assert identity().differences(identity(setting)) == []


def test_files_that_differ_are_named() -> None:
    before = dataclasses.replace(identity(), files=({"a.csv": "1", "b.csv": "2"}, {"v.csv": "3"}))
    now = {"a.csv": "9", **{f"new{number}.csv": "0" for number in range(7)}}
    after = dataclasses.replace(before, data=("x",), files=(now, {"v.csv": "3"}))
    _, back = decode(encode(state(3), before))
    (said,) = back.differences(after)
    named = ", ".join(f"new{number}.csv" for number in range(5))
    assert said == f"the data differ: changed: a.csv; removed: b.csv; added: {named} and 2 more"
    (said,) = back.differences(dataclasses.replace(after, files=()))
    assert said == "the data differ: files were changed, added or removed"


def test_of_very_many_files_none_is_kept() -> None:
    job = Job.parse(JOB)
    assert Identity.of(job, ("abc",), "cpu", TRAINER, ({"a": "1", "b": "2"},), most_files=2).files == (
        {"a": "1", "b": "2"},
    )
    assert Identity.of(job, ("abc",), "cpu", TRAINER, ({"a": "1", "b": "2"}, {"c": "3"}), most_files=2).files == ()


def test_other_data_device_or_features() -> None:
    here = identity().with_features("reg:squarederror", "{}", [], {})
    for field, value in {
        "data": ("x",),
        "device": "cuda",
        "versions": {"xgboost": "9"},
        "trainer": "other",
        "features": "f",
    }.items():
        assert len(here.differences(dataclasses.replace(here, **{field: value}))) == 1
    assert here.differences(identity()) == []  # the features are not known yet
