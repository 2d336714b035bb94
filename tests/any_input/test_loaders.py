"""Loaders of what comes from outside: anything becomes an object that can be used, or one line that says what is wrong."""

import dataclasses
import functools
import hashlib
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from benchmarks.local_preparation import Ready, prepare
from pipeline.config.job import Job
from pipeline.errors import JobError, ModelError, UserError
from pipeline.inference.predict import open_for
from pipeline.model.artifact import Model
from pipeline.model.assemble import ManifestInput, make_manifest
from pipeline.model.inference import features
from pipeline.model.manifest import FORMAT_VERSION, Manifest, dump
from pipeline.preprocess.apply import matrix
from pipeline.preprocess.recipe import Recipe
from pipeline.training import checkpoint
from pipeline.training.identity import Identity
from pipeline.training.state import State
from tests.any_input.documents import JSON, damaged, mutated, toml
from tests.any_input.effort import outcome, trying

JOB: dict[str, Any] = {
    "data": {
        "source": ["a.parquet", "b/"],
        "format": "parquet",
        "target": "y",
        "positive": "yes",
        "weight": "w",
        "id": ["i"],
        "exclude": ["x*"],
        "validation": {"column": "month", "values": [11, 12]},
        "derive": {"z": "x > 1"},
        "where": "x IS NOT NULL",
        "csv": {"separator": ";", "missing": ["-"], "header": False, "columns": ["a", "b"]},
    },
    "preprocess": {"columns": {"c": {"clip": [0, 1.5], "impute": "mean", "indicator": True}}, "max_levels": 20},
    "training": {
        "rounds": 10,
        "metrics": ["auc"],
        "class_weights": {"yes": 2.0},
        "monotone": {"c": 1},
        "interactions": [["c", "d"]],
        "quantiles": [0.5],
        "params": {"max_depth": 3},
    },
    "cluster": {"memory": "4GiB", "workers": 2, "security": {"ca_file": "a", "cert_file": "b", "key_file": "c"}},
    "output": {"model": "m", "report": False},
    "alarm": [{"when": "pe < 0.6 for 60s"}, {"when": "restarts > 2", "do": "post", "url": "http://127.0.0.1:9/a"}],
}
DEEP = 100_000
ENCODINGS = ("number", "indicator", "codes", "target", "frequency", "hash", "time")
TABLE = pa.table(
    {
        "x": pa.array(np.linspace(0, 1, 60).astype(np.float32), mask=np.arange(60) % 9 == 0),
        "c": ["a", "b", "c", None, "b"] * 12,
        **{name: [f"level {number}" for number in range(30)] * 2 for name in ("many", "more", "most")},
        "t": pa.array(range(0, 60 * 90_000, 90_000), pa.timestamp("s")),
        "y": ["no", "yes"] * 30,
    }
)


@functools.cache
def ready() -> Ready:
    """One of every kind of feature."""
    columns = {
        "x": {"impute": 0.5, "indicator": True, "clip": [0.1, 0.9], "standardise": True},
        "many": {"encoding": "target"},
        "more": {"encoding": "frequency"},
        "most": {"encoding": "hash"},
    }
    job = {"data": {"source": "x", "target": "y"}, "preprocess": {"columns": columns}}
    return prepare(Job.parse(job), TABLE)


@functools.cache
def manifest() -> Manifest:
    known = ready()
    done = ManifestInput(
        known.target, known.fitted.recipe, 2, 2, {"train": 60, "dropped": {}}, datetime(2026, 1, 2, tzinfo=UTC)
    )
    return make_manifest(known.inputs, known.inputs.job, done)


# jobs


def test_the_job_that_is_changed_is_right() -> None:
    assert Job.parse(JOB).training.rounds == 10


def check_job(result: Job | UserError) -> None:
    if isinstance(result, UserError):
        assert isinstance(result, JobError)
    else:
        assert Job.model_validate(result.model_dump(mode="json")) == result


@trying(300)
@given(table=mutated(JOB) | st.dictionaries(st.text(max_size=5), JSON, max_size=3))
def test_any_table_is_a_job_or_refused(table: dict[str, Any]) -> None:
    check_job(outcome(lambda: Job.parse(table), 5))


