"""Model folders: whole or not there, and believed only byte for byte as written."""

import dataclasses
import errno
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import xgboost

from pipeline.errors import JobError, ModelError, OutputError, PipelineError
from pipeline.model import artifact
from pipeline.model.artifact import Model, ModelParts, save
from pipeline.model.folder import claim_folder, is_model_folder
from pipeline.model.manifest import FORMAT_VERSION, FileEntry, Manifest, dump
from pipeline.preprocess.bins import Cuts
from pipeline.storage import atomic
from tests.models import flights


@pytest.fixture
def copy(make_model, tmp_path):
    """A copy of the binary model's folder that a test may spoil."""
    return shutil.copytree(make_model("binary").path, tmp_path / "copy")


def test_a_model_comes_back_as_it_was(make_model):
    model = make_model("binary")
    back = Model.load(model.path)
    assert back.manifest == model.manifest
    assert back.recipe == model.recipe
    assert back.metrics == {"train": {"auc": 0.5}}
    assert back.booster_bytes == model.booster_bytes
    assert len(back.sha256) == 64
    table = flights(100, seed=1)
    assert np.array_equal(back.predict(table), model.predict(table))


def test_every_file_of_the_folder_is_in_the_manifest(make_model):
    model = make_model("binary")
    files = {str(path.relative_to(model.path)) for path in model.path.rglob("*") if path.is_file()}
    assert files == set(model.manifest.files) | {"manifest.json"}
    assert not [path for path in model.path.parent.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", ["model.ubj", "recipe.json", "metrics.json", "MODEL_CARD.md", "manifest.json"])
@pytest.mark.parametrize("share", [0.0, 0.37, 0.999])
def test_one_flipped_byte_is_refused_before_xgboost_sees_it(copy, name, share, monkeypatch):
    path = copy / name
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 1
    path.write_bytes(content)
    monkeypatch.setattr(xgboost, "Booster", None)
    with pytest.raises(ModelError, match=name):
        Model.load(copy)


def test_a_shortened_a_longer_and_a_missing_file_are_refused(copy):
    path = copy / "model.ubj"
    content = path.read_bytes()
    for spoilt in (content[:-1], content + b"\0"):
        path.write_bytes(spoilt)
        with pytest.raises(ModelError, match=r"model.ubj: damaged: \d+ bytes"):
            Model.load(copy)
    path.unlink()
    with pytest.raises(ModelError, match=r"model\.ubj is missing"):
        Model.load(copy)


def test_no_folder_and_no_model_folder(tmp_path):
    with pytest.raises(ModelError, match="no such model folder"):
        Model.load(tmp_path / "nothing")
    with pytest.raises(ModelError, match="not a model folder"):
        Model.load(tmp_path)


def test_what_is_no_path_is_refused_with_what_to_pass(make_model):
    for given, kind in ((None, "NoneType"), (3, "int"), ({"a": 1}, "dict"), (make_model("binary"), "Model: it holds")):
        with pytest.raises(ModelError, match=f"Model.load takes the path of a model folder, e.g. .*, not {kind}"):
            Model.load(given)


def test_a_newer_format_is_refused_with_both_numbers(copy):
    path = copy / "manifest.json"
    path.write_text(path.read_text().replace(f'"format_version": {FORMAT_VERSION}', '"format_version": 7', 1))
    with pytest.raises(ModelError, match=f"format version 7, this program reads {FORMAT_VERSION}"):
        Model.load(copy)


def test_a_manifest_of_version_2_is_checked_as_that_version_wrote_it(copy):
    path = copy / "manifest.json"
    path.write_bytes(Manifest.parse(path.read_bytes(), "x").render_version(2))
    assert b'"format_version": 2,' in path.read_bytes()
    assert b"trainer" not in path.read_bytes()
    model = Model.load(copy)
    assert model.manifest.trainer == "xgboost"
    assert model.cuts() is None
    path.write_bytes(path.read_bytes().replace(b'"rounds": 12', b'"rounds": 13'))
    with pytest.raises(ModelError, match="damaged: not as it was written"):
        Model.load(copy)


def test_a_field_of_a_later_version_in_a_manifest_of_version_2_is_refused(copy):
    path = copy / "manifest.json"
    document = json.loads(Manifest.parse(path.read_bytes(), "x").render_version(2))
    path.write_bytes(dump({**document, "trainer": "xgboost"}))
    with pytest.raises(ModelError, match="damaged: not as it was written"):
        Model.load(copy)


def test_a_model_of_an_unknown_trainer_is_refused(copy):
    path = copy / "manifest.json"
    path.write_bytes(dataclasses.replace(Manifest.parse(path.read_bytes(), "x"), trainer="network").render())
    with pytest.raises(ModelError, match="a model of the trainer 'network', this program reads 'xgboost'"):
        Model.load(copy)


def test_cuts_are_checked_again_when_they_are_read(make_model, tmp_path):
    model = make_model("binary")
    levels = tuple(None if feature.type == "q" else 4 for feature in model.manifest.features)
    points = tuple(np.array([1, 2.5] if level is None else [], np.float32) for level in levels)
    saved = save(tmp_path / "m", dataclasses.replace(_parts(model), cuts=Cuts(points, levels)))
    found = Model.load(tmp_path / "m").cuts()
    assert found is not None
    assert found.levels == levels
    assert [list(one) for one in found.points] == [list(one) for one in points]
    path = tmp_path / "m" / "cuts.json"
    path.write_bytes(path.read_bytes().replace(b"2.5", b"2.6"))
    with pytest.raises(ModelError, match=r"cuts\.json: damaged: its SHA-256"):
        saved.cuts()
    with pytest.raises(ModelError, match=r"cuts\.json: damaged: its SHA-256"):
        Model.load(tmp_path / "m")


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/hostname", "a/../../secret", "..\\secret", "C:secret", "a//b", "."]
)
def test_the_manifest_cannot_point_outside(copy, make_model, name):
    (copy.parent / "secret").write_text("x")
    _rewrite(copy, {name: FileEntry("0" * 64, 1)})
    with pytest.raises(ModelError, match="outside the folder"):
        Model.load(copy)


