"""Nothing in a model folder, a checkpoint, a data file or a job runs code; and what SECURITY.md says is so."""

import ast
import contextlib
import copy
import dataclasses
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
import xgboost

import pipeline
from pipeline.config.job import Job
from pipeline.config.parameters import PARAMETERS
from pipeline.errors import ModelError, PipelineError, TrainingError, UserError
from pipeline.model.artifact import Model
from pipeline.model.manifest import FileEntry, Manifest, dump
from pipeline.training import supervisor
from pipeline.training.checkpoint import CheckpointStore, encode
from pipeline.training.identity import Identity
from tests.planted import module, nothing_unpickled, pickled, texts
from tests.test_layers import MODULES, imports

ROOT = Path(__file__).resolve().parent.parent
SMALL = ("training.rounds=3", "training.params.max_depth=2", "data.validation.share=0.2")
FORMS = len(texts(Path("x")))


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """The file that a payload makes; there must be none in the end."""
    marker = tmp_path / "executed"
    yield marker
    assert not marker.exists()


def table(rows: int = 400) -> pa.Table:
    rng = np.random.default_rng(0)
    x = rng.normal(size=rows)
    return pa.table({"x": x, "carrier": rng.choice(["AA", "UA"], rows), "late": x + rng.normal(size=rows) > 0})


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    pq.write_table(table(), folder / "0.parquet")
    return folder


def job_of(source: object, out: Path, *settings: str) -> Job:
    return Job.parse(
        {"data": {"source": str(source), "target": "late"}, "output": {"model": str(out)}},
        settings=[*SMALL, *settings],
    )