@trying(300)
@given(
    content=damaged(toml(JOB).encode())
    | mutated(JOB).map(lambda table: toml(table).encode("utf-8", "replace"))
    | st.binary()
)
@example(content=b"a = " + b"[" * DEEP)
@example(content=b"a = " + b"1" * 5_000)
@example(content=b"[data]\nsource = 1979-05-27T07:32:00Z\ntarget = 07:32:00\n")
@example(content=b"data = 3")
@example(content=b"[data]\nsource = '~nobody/x'\n[data.validation]\nsource = [[], 3, ['x']]")
@example(content=b"[data]\nsource = 'a\\u0000b'\n".replace(b"'", b'"'))
@example(content=b"\xff\xfe[\x00d\x00")
def test_any_file_is_a_job_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.toml"
        path.write_bytes(content)
        check_job(outcome(lambda: Job.load(path), 5))


FIELDS = [
    "data.target",
    "data",
    "data.validation",
    "training.params.max_depth",
    "preprocess.columns.c.clip",
    "training.rounds",
    'data.derive."a.b"',
]


@trying(200)
@given(
    settings=st.lists(
        st.text(max_size=12) | st.builds("{}={}".format, st.sampled_from(FIELDS), st.text(max_size=6) | st.sampled_from(["[1, 2]", "{", "{}", "{a=1}", "'x", "1e999", "nan", "true", "1\n[x]", "0x" + "f" * 5_000, "9" * 5_000])),
        min_size=1,
        max_size=3,
    )
)  # fmt: skip
@example(settings=["[[training]]=3"])
@example(settings=["training.rounds\n=3"])
@example(settings=["a.b = 1\n.c=3"])
@example(settings=["data.target=" + "[" * DEEP])
@example(settings=["data." * DEEP + "x=1"])
def test_any_setting_is_taken_or_refused(settings: list[str]) -> None:
    check_job(outcome(lambda: Job.parse(JOB, settings=settings), 5))


# models


def sealed(document: Any) -> bytes:
    """A manifest with the hash of all else that it holds, as `render` writes it."""
    if not isinstance(document, dict):
        return dump(document)
    document = {key: value for key, value in document.items() if key not in ("format_version", "sha256")}
    document = {"format_version": FORMAT_VERSION, "sha256": "", **document}
    return dump({**document, "sha256": hashlib.sha256(dump(document)).hexdigest()})


def test_the_manifest_that_is_changed_is_right() -> None:
    content = manifest().render()
    assert sealed(json.loads(content)) == content
    assert Manifest.parse(content, "m") == manifest()


@trying(300)
@given(
    content=mutated(json.loads(manifest().render())).map(sealed)
    | damaged(manifest().render())
    | JSON.map(dump)
    | st.binary()
)
@example(content=b"[" * DEEP)
@example(content=b'{"format_version": ' + b"9" * 5_000 + b"}")
@example(content=b'{"format_version": true}')
def test_any_manifest_can_be_used_or_is_refused(content: bytes) -> None:
    found = outcome(lambda: Manifest.parse(content, "manifest.json"), 5)
    if isinstance(found, UserError):
        assert isinstance(found, ModelError)
        return
    assert found.render() == content


def test_the_recipe_that_is_changed_is_right() -> None:
    recipe = ready().fitted.recipe
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert {feature.encoding for feature in recipe.features} == set(ENCODINGS)


@trying(300)
@given(
    text=mutated(json.loads(ready().fitted.recipe.to_json())).map(lambda document: dump(document).decode())
    | damaged(ready().fitted.recipe.to_json().encode()).map(lambda content: content.decode("utf-8", "replace"))
    | JSON.map(lambda document: dump(document).decode())
    | st.text()
)
@example(text="[" * DEEP)
@example(text='{"format": "pipeline-recipe", "version": "1"}')
def test_any_recipe_makes_features_or_is_refused(text: str) -> None:
    found = outcome(lambda: Recipe.from_json(text), 5)
    if isinstance(found, UserError):
        assert isinstance(found, ModelError)
        return
    made = outcome(lambda: matrix(found, TABLE), 5)
    if not isinstance(made, UserError):
        assert made.shape == (TABLE.num_rows, len(found.features))
        assert Recipe.from_json(found.to_json()) == found


RECIPE_JSON = ready().fitted.recipe.to_json().encode()
RIGHT = json.loads(manifest().render())