def test_nor_can_a_link(copy):
    secret = copy.parent / "secret"
    secret.write_text("x")
    os.symlink(secret, copy / "innocent")
    _rewrite(copy, {"innocent": FileEntry("2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881", 1)})
    with pytest.raises(ModelError, match="outside the folder"):
        Model.load(copy)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"format_version": "x"}', '{"format_version": 1}', "\xff"])
def test_what_is_no_manifest_is_refused(copy, text):
    (copy / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match=r"manifest\.json: "):
        Model.load(copy)


def test_a_manifest_without_the_booster_is_refused(copy):
    manifest = Manifest.parse((copy / "manifest.json").read_bytes(), "x")
    files = {name: entry for name, entry in manifest.files.items() if name != "model.ubj"}
    _rewrite(copy, files, keep=False)
    with pytest.raises(ModelError, match=r"does not list model\.ubj"):
        Model.load(copy)


def test_an_existing_folder_is_kept_unless_asked_and_only_models_are_replaced(make_model, copy, tmp_path):
    parts = _parts(make_model("binary"))
    before = (copy / "manifest.json").read_bytes()
    with pytest.raises(OutputError, match="--overwrite"):
        save(copy, parts)
    assert (copy / "manifest.json").read_bytes() == before
    save(copy, parts, overwrite=True)
    assert Model.load(copy).metrics == {"validation": {}}
    precious = tmp_path / "photos"
    precious.mkdir()
    (precious / "cat.jpg").write_text("x")
    with pytest.raises(OutputError, match="holds something else"):
        save(precious, parts, overwrite=True)
    assert (precious / "cat.jpg").exists()
    with pytest.raises(OutputError, match="is no folder"):
        save(precious / "cat.jpg", parts, overwrite=True)