@pytest.fixture(scope="module")
def trained(client: Any, data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model as users have it, with its report and pictures."""
    return pipeline.train(client, job_of(data_folder, tmp_path_factory.mktemp("models") / "late")).model


@pytest.fixture
def folder(trained: Model, tmp_path: Path) -> Path:
    """A copy of the model's folder."""
    return Path(shutil.copytree(trained.path, tmp_path / "late"))


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def replace_file(folder: Path, name: str, content: bytes) -> None:
    """Replaces a file, as an attacker who knows about the hashes would."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    if name != "manifest.json":
        manifest = Manifest.parse((folder / "manifest.json").read_bytes(), "x")
        entry = FileEntry(hashlib.sha256(content).hexdigest(), len(content))
        changed = dataclasses.replace(manifest, files={**manifest.files, name: entry})
        (folder / "manifest.json").write_bytes(changed.render())


def use(folder: Path) -> str:
    """Loads a model, predicts and evaluates with it; what came of that."""
    try:
        with nothing_unpickled():
            model = Model.load(folder)
            model.predict(table(20))
            model.cuts()
            pipeline.evaluate(None, model, table(100))
    except PipelineError as error:
        return one_line(error)
    return "used"


def one_line(error: PipelineError) -> str:
    """Its kind."""
    assert "\n" not in str(error)
    return type(error).__name__


# The means of these tests


def test_the_payloads_work(tmp_path: Path) -> None:
    import base64
    import pickle

    for protocol in (0, 4):
        pickle.loads(pickled(tmp_path / f"protocol {protocol}", protocol))
    by_text = texts(tmp_path / "by text")
    pickle.loads(by_text[0].encode())
    assert {path.name for path in tmp_path.iterdir()} == {"protocol 0", "protocol 4", "by text"}
    for number, text in enumerate((base64.b64decode(by_text[1]), by_text[2])):
        (tmp_path / "by text").unlink()
        pickle.loads(text) if number == 0 else eval(text)
        assert (tmp_path / "by text").exists()
    with pytest.raises(AssertionError), nothing_unpickled():
        pickle.loads(pickled(tmp_path / "seen"))


# Model folders


@pytest.mark.parametrize("hashes", ["wrong", "right"])
def test_a_pickle_in_place_of_any_file(folder: Path, marker: Path, hashes: str) -> None:
    assert use(folder) == "used"
    outcomes = {}
    for name in files_of(folder):
        place = Path(shutil.copytree(folder, folder.with_name("spoilt")))
        if hashes == "right":
            replace_file(place, name, pickled(marker))
        else:
            (place / name).write_bytes(pickled(marker))
        outcomes[name] = use(place)
        shutil.rmtree(place)
    assert len(outcomes) > 8
    if hashes == "wrong":
        assert set(outcomes.values()) == {"ModelError"}
    else:  # what only people read is not read by us
        refused = {name for name, outcome in outcomes.items() if outcome == "ModelError"}
        assert refused == {"manifest.json", "model.ubj", "recipe.json", "metrics.json", "cuts.json"}
        assert {outcomes[name] for name in outcomes.keys() - refused} == {"used"}


def test_files_next_to_the_models_own(folder: Path, marker: Path) -> None:
    for name in ("model.pkl", "manifest.pickle", "recipe.joblib", "model.bin", "extra", ".hidden.pkl"):
        (folder / name).write_bytes(pickled(marker))
        replace_file(folder, f"listed/{name}", pickled(marker))
    for name in ("__init__.py", "conftest.py", "pipeline.py", "xgboost.py", "numpy.py", "sitecustomize.py"):
        (folder / name).write_text(module(marker))
    (folder / "x.pth").write_text(f"import pathlib; pathlib.Path({str(marker)!r}).touch()\n")
    assert use(folder) == "used"


@pytest.mark.parametrize("name", ["recipe.json", "metrics.json", "manifest.json"])
@pytest.mark.parametrize("form", range(FORMS))
def test_every_text_of_a_document(folder: Path, marker: Path, name: str, form: int) -> None:
    """Each text, and each key, in turn replaced by one that some program runs as code."""
    planted = texts(marker)[form]
    original = json.loads((folder / name).read_bytes())
    places = list(leaves(original))
    assert len(places) > 5
    outcomes = set()
    for place in places:
        document = put(original, place, planted)
        if name == "manifest.json":
            document["sha256"] = ""
            document["sha256"] = hashlib.sha256(dump(document)).hexdigest()
            (folder / name).write_bytes(dump(document))
        else:
            replace_file(folder, name, dump(document))
        outcomes.add(use(folder))
    assert outcomes <= {"used", "ModelError", "DataError", "JobError", "SourceError"}


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a document has texts; of long lists only the ends."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for index in {*range(min(2, len(value))), *range(max(0, len(value) - 1), len(value))}:
            yield from leaves(value[index], (*path, index))
    elif isinstance(value, str) or value is None:
        yield path


def put(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(document)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


def test_a_function_of_a_strangers_model_is_not_imported(
    folder: Path, marker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stranger.py").write_text(module(marker))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    manifest = Manifest.parse((folder / "manifest.json").read_bytes(), "x")
    wanting = dataclasses.replace(manifest.derivation, function="stranger:change", allow_code=True)
    replaced = dataclasses.replace(manifest, derivation=wanting, function_sha256="0" * 64)
    (folder / "manifest.json").write_bytes(replaced.render())
    assert "allow_code" not in (folder / "manifest.json").read_text()
    assert use(folder) == "JobError"


OUTSIDE = [
    "../secret", "..", "../late/../secret", "pictures/../../secret", "/etc/hostname", "//etc/hostname", "pictures//x.png",
    "./recipe.json", "", ".", "..\\secret", "pictures\\..\\..\\secret", "\\\\server\\share\\x", "C:\\secret", "C:secret",
    "C:/secret", "secret:stream", "recipe.json\0.png", "\0", "linked", "linked_folder/secret", "chain",
]  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_manifest_names_no_file_outside_its_folder(folder: Path, name: str) -> None:
    content = b"what nobody may read"
    (folder.parent / "secret").write_bytes(content)
    os.symlink(folder.parent / "secret", folder / "linked")
    os.symlink(folder.parent, folder / "linked_folder")
    os.symlink("linked", folder / "chain")
    manifest = Manifest.parse((folder / "manifest.json").read_bytes(), "x")
    entry = FileEntry(hashlib.sha256(content).hexdigest(), len(content))
    changed = dataclasses.replace(manifest, files={**manifest.files, name: entry})
    (folder / "manifest.json").write_bytes(changed.render())
    with pytest.raises(ModelError, match="outside the folder") as caught:
        Model.load(folder)
    assert "\0" not in str(caught.value)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link to itself"])
def test_what_is_no_file_is_not_opened(folder: Path, kind: str) -> None:
    """A pipe would be waited for for ever, a device has no end."""
    for name in ("recipe.json", "manifest.json"):
        place = Path(shutil.copytree(folder, folder.with_name(f"{kind} {name}")))
        (place / name).unlink()
        if kind == "pipe":
            os.mkfifo(place / name)
        elif kind == "device":
            os.symlink("/dev/zero", place / name)
        elif kind == "folder":
            (place / name).mkdir()
        else:
            os.symlink(name, place / name)
        with pytest.raises(ModelError):
            Model.load(place)


def enlarge(folder: Path, name: str, nbytes: int) -> None:
    """Makes a file of so many zeros, which takes no room on the disk, and says so in the manifest."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    with open(folder / name, "wb") as file:
        file.truncate(nbytes)
    if name != "manifest.json":
        manifest = Manifest.parse((folder / "manifest.json").read_bytes(), "x")
        entry = FileEntry("0" * 64, nbytes)
        (folder / "manifest.json").write_bytes(
            dataclasses.replace(manifest, files={**manifest.files, name: entry}).render()
        )


@pytest.mark.parametrize(
    "name", ["model.ubj", "recipe.json", "metrics.json", "cuts.json", "report.html", "pictures/x.png", "MODEL_CARD.md"]
)
def test_a_file_that_is_too_large_for_its_kind_is_not_read(folder: Path, name: str) -> None:
    for nbytes in (1 << 40, (17 if name == "model.ubj" else 2) << 30):
        enlarge(folder, name, nbytes)
        with nothing_read(folder / name), pytest.raises(ModelError, match=f"{name}: {nbytes:,} bytes; .* at most"):
            Model.load(folder)


@pytest.mark.parametrize("name", ["model.ubj", "recipe.json", "metrics.json", "manifest.json"])
def test_a_file_of_zeros_is_not_read_to_its_end(folder: Path, name: str) -> None:
    enlarge(folder, name, 200 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = "at most 67,108,864 bytes of" if name == "manifest.json" else "damaged: no JSON"
    with pytest.raises(ModelError, match=f"{name}: .*{message}"):
        Model.load(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 << 10  # KiB


def test_files_that_are_only_checked_are_not_held(folder: Path) -> None:
    """Their hashes are right, and they are as large as such files may be."""
    rss = psutil.Process().memory_info().rss
    content = bytes(60 << 20)
    for number in range(4):
        replace_file(folder, f"pictures/{number}.png", content)
    del content
    assert Model.load(folder).booster_bytes
    assert psutil.Process().memory_info().rss - rss < 150 << 20


def test_a_large_file_for_a_checkpoint_is_not_read(client: Any, data_folder: Path, interrupted: Path) -> None:
    store = CheckpointStore(interrupted)
    for nbytes, message in ((1 << 40, "at most"), (1 << 30, "not a checkpoint")):
        with open(store.path(9), "wb") as file:
            file.truncate(nbytes)
        with pytest.raises(ModelError, match=message):
            store.read(9)
    assert resume(client, data_folder, interrupted) == "resumed"  # from the one before


@contextlib.contextmanager
def nothing_read(path: Path) -> Iterator[None]:
    """The file was not opened meanwhile: its time of access is as it was, where the disk keeps one."""
    os.utime(path, ns=(1, 1))
    yield
    assert path.stat().st_atime_ns == 1


# Checkpoints


@pytest.fixture
def interrupted(client: Any, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The output folder of a run that ended before its evaluation."""

    def fail(*_: Any) -> Any:
        raise TrainingError("enough")

    with monkeypatch.context() as patch:
        patch.setattr(supervisor, "evaluate", fail)
        with pytest.raises(TrainingError, match="enough"):
            pipeline.train(client, job_of(data_folder, tmp_path / "model", "training.rounds=2"))
    return tmp_path / "model"


def resume(client: Any, data_folder: Path, model: Path, *settings: str) -> str:
    try:
        pipeline.train(client, job_of(data_folder, model, "output.report=false", *settings), resume=model)
    except PipelineError as error:
        return one_line(error)
    return "resumed"


def test_pickles_among_checkpoints(client: Any, data_folder: Path, interrupted: Path, marker: Path) -> None:
    store = CheckpointStore(interrupted)
    for name in (
        "round-000009.checkpoint",
        "round-000008.checkpoint.partial",
        "state.pkl",
        "__init__.py",
        "round-000007",
    ):
        (store.folder / name).write_bytes(pickled(marker))
    assert store.rounds() == [9, 2]
    assert resume(client, data_folder, interrupted) == "resumed"  # from the whole one
    assert not (store.folder / "round-000009.checkpoint").exists()
    assert (store.folder / "state.pkl").exists()  # of another program: neither read nor removed


@pytest.mark.parametrize("form", range(FORMS))
def test_every_text_of_a_checkpoint(client: Any, data_folder: Path, interrupted: Path, marker: Path, form: int) -> None:
    """With its right hash: none is refused for that, and none is run."""
    store = CheckpointStore(interrupted)
    state, identity, _ = store.latest()
    original, planted = dataclasses.asdict(identity), texts(marker)[form]
    with nothing_unpickled():
        for place in leaves(original):
            changed = put(original, place, planted)
            store.path(3).write_bytes(
                encode(dataclasses.replace(state, round=3), Identity(**{**changed, "data": tuple(changed["data"])}))
            )
            with pytest.raises(PipelineError):
                store.read(3)  # its rounds do not fit its number
            store.path(3).unlink()
            store.path(2).write_bytes(encode(state, Identity(**{**changed, "data": tuple(changed["data"])})))
            assert store.read(2)[1].differences(identity)
    assert resume(client, data_folder, interrupted) == "JobError"  # not the run that was interrupted


def test_a_pickle_for_a_booster(client: Any, data_folder: Path, interrupted: Path, marker: Path) -> None:
    store = CheckpointStore(interrupted)
    state, identity, _ = store.latest()
    for content in (pickled(marker), pickled(marker, 0)):
        store.path(2).write_bytes(
            encode(dataclasses.replace(state, content=len(content).to_bytes(8, "big") + content), identity)
        )
        outcome = resume(client, data_folder, interrupted, "training.max_restarts=0")
        assert outcome in ("TrainingError", "ModelError")


# Data files


def test_pickles_for_data(client: Any, tmp_path: Path, marker: Path) -> None:
    for number, ending in enumerate(
        ("parquet", "csv", "csv.gz", "feather", "arrow", "svm", "libsvm", "pkl", "pickle", "npy")
    ):
        place = tmp_path / str(number)
        place.mkdir()
        (place / f"0.{ending}").write_bytes(pickled(marker))
        with pytest.raises(UserError):
            pipeline.train(client, job_of(place, tmp_path / "model"))


def test_pickles_in_the_metadata_of_data(client: Any, tmp_path: Path, marker: Path) -> None:
    """The places where old releases of Arrow unpickled Python types, and the place of pandas' metadata."""
    extension = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickled(marker),
    }
    plain = table()
    fields = [plain.schema.field(0).with_metadata(extension), *list(plain.schema)[1:]]
    planted = plain.cast(pa.schema(fields, metadata={b"pandas": texts(marker)[0].encode(), b"own": pickled(marker)}))
    pq.write_table(planted, tmp_path / "0.parquet")
    feather.write_feather(planted, tmp_path / "0.feather")
    for name in ("0.parquet", "0.feather"):
        pipeline.train(client, job_of(tmp_path / name, tmp_path / f"model of {name}", "output.report=false"))
    pq.write_table(plain.replace_schema_metadata({b"ARROW:schema": pickled(marker)}), tmp_path / "1.parquet")
    with pytest.raises(UserError, match="damaged"):
        pipeline.train(client, job_of(tmp_path / "1.parquet", tmp_path / "model"))


@pytest.mark.parametrize("form", range(FORMS))
def test_code_in_cells_and_names(client: Any, tmp_path: Path, marker: Path, form: int) -> None:
    planted = texts(marker)[form]
    plain = table()
    texted = plain.set_column(1, "carrier", pa.array([planted, "AA"] * (len(plain) // 2)))
    texted = texted.rename_columns([planted, "carrier", "late"])
    pq.write_table(texted, tmp_path / "0.parquet")
    model = pipeline.train(client, job_of(tmp_path / "0.parquet", tmp_path / "late")).model
    with nothing_unpickled():
        assert len(Model.load(model.path).predict(texted)) == len(texted)


# Jobs


def evil(tmp_path: Path, marker: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that could be imported, here and from the current folder."""
    (tmp_path / "stranger.py").write_text(module(marker))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return "stranger:change"


PARAMS = [
    "plugin", "updater", "process_type", "callbacks", "custom_metric", "custom_objective", "obj", "feval", "xgb_model",
    "model_in", "model_out", "model_dir", "data", "test:data", "test_path", "name_pred", "fmap", "dump_format", "task",
    "gpu_page_size", "nccl_path", "dmlc_nccl_path", "dmlc_tracker_uri", "extmem_single_page", "objective", "eval_metric",
    "device", "verbosity", "nthread", "seed", "base_score", "dsplit", "split_mode", "use_rmm", "plugins", "predictor",
]  # fmt: skip


@pytest.mark.parametrize(
    "setting",
    [
        "data.function='stranger:change'",
        "data.function='os:system'",
        "training.objective='stranger:change'",
        "training.metrics=['stranger:change']",
        "data.format='pickle'",
        "cluster.device='stranger:change'",
        *(f"training.params={{{name if ':' not in name else json.dumps(name)}='MARKER'}}" for name in PARAMS),
        "training.params.tree_method='MARKER'",
        "training.params.booster='MARKER'",
        *(
            f'data.derive={{y="{sql}"}}'
            for sql in (
                "(SELECT content FROM read_text('/etc/hostname'))", "read_text('/etc/hostname')", "getenv('HOME')",
                "(SELECT * FROM 'MARKER.parquet')", "1; COPY (SELECT 1) TO 'MARKER'", "1; INSTALL httpfs; LOAD httpfs",
                "1; ATTACH 'MARKER'", "1; SET enable_external_access=true", "system('touch MARKER')",
                "current_setting('secret_directory')", "query('COPY (SELECT 1) TO ''MARKER''')", "pragma_version()",
                "write_log('x')", "getvariable('x')", "main.current_setting('threads')", "load_aws_credentials()",
            )
        ),
        "data.where=\"1=1; COPY (SELECT 1) TO 'MARKER'\"",
        "data.where=\"read_blob('/etc/hostname') IS NOT NULL\"",
    ],
)  # fmt: skip
def test_a_job_runs_no_code(
    client: Any, data_folder: Path, tmp_path: Path, marker: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    evil(tmp_path, marker, monkeypatch)
    with pytest.raises(UserError) as caught:
        pipeline.train(client, job_of(data_folder, tmp_path / "model", setting.replace("MARKER", str(marker))))
    assert "\n" not in str(caught.value)
    assert "stranger" not in sys.modules


def test_every_parameter_that_passes_is_a_number_or_one_of_xgboosts_words(tmp_path: Path, marker: Path) -> None:
    """None of them takes a path or a name of something to load: a path does not pass XGBoost's own reading of it."""
    matrix = xgboost.DMatrix(np.arange(8.0).reshape(8, 1), label=np.arange(8) % 2)
    for name in sorted(PARAMETERS.keys() - {"booster"}):  # one of two words
        with xgboost.config_context(verbosity=0), pytest.raises((xgboost.core.XGBoostError, ValueError)):
            xgboost.train({"validate_parameters": True, **around(name), name: str(marker)}, matrix, 1)


def around(name: str) -> dict[str, Any]:
    """The parameters with which XGBoost looks at this one."""
    if name.startswith("lambdarank") or name == "ndcg_exp_gain":
        return {"objective": "rank:ndcg", "eval_metric": "ndcg"}
    if name == "tweedie_variance_power":
        return {"objective": "reg:tweedie"}
    if name == "huber_slope":
        return {"objective": "reg:pseudohubererror"}
    if name in ("sample_type", "normalize_type", "rate_drop", "one_drop", "skip_drop"):
        return {"booster": "dart"}
    return {}


def test_urls_whose_files_hold_code_are_refused(client: Any, tmp_path: Path, marker: Path) -> None:
    code = texts(marker)[3]
    references = {
        "version": 1,
        "templates": {"u": code},
        "gen": [{"key": "0.csv", "url": code, "dimensions": {"i": [1]}}],
    }
    (tmp_path / "references.json").write_text(json.dumps(references))
    for url in (f"reference://::file://{tmp_path}/references.json", "simplecache::reference://0.csv::file:///x.json"):
        with pytest.raises(UserError, match="reference URLs are refused"):
            pipeline.train(client, job_of(url, tmp_path / "model"))


# The current folder


@pytest.mark.slow
def test_the_command_imports_nothing_of_the_current_folder(
    folder: Path, data_folder: Path, marker: Path, tmp_path: Path
) -> None:
    """People work inside folders that others have sent them."""
    for name in (
        "pipeline",
        "xgboost",
        "numpy",
        "dask",
        "pyarrow",
        "json",
        "sitecustomize",
        "usercustomize",
        "stranger",
    ):
        (folder / f"{name}.py").write_text(module(marker))
    command = Path(sys.executable).with_name("pipeline")
    if not command.exists():
        pytest.skip("the command is not installed here")
    data = str(data_folder / "0.parquet")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    for arguments in (
        ["describe", "."],
        ["predict", ".", data, "--out", str(tmp_path / "out"), "--workers", "1"],
        [
            "train",
            data,
            "--target",
            "late",
            "--rounds",
            "2",
            "--out",
            str(tmp_path / "again"),
            "--workers",
            "2",
            "--no-report",
        ],
    ):
        done = subprocess.run(
            [command, *arguments, "--quiet"], cwd=folder, env=environment, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert not marker.exists(), arguments


# Our own code

UNPICKLERS = {
    "pickle",
    "_pickle",
    "cPickle",
    "cloudpickle",
    "dill",
    "joblib",
    "marshal",
    "shelve",
    "jsonpickle",
    "yaml",
    "runpy",
    "code",
    "codeop",
}
RUNNERS = {"eval", "exec", "compile", "__import__"}
METHODS = {"read_pickle", "to_pickle", "os.system", "os.popen", "unsafe_load", "literal_eval", "run_string"}
IMPORTERS = {  # who may import what is named at run time, and why
    "pipeline",  # its own verbs
    "pipeline.cli.main",  # its own modules
    "pipeline.cluster.affinity",  # its own modules, in workers of its own, as the process names them that starts these
    "pipeline.cluster.fork_main",  # likewise, in the process that these workers are forks of
    "pipeline.cluster.same_code",  # its own modules, on workers and scheduler: whether they can be imported there
    "pipeline.dashboard.install",  # its own pages, where there is Bokeh
    "pipeline.data.schema.derive",  # the user's function, after --allow-code
    "pipeline.cli.job_source",  # a verb's own module
    "pipeline.cli.scale_options",  # its own modules
}
STARTERS = {
    "pipeline.cluster.devices",
    "pipeline.cluster.throwaway_tls",
    "pipeline.scaling.environment",
    "pipeline.scaling.baseline_process",
}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_module_unpickles_or_evaluates(name: str) -> None:
    """Dask's transport and XGBoost's own pickling of its objects are the exceptions; they are not called from here."""
    roots = {one.partition(".")[0] for one in imports(name)}
    assert not roots & UNPICKLERS
    assert "subprocess" not in roots or name in STARTERS
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.id if isinstance(node.func, ast.Name) else ""
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        assert called not in RUNNERS, f"{name}:{node.lineno}"
        assert not {method, ast.unparse(node.func)} & METHODS, f"{name}:{node.lineno}"
        for option in node.keywords:
            assert option.arg not in ("shell", "allow_pickle"), f"{name}:{node.lineno}"
        if "import_module" in (called, method) and not all(isinstance(one, ast.Constant) for one in node.args):
            assert name in IMPORTERS, f"{name}:{node.lineno}"


def test_the_rules_would_be_noticed() -> None:
    """That the names above are the ones the source uses."""
    assert {name for name in STARTERS if "subprocess" in imports(name)} == STARTERS
    assert "importlib" in imports("pipeline.data.schema.derive")
    assert "data.function" in (ROOT / "SECURITY.md").read_text()