@trying(200)
@given(
    recipe=st.just(RECIPE_JSON) | mutated(json.loads(RECIPE_JSON)).map(dump) | st.binary(max_size=20),
    metrics=st.just(b"{}") | JSON.map(dump) | st.binary(max_size=20),
    told=st.just(RIGHT) | mutated(RIGHT),
)
@example(recipe=RECIPE_JSON, metrics=b"[" * DEEP, told=RIGHT)
@example(recipe=RECIPE_JSON, metrics=b"3", told=RIGHT)
@example(recipe=RECIPE_JSON, metrics=b"\xff", told=RIGHT)
@example(recipe=RECIPE_JSON, metrics=b"{}", told={**RIGHT, "columns": [{"name": "x", "type": "timestamp[us"}]})
@example(recipe=RECIPE_JSON, metrics=b"{}", told={**RIGHT, "job": {}})
@example(recipe=RECIPE_JSON, metrics=b"{}", told={**RIGHT, "features": []})
def test_a_model_whose_hashes_are_right_may_still_be_someone_elses(recipe: bytes, metrics: bytes, told: Any) -> None:
    with tempfile.TemporaryDirectory() as parent:
        files = {"model.ubj": b"trees", "recipe.json": recipe, "metrics.json": metrics}
        for name, content in files.items():
            (Path(parent) / name).write_bytes(content)
        entries = {name: {"sha256": hashlib.sha256(b).hexdigest(), "size": len(b)} for name, b in sorted(files.items())}
        (Path(parent) / "manifest.json").write_bytes(sealed({**told, "files": entries}))
        found = outcome(lambda: Model.load(parent), 5)
        if isinstance(found, UserError):
            assert isinstance(found, ModelError)
            return
        assert isinstance(found.metrics, dict)
        assert found.recipe.names == tuple(feature.name for feature in found.manifest.features)
        outcome(lambda: features(found, TABLE), 5)
        source = outcome(lambda: open_for(found, TABLE), 5)
        if not isinstance(source, UserError):
            assert source.rows == TABLE.num_rows


# checkpoints

IDENTITY = Identity(
    {"training.rounds": 3, "data.target": "y"},
    ("ab", "cd"),
    "cpu",
    "xgboost",
    {"xgboost": "3.4.1"},
    "ef",
)
STATE = State(2, b"trees", {"validation.auc": [0.5, 0.75]}, [0.1, 0.1], 1, 0.75)
CONTENT = checkpoint.encode(STATE, IDENTITY)


def signed(header: Any, content: bytes = b"trees", magic: bytes = checkpoint.MAGIC) -> bytes:
    """A checkpoint with any header and the right hash."""
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    body = len(text).to_bytes(8, "big") + text + content
    return magic + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def header() -> Any:
    start = len(checkpoint.MAGIC) + 65
    size = int.from_bytes(CONTENT[start : start + 8], "big")
    return json.loads(CONTENT[start + 8 : start + 8 + size])


def old(header: Any) -> bytes:
    """A checkpoint of format 1."""
    return signed(header, magic=checkpoint.MAGIC_1)


OLD = header()
OLD["identity"]["xgboost"], OLD["booster_nbytes"] = "3.4.1", 5
for _name in ("trainer", "versions"):
    del OLD["identity"][_name]


def test_the_checkpoint_that_is_changed_is_right() -> None:
    state, identity = checkpoint.decode(old(OLD))
    assert state == dataclasses.replace(STATE, content=(5).to_bytes(8, "big") + b"trees")
    assert identity == IDENTITY
    assert signed(header()) == CONTENT
    assert checkpoint.decode(CONTENT) == (STATE, IDENTITY)


@trying(300)
@given(
    content=mutated(header()).map(signed)
    | damaged(CONTENT)
    | JSON.map(signed)
    | st.binary()
    | st.binary().map(signed)
    | mutated(OLD).map(old)
    | JSON.map(old)
    | st.binary().map(old)
)
@example(content=signed(b"[" * DEEP))
@example(content=signed(b"{}", b""))
@example(content=signed(b"9" * 5_000))
@example(content=old({**OLD, "booster_nbytes": 6}))
@example(content=old({**OLD, "booster_nbytes": -1}))
def test_any_checkpoint_can_be_used_or_is_refused(content: bytes) -> None:
    found = outcome(lambda: checkpoint.decode(content), 5)
    if isinstance(found, UserError):
        assert isinstance(found, ModelError)
        return
    state, identity = found
    assert checkpoint.decode(checkpoint.encode(state, identity)) is not None
    assert all(isinstance(line, str) for line in identity.differences(IDENTITY))
    assert 0 <= state.best_round <= state.round == len(state.round_seconds)


@pytest.mark.parametrize("place", range(0, len(CONTENT), 7))
def test_a_flipped_byte_of_a_checkpoint_is_refused(place: int) -> None:
    content = bytearray(CONTENT)
    content[place] ^= 1
    with pytest.raises(ModelError):
        checkpoint.decode(bytes(content))
