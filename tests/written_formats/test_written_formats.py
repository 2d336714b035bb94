"""Files that earlier versions have written are read, with the contents they had.

A file of these folders is never changed to make a test pass: a program that cannot read it cannot read what users
have.  README.md says which version wrote what, and how.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import xgboost

import pipeline
from pipeline.data.schema.target import Target
from pipeline.efficiency import records
from pipeline.efficiency.machine import Machine
from pipeline.events import recording
from pipeline.events import types as events
from pipeline.model.artifact import Model
from pipeline.preprocess.features import Category, Frequency, Hash, Levels, Number, TargetEncoding, TimePart
from pipeline.scaling import calibration
from pipeline.training.checkpoint import CheckpointStore, decode
from pipeline.training.xgboost.model_bytes import unpack
from tests.written_formats.make import EVERY_EVENT, ROUNDS, RUN, job_of

HERE = Path(__file__).parent / "november_2026"
MODELS = [HERE / "model", HERE.with_name("manifest_3") / "model"]
CHECKPOINTS = [folder / f"round-{ROUNDS:06}.checkpoint" for folder in (HERE, HERE.with_name("checkpoint_2"))]
LARGEST_NBYTES = 100_000
LOGLOSS = [0.520810736, 0.4933363869, 0.4890989945, 0.4806133329]  # of the validation rows, by round
PREDICTED = [0.06236564368, 0.06236564368, 0.94102251530, 0.45922499895, 0.56526833773]  # for the first rows


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    return Model.load(request.param, threads=1)


def test_the_files_are_small() -> None:
    assert max(path.stat().st_size for path in HERE.parent.rglob("*") if path.is_file()) < LARGEST_NBYTES


def test_the_manifest_of_a_model(model: Model) -> None:
    manifest = model.manifest
    assert manifest.target == Target("late", "binary", "binary:logistic", ("no", "yes"), (189, 211))
    assert (manifest.roles.weight, manifest.roles.id, manifest.roles.group) == ("weight", ("id",), None)
    assert manifest.derivation.derive == (("double", "amount * 2"),)
    assert {column.name: column.type for column in manifest.columns} == {
        "id": "int64", "amount": "double", "level": "string", "town": "string", "shop": "string", "street": "string",
        "hour": "timestamp[ms]", "weight": "double", "late": "string",
    }  # fmt: skip
    assert (manifest.rounds, manifest.best_round) == (ROUNDS, ROUNDS)
    assert manifest.rows == {"train": 314, "validation": 86, "dropped": {}}
    assert manifest.job["data"]["source"] == "rows.parquet"
    assert manifest.versions["xgboost"] == "3.4.1"
    assert [feature.type for feature in manifest.features] == ["q", "q", "c", "q", "q", "c", "q", "q", "q", "q"]
    assert model.sha256 == "5b34ce9ef4b3fd0a67b1ddc9a205da8fb81d91a14586729edd01ef940f6d3f9d"


def test_the_recipe_of_a_model(model: Model) -> None:
    assert (model.recipe.seed, model.recipe.folds, model.recipe.dropped) == (5, 5, {})
    assert [(feature.name, feature.column, feature.encoding) for feature in model.recipe.features] == [
        ("amount", "amount", "number"),
        ("amount.missing", "amount", "indicator"),
        ("level", "level", "codes"),
        ("town", "town", "target"),
        ("shop", "shop", "frequency"),
        ("street", "street", "hash"),
        ("hour.weekday", "hour", "time"),
        ("hour.hour", "hour", "time"),
        ("hour.epoch", "hour", "time"),
        ("double", "double", "number"),
    ]
    amount, _, level, town, shop, street, _, _, epoch, _ = model.recipe.features
    assert amount == Number(
        name="amount", column="amount", impute=-0.02707581227436823, clip=(-100.0, 100.0), log1p=True,
        standardise=(0.10524148967588723, 3.9908453425088073),
    )  # fmt: skip
    assert level == Category(name="level", column="level", levels=Levels(("east", "north", "south", "west")))
    assert isinstance(town, TargetEncoding)
    assert (town.levels.names[:2], town.values[:2], town.prior) == (
        ("town 0", "town 1"), (0.41455868, 0.45342356), 0.5254777,
    )  # fmt: skip
    assert isinstance(shop, Frequency)
    assert (len(shop.levels), shop.values[0]) == (30, 0.022292994)
    assert street == Hash(name="street", column="street", bins=16)
    assert epoch == TimePart(name="hour.epoch", column="hour", part="epoch", origin=1_704_067_200)


def test_what_the_third_manifest_has_more() -> None:
    """The cuts are those that were trained with: with the recipe they have the hash that a checkpoint has of both."""
    second, third = (Model.load(path) for path in MODELS)
    assert [model.manifest.trainer for model in (second, third)] == ["xgboost", "xgboost"]
    assert second.cuts() is None
    cuts = third.cuts()
    assert cuts is not None
    assert cuts.levels == (None, None, 4, None, None, 16, None, None, None, None)
    _, identity = decode(CHECKPOINTS[1].read_bytes())
    recipe = (MODELS[1] / "recipe.json").read_text(encoding="utf-8")
    assert identity.with_features("", recipe, cuts.points, {}).features == identity.features


def test_a_model_predicts(model: Model) -> None:
    assert model.metrics["validation"]["logloss"] == 0.48061333393364747
    rows = pq.read_table(HERE / "rows.parquet").slice(0, 5)
    np.testing.assert_allclose(model.predict(rows), PREDICTED, rtol=1e-6)


@pytest.mark.parametrize("path", CHECKPOINTS)
def test_a_checkpoint(path: Path) -> None:
    state, identity = decode(path.read_bytes())
    assert (state.round, state.best_round, state.stopped) == (ROUNDS, ROUNDS, False)
    booster, best = unpack(state.content)
    assert xgboost.Booster(model_file=bytearray(booster)).num_boosted_rounds() == ROUNDS
    assert best == b""
    assert (state.history["validation.logloss"], state.best) == (LOGLOSS, LOGLOSS[-1])
    assert len(state.round_seconds) == ROUNDS
    assert (identity.device, identity.trainer, identity.versions) == ("cpu", "xgboost", {"xgboost": "3.4.1"})
    assert identity.job["training.row_sample"] == 0.75
    assert identity.data == ("578e9bc0198cbcf8add1a8995c11dc01398eb0bc3f728d02a7f6a32e16e42bef",)
    assert identity.files == ({"rows.parquet": "06fcb255d136cead"},)
    assert identity.features == "6997146d57468c9f8ee2e95320eb715562d0680260ac9fd62b0921be252340bb"


def test_what_the_second_format_has_more() -> None:
    first, second = (decode(path.read_bytes())[1] for path in CHECKPOINTS)
    assert [one.job["training.objective"] for one in (first, second)] == ["auto", "binary:logistic"]
    assert "training.params.gamma" not in first.job
    assert second.job["training.params.gamma"] == 0


@pytest.mark.parametrize("path", CHECKPOINTS)
def test_a_checkpoint_is_resumed(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """With the installed XGBoost, whose version decides too."""
    state, identity = decode(path.read_bytes())
    folder = tmp_path / "resumed"
    CheckpointStore(folder).write(state, dataclasses.replace(identity, versions={"xgboost": xgboost.__version__}))
    monkeypatch.chdir(HERE)
    more = f"training.rounds={ROUNDS + 3}", "training.params.colsample_bynode=1"  # XGBoost's default was ours then
    heard: list[events.Event] = []
    resumed = pipeline.train(client, job_of("rows.parquet", str(folder), *more), resume=folder, listen=heard.append)
    whole = pipeline.train(client, job_of("rows.parquet", str(tmp_path / "whole"), *more))
    assert resumed.model.booster_bytes == whole.model.booster_bytes
    assert [event.round for event in heard if isinstance(event, events.Restarted)] == [ROUNDS]


def test_recorded_events() -> None:
    read = list(recording.read(HERE / "events.jsonl"))
    assert {run for run, _ in read} == {"df148cbaf02f"}
    assert [json.loads(recording.line_of(run, event))["event"]["event"] for run, event in read] == [
        "Started", "Asked", "FragmentDone", "Planned", "FragmentDone", "StatisticsDone", "FragmentDone", "BlocksDone",
        "MatrixDone", "Placed", "RoundDone", "RoundDone", "Checkpoint", "RoundDone", "WorkerRounds", "Checkpoint",
        "Evaluated", "Saved",
    ]  # fmt: skip
    (planned,) = (event for _, event in read if isinstance(event, events.Planned))
    assert (planned.rows, planned.features, planned.workers, planned.threads) == (400, 7, 1, 1)
    last = [event for _, event in read if isinstance(event, events.RoundDone)][-1]
    assert (last.round, last.rounds, last.best_round) == (ROUNDS, ROUNDS, ROUNDS)
    assert last.metrics == {"validation.auc": 0.8788122284, "validation.logloss": LOGLOSS[-1]}
    (saved,) = (event for _, event in read if isinstance(event, events.Saved))
    assert saved.sha256 == Model.load(HERE / "model").sha256


def test_an_event_of_each_kind() -> None:
    read = list(recording.read(HERE / "every_event.jsonl"))
    assert read == [(RUN, event) for event in EVERY_EVENT]
    lines = (HERE / "every_event.jsonl").read_text(encoding="utf-8").splitlines()
    written = {json.loads(line)["event"]["event"] for line in lines}
    assert len(written) == 20
    assert written <= events.KINDS.keys()


def test_a_scaling_result() -> None:
    result = records.read(HERE / "scaling.json")
    assert holds(result.to_dict(), json.loads((HERE / "scaling.json").read_text(encoding="utf-8")))
    assert result.name == "synthetic, 4,000 rows x 8 features, depth 4, binary"
    assert [(point.configuration.mode, point.configuration.workers) for point in result.points] == [
        ("strong", 1),
        ("strong", 2),
    ]
    two = result.point("strong", 2)
    assert two is not None
    assert two.configuration.rows == (2_000, 2_000)
    assert [sample.repetition for sample in two.samples] == [0, 1]
    assert two.samples[0].seconds == 0.002896867667004699
    assert two.samples[0].figures.PE == 0.20268429231962554
    assert two.predicted is not None
    assert [single.rows for single in result.singles] == [4_000]


def test_a_calibration() -> None:
    machine = calibration.load(HERE / "calibration.json")
    assert machine is not None
    written = json.loads((HERE / "calibration.json").read_text(encoding="utf-8"))
    assert holds(json.loads(json.dumps(machine.to_dict())), written)
    assert machine.collectives.keys() == {2}
    assert Machine.from_dict(records.read(HERE / "scaling.json").calibration) == machine


def holds(value: Any, written: Any) -> bool:
    """Whether a value has all that was written; of mappings there may be more, for later versions may add fields."""
    if isinstance(written, Mapping):
        return all(name in value and holds(value[name], item) for name, item in written.items())
    if isinstance(written, Sequence) and not isinstance(written, str):
        return len(value) == len(written) and all(map(holds, value, written))
    return bool(value == written)