def test_a_full_disk_leaves_nothing(make_model, tmp_path, monkeypatch):
    def full(path, content):
        if path.name == "manifest.json":
            raise OSError(28, "No space left on device")
        path.write_bytes(content)

    monkeypatch.setattr(artifact, "write_file", full)
    said = (
        r"model: cannot be written: No space left on device \([\d,]{5,} bytes needed, [\d,]+ bytes free\): make room$"
    )
    with pytest.raises(PipelineError, match=said) as error:
        save(tmp_path / "model", _parts(make_model("binary")))
    assert error.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_a_failed_rename_puts_the_old_model_back(make_model, copy, monkeypatch):
    real = os.rename

    def rename(source, target):
        if str(source).endswith(".partial"):
            raise OSError(5, "Input/output error")
        real(source, target)

    monkeypatch.setattr(atomic.os, "rename", rename)
    with pytest.raises(OutputError, match="Input/output error"):
        save(copy, _parts(make_model("binary")), overwrite=True)
    monkeypatch.undo()
    assert Model.load(copy).metrics == {"train": {"auc": 0.5}}
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


def test_an_unwritable_parent_is_refused_before_training(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="a part of its path is a file"):
        claim_folder(tmp_path / "file" / "model")

    def refused(*_args, **_options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(atomic.tempfile, "mkdtemp", refused)  # tests may run as root, which no mode stops
    with pytest.raises(OutputError, match="cannot be written: Permission denied"):
        claim_folder(tmp_path / "model")


def test_nan_becomes_null_in_the_metrics(make_model, tmp_path):
    parts = ModelParts(
        **{**_parts(make_model("binary")).__dict__, "metrics": {"auc": np.float64("nan"), "n": np.int64(3)}}
    )
    assert save(tmp_path / "m", parts).metrics == {"auc": None, "n": 3}
    assert json.loads((tmp_path / "m" / "metrics.json").read_text()) == {"auc": None, "n": 3}


def test_code_runs_only_when_allowed_and_unchanged(make_model, tmp_path, monkeypatch):
    (tmp_path / "users_own.py").write_text("def same(table):\n    return table\n")
    monkeypatch.syspath_prepend(tmp_path)
    model = make_model("binary")
    derivation = model.manifest.derivation.__class__(
        **{**model.manifest.derivation.__dict__, "function": "users_own:same"}
    )
    manifest = Manifest(**{**model.manifest.__dict__, "derivation": derivation, "function_sha256": "0" * 64})
    save(tmp_path / "m", ModelParts(**{**_parts(model).__dict__, "manifest": manifest}))
    with pytest.raises(JobError, match="--allow-code"):
        Model.load(tmp_path / "m").predict(flights(3))
    with pytest.raises(ModelError, match="has changed"):
        Model.load(tmp_path / "m", allow_code=True)


def test_predicting_imports_no_dask(make_model, tmp_path):
    model = make_model("binary")
    code = (
        "import sys, pyarrow.parquet as pq\n"
        "from pipeline.model.artifact import Model\n"
        f"print(len(Model.load({str(model.path)!r}).predict(pq.read_table({str(tmp_path / 'd.parquet')!r}))))\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'dask', 'distributed', 'bokeh', 'matplotlib'}))"
    )
    pa.parquet.write_table(flights(10), tmp_path / "d.parquet")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=os.getcwd())
    assert done.stdout.split("\n")[:2] == ["10", "[]"]


def _parts(model: Model) -> ModelParts:
    return ModelParts(model.booster_bytes, model.recipe, model.manifest, {"validation": {}}, "# card\n")


def _rewrite(path, files, keep=True):
    """The folder's manifest with other files in it, as its writer would have written it."""
    manifest = Manifest.parse((path / "manifest.json").read_bytes(), "x")
    files = {**(manifest.files if keep else {}), **files}
    (path / "manifest.json").write_bytes(Manifest(**{**manifest.__dict__, "files": files}).render())


@pytest.mark.parametrize("error", [OSError("the scheduler does not answer"), ConnectionResetError(104, "reset")])
def test_a_lost_cluster_is_no_fault_of_the_folder(tmp_path, error):
    with (
        pytest.raises(type(error), match=r"answer|reset"),
        atomic.whole_folder(tmp_path / "made", overwrite=False, ours=is_model_folder),
    ):
        raise error
    assert not list(tmp_path.iterdir())
