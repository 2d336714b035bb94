"""The job: what is accepted, and the errors for what is not."""

import contextlib
import json
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.config.job import Column, Job, Setting, Validation
from pipeline.config.validation_messages import sections_in, show_path
from pipeline.errors import JobError

SMALLEST = {"data": {"source": "files", "target": "y"}}


def told(*settings: str, table: Any = None) -> str:
    """The error for a job of these settings."""
    with pytest.raises(JobError) as caught:
        Job.parse(SMALLEST if table is None else table, settings=settings)
    return str(caught.value)


WRONG = {
    # unknown keys, with the nearest, with the section they belong to, with all there are
    "training.roundz=5": "--set: unknown key training.roundz; did you mean rounds?",
    "trainning.rounds=3": "--set: unknown key trainning; did you mean training?",
    "preprocess.columns.x.clipp=[0, 1]": "--set: unknown key preprocess.columns.x.clipp; did you mean clip?",
    "data.rounds=3": "--set: unknown key data.rounds; did you mean training.rounds?",
    "output.zzz=1": "--set: unknown key output.zzz; known: model, overwrite, report, audit",
    # types
    "training.rounds='many'": "--set: training.rounds = 'many': expected a whole number (boosting rounds at most)",
    "training.rounds=1.5": "--set: training.rounds = 1.5: expected a whole number (boosting rounds at most)",
    "training.rounds=true": "--set: training.rounds = True: expected a whole number (boosting rounds at most)",
    "training.row_sample=true": "--set: training.row_sample = True: expected a number (share of the rows (queries) each round, same for any layout)",
    "output.overwrite='maybe'": "--set: output.overwrite = 'maybe': expected true or false (replace an existing model folder)",
    "data.target=3": "--set: data.target = 3: expected a text (the column to predict; LIBSVM files have it built in)",
    "data.id=name": "--set: data.id = 'name': expected a list (columns copied to predictions, never features)",
    "data.validation=0.2": "--set: data.validation = 0.2: expected a table (which rows are held out; default: none)",
    "training.params=3": "--set: training.params = 3: expected a table (further XGBoost parameters, passed through; defaults of our own: learning_rate 0.1, and colsample_bynode 0.5 where no colsample_* is given)",
    "preprocess.columns.x=1": "--set: preprocess.columns.x = 1: expected a table (overrides by column name or pattern (* and ?))",
    # ranges and choices
    "training.rounds=0": "--set: training.rounds = 0: expected >= 1 (boosting rounds at most)",
    "training.max_bin=1000": "--set: training.max_bin = 1000: expected <= 255 (bins per feature)",
    "training.quantiles=[0.5, 1.5]": "--set: training.quantiles[1] = 1.5: expected < 1.0 (for reg:quantileerror: the quantiles, in rising order)",
    "training.row_sample=nan": "--set: training.row_sample = nan: expected a finite number (share of the rows (queries) each round, same for any layout)",
    "cluster.device=gpu": "--set: cluster.device = 'gpu': expected 'auto', 'cpu' or 'cuda' (auto: the GPUs if they can be used, else the CPU)",
    "cluster.memory=lots": "--set: cluster.memory = 'lots': expected a text of another form (limit per worker, e.g. 4GiB)",
    "data.csv.separator=';;'": "--set: data.csv.separator = ';;': expected at most 1 character (one character)",
    "preprocess.columns.x.clip=[1]": "--set: preprocess.columns.x.clip[1] is missing",
    "preprocess.columns.x.clip=[1, 2, 3]": "--set: preprocess.columns.x.clip = [1, 2, 3]: expected at most 2 values (lowest and highest value kept)",
    'preprocess.columns."a.b".kind=1': "--set: preprocess.columns.\"a.b\".kind = 1: expected 'auto', 'number', 'category', 'time' or 'drop' (auto: by the column's type)",
    # one of several types: one error, at the field
    "data.source=3": "--set: data.source = 3: expected a text or a list (a file, folder, glob, URL, or a list of them)",
    "data.source=[1, 'a']": "--set: data.source[0] = 1: expected a text (a file, folder, glob, URL, or a list of them)",
    "cluster.workers=all": "--set: cluster.workers = 'all': expected a whole number or 'auto' (auto: one per NUMA node, or one per GPU)",
    "cluster.workers=0": "--set: cluster.workers = 0: expected >= 1 or 'auto' (auto: one per NUMA node, or one per GPU)",
    "training.class_weights=equal": "--set: training.class_weights = 'equal': expected a table or 'balanced' (weight by class, or balanced)",
    "training.class_weights={float=0}": "--set: training.class_weights.float = 0: expected > 0.0 (weight by class, or balanced)",
    "preprocess.columns.x.impute=median": "--set: preprocess.columns.x.impute = 'median': expected a number or 'mean' (number that replaces missing values, or mean)",
    "data.positive=[1]": "--set: data.positive = [1]: expected a text or a number or true or false (the positive class of a two-class target; default: the class that sorts last)",
    # what no process, protocol or library can hold
    "training.rounds=99999999999999999999": "--set: training.rounds = 99999999999999999999: expected <= 2147483647 (boosting rounds at most)",
    "training.rounds=18446744073709551616": "--set: training.rounds = 18446744073709551616: expected <= 2147483647 (boosting rounds at most)",
    "cluster.hang_seconds=1e20": "--set: cluster.hang_seconds = 1e+20: expected <= 315360000.0 (seconds without a heartbeat after which a worker counts as hung and is ended, and a scheduler counts as lost)",
    "cluster.patience=99999d": "--set: cluster.patience = '99999d': expected at most 3650d",
    "cluster.patience=soon": "--set: cluster.patience = 'soon': expected a duration, e.g. 90s, 10m or 1h30m, or a number of seconds",
    "cluster.prices=s3://b/prices.toml": "--set: cluster.prices = 's3://b/prices.toml': expected the path of a local file, not a URL",
    "cluster.prices=3": "--set: cluster.prices = 3: expected a text (TOML file with what a worker costs for an hour, e.g. prices.toml, to plan the cost of a run)",
    "cluster.memory=9999999TiB": "--set: cluster.memory = '9999999TiB': expected at most 1048576TiB",
    # what belongs together
    "training.quantiles=[0.9, 0.1]": "--set: training.quantiles = [0.9, 0.1]: expected rising values, each once, e.g. [0.1, 0.5, 0.9]",
    "training.quantiles=[0.5, 0.5]": "--set: training.quantiles = [0.5, 0.5]: expected rising values, each once, e.g. [0.1, 0.5, 0.9]",
    "data.validation={}": "--set: data.validation: give share, source, column with values, or time with share",
    "data.validation={share=0.2, source='b'}": "--set: data.validation: share cannot be combined with source",
    "data.validation={share=0.2, column='m', values=[1]}": "--set: data.validation: share cannot be combined with column",
    "data.validation={source='b', time='t'}": "--set: data.validation: give one way of choosing the rows, not source and time",
    "data.validation={source='b', column='m', values=[1]}": "--set: data.validation: give one way of choosing the rows, not source and column",
    "data.validation={time='t'}": "--set: data.validation: time needs share, e.g. share = 0.2",
    "data.validation={column='m'}": '--set: data.validation: column needs values, and values a column, e.g. column = "month", values = [11, 12]',
    "data.validation={values=[1]}": '--set: data.validation: column needs values, and values a column, e.g. column = "month", values = [11, 12]',
    "data.csv.columns=['a','a']": "--set: data.csv.columns = ['a', 'a']: each name once, and none of them empty",
    "data.csv.separator='ß'": "--set: data.csv.separator = 'ß': expected one ASCII character, neither a quote nor a line break",
    "data.csv.encoding=utf-16": "--set: data.csv.encoding = 'utf-16': files in this encoding cannot be read in parts: convert them to UTF-8",
    "cluster.security.ca_file=a": "--set: cluster.security.cert_file is missing; cluster.security.key_file is missing",
}  # fmt: skip


@pytest.mark.parametrize("setting", WRONG)
def test_the_error_for_a_wrong_setting(setting: str) -> None:
    assert told(setting) == WRONG[setting]


def test_all_that_is_wrong_is_reported_in_one_line() -> None:
    table = {"data": {"source": "a"}, "training": {"rounds": 0, "sed": 1}, "output": {"model": 1}}
    assert told(table=table) == (
        "job: training.rounds = 0: expected >= 1 (boosting rounds at most); unknown key training.sed; did you mean seed?; "
        "output.model = 1: expected a text (the model folder; default: a dated one under models/)"
    )


def test_what_is_missing() -> None:
    assert told(table={}) == "job: data is missing"
    assert told(table={"data": {}}) == "job: data.source is missing"


def test_a_long_value_is_cut() -> None:
    assert told(f"training.rounds='{'x' * 500}'").startswith("--set: training.rounds = 'xxx")
    assert len(told(f"training.rounds='{'x' * 500}'")) < 200


SET_WRONG = [
    "a", "training.rounds", "rounds=3", "=3", ".=3", "training.=3", ".rounds=3", "training=3", "training..rounds=1",
]  # fmt: skip


@pytest.mark.parametrize("setting", SET_WRONG)
def test_a_setting_that_is_none(setting: str) -> None:
    assert told(setting) == f"--set {setting}: expected section.field=value, e.g. training.rounds=50"


def test_a_setting_inside_what_is_no_table() -> None:
    assert told("data.source.format=csv") == "--set data.source.format=csv: data.source = 'files' is not a table"


def test_settings_are_toml_or_bare_text() -> None:
    job = Job.parse(
        SMALLEST,
        settings=[
            "training.rounds = 50",
            "training.params.max_depth=8",
            "data.target=late",
            'data.where="a = 1"',
            "data.derive.late=arr_delay > 15",
            "data.exclude=['a', 'b*']",
            "data.validation={column='month', values=[11, 12]}",
            "preprocess.columns.dep_*.kind=number",
            "preprocess.columns.'a.b'.kind=drop",
            "training.rounds=60",
        ],
    )
    assert job.training.rounds == 60  # the last one counts
    assert job.training.params == {"max_depth": 8}
    assert (job.data.target, job.data.where, job.data.derive) == ("late", "a = 1", {"late": "arr_delay > 15"})
    assert job.data.exclude == ["a", "b*"]
    assert job.data.validation == Validation(column="month", values=[11, 12])
    assert job.preprocess.columns == {"dep_*": Column(kind="number"), "a.b": Column(kind="drop")}


def test_settings_do_not_change_the_table_they_go_over() -> None:
    table = {"data": {"source": "a", "csv": {"header": True}}}
    before = json.dumps(table)
    Job.parse(table, settings=["data.csv.comment=%", "training.rounds=3"])
    assert json.dumps(table) == before


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    return tmp_path / "jobs" / "job.toml"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_relative_sources_start_at_the_job_file(job_file: Path) -> None:
    lines = '[data]\nsource = ["../a", "b/*.csv", "/c", "s3://d/e"]\nvalidation = {source = "./held_out"}'
    data = Job.load(write(job_file, lines)).data
    here = job_file.parent
    assert data.source == [str(here.parent / "a"), str(here / "b/*.csv"), "/c", "s3://d/e"]
    assert data.validation is not None
    assert data.validation.source == str(here / "held_out")


def test_relative_prices_start_at_the_job_file(job_file: Path) -> None:
    lines = '[data]\nsource = "a"\n[cluster]\nprices = "../prices.toml"'
    assert Job.load(write(job_file, lines)).cluster.prices == str(job_file.parent.parent / "prices.toml")
    assert Job.load(job_file, ["cluster.prices=b/prices.toml"]).cluster.prices == "b/prices.toml"
    with pytest.raises(JobError, match="expected the path of a local file, not a URL"):
        Job.load(write(job_file, lines.replace("../", "https://host/")))


def test_sources_that_are_set_start_at_the_current_folder(job_file: Path) -> None:
    job = Job.load(write(job_file, '[data]\nsource = "a"'), ["data.source=b", "data.validation.source=c"])
    assert (job.data.source, job.data.validation) == ("b", Validation(source="c"))


def test_home_is_home(job_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert Job.load(write(job_file, '[data]\nsource = "~/a"')).data.source == "/home/somebody/a"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[data\n", "not a readable TOML file: "),
        ("[data]\nsource = 1\n", "data.source = 1: expected a text or a list"),
        ("[dta]\nsource = 1\n", "data is missing; unknown key dta; did you mean data?"),
        ("data = 3\n", "data = 3: expected a table"),
        ("training = 3\n[data]\nsource = 'a'", "training = 3: expected a table"),
        ("[data]\nsource = 'a'\nvalidation = 3", "data.validation = 3: expected a table"),
    ],
)
def test_errors_name_the_file(job_file: Path, text: str, says: str) -> None:
    with pytest.raises(JobError) as caught:
        Job.load(write(job_file, text))
    assert str(caught.value).startswith(f"{job_file}: {says}")


def test_errors_distinguish_settings_from_the_file(job_file: Path) -> None:
    def said(*settings: str) -> str:
        with pytest.raises(JobError) as caught:
            Job.load(job_file, settings)
        return str(caught.value)

    write(job_file, "[data]\nsource = 'a'\nvalidation = {source = 'b'}\n[training]\nrounds = 10")
    wrong = "training.rounds = 'abc': expected a whole number (boosting rounds at most)"
    assert said("training.rounds=abc") == f"--set: {wrong}"
    assert said(Setting("training.rounds=abc", "--rounds")) == f"--rounds: {wrong}"
    assert said(Setting("training.rounds=5", "--rounds"), "training.rounds=abc") == f"--set: {wrong}"
    share = "data.validation: share cannot be combined with source"
    assert said("data.validation.share=0.2") == f"{job_file} with --set: {share}"
    assert said("cluster.security.ca_file=a").startswith("--set: cluster.security.cert_file is missing")
    write(job_file, "[data]\nsource = 'a'\n[training]\nrounds = 0\nseed = 1")
    assert said("training.seed=x", "output.z=1") == (
        f"{job_file}: training.rounds = 0: expected >= 1 (boosting rounds at most); --set: training.seed = 'x': expected a "
        "whole number (seed of everything random); unknown key output.z; known: model, overwrite, report, audit"
    )
    write(job_file, "[data]\ntarget = 'y'")
    assert said("data.format=csv") == f"{job_file}: data.source is missing"


def test_a_byte_order_mark_is_skipped(job_file: Path) -> None:
    write(job_file, "\ufeff[data]\nsource = '/a'")
    assert job_file.read_bytes().startswith(b"\xef\xbb\xbf")
    assert Job.load(job_file).data.source == "/a"


def test_files_that_cannot_be_read(job_file: Path, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"job.toml: no such job file$"):
        Job.load(job_file)
    with pytest.raises(JobError, match="not a readable TOML file"):
        Job.load(tmp_path)
    write(job_file, "").write_bytes(b"[data]\nsource = '\xe9'")
    with pytest.raises(JobError, match="not a readable TOML file"):
        Job.load(job_file)


def test_a_job_survives_being_written_down() -> None:
    job = Job.parse(
        {
            "data": {
                "source": ["a", "b"],
                "target": "y",
                "positive": "yes",
                "validation": {"column": "month", "values": [11, 12.5, "x", True]},
                "derive": {"late": "arr_delay > 15"},
            },
            "preprocess": {"columns": {"x*": {"impute": "mean", "indicator": True, "clip": [0, 1.5]}}},
            "training": {"class_weights": {"yes": 2}, "monotone": {"x": -1}, "params": {"max_depth": 4}},
            "cluster": {"workers": 2, "security": {"ca_file": "a", "cert_file": "b", "key_file": "c"}},
        }
    )
    assert Job.parse(job.model_dump()) == job
    assert Job.parse(json.loads(json.dumps(job.model_dump(mode="json")))) == job
    values = Job.parse(job.model_dump(mode="json")).data.validation
    assert values is not None
    assert [type(value) for value in values.values] == [int, float, str, bool]


def test_defaults_are_spelled_out_and_valid() -> None:
    document = Job.parse(SMALLEST).model_dump(mode="json")
    assert document["training"]["rounds"] == 150
    assert document["cluster"]["workers"] == "auto"
    assert Job.parse(document) == Job.parse(SMALLEST)


def test_a_job_cannot_be_changed() -> None:
    job = Job.parse(SMALLEST)
    with pytest.raises(ValidationError):
        job.training.rounds = 3  # type: ignore[misc]


def test_every_field_is_described() -> None:
    def undescribed(section: Any, name: str) -> list[str]:
        found = []
        for key, field in section.model_fields.items():
            if hasattr(field.annotation, "model_fields"):
                found += undescribed(field.annotation, f"{name}.{key}")
            elif not field.description:
                found.append(f"{name}.{key}")
        return found

    assert undescribed(Job, "job") == []


def test_paths_are_shown_as_they_are_written() -> None:
    assert show_path(["preprocess", "columns", "a.b", "clip", 1]) == 'preprocess.columns."a.b".clip[1]'


@pytest.mark.parametrize(
    "text",
    ["a = " + "[" * 100_000, "a = " + "1" * 5_000, "[data]\nsource = 'x'\n[training.params]\neta = inf"],
    ids=["deep", "long number", "infinite"],
)
def test_toml_that_python_cannot_hold_is_refused(tmp_path, text):
    (tmp_path / "job.toml").write_text(text)
    with pytest.raises(JobError, match=r"job\.toml: "):
        Job.load(tmp_path / "job.toml")


@pytest.mark.parametrize("setting", ["#a.b=1", "data." * 100_000 + "x=1", "a.b\n.c=1"])
def test_settings_without_a_field_are_refused(setting):
    with pytest.raises(JobError):
        Job.parse({"data": {"source": "x"}}, settings=[setting])


def test_a_setting_is_one_value():
    job = Job.parse({"data": {"source": "x"}}, settings=["data.target=1\n[training]"])
    assert job.data.target == "1\n[training]"


HUGE = 10**20
HARMLESS = {  # a value of the data, which is compared; a value of a feature, which `column_settings` keeps to float32
    "data.positive", "data.validation.values", "preprocess.columns.NAME.impute", "preprocess.columns.NAME.clip",
    "training.params",  # XGBoost parses them before data are read
}  # fmt: skip


def numeric_fields() -> list[str]:
    """Every field of the job whose type has a number in it."""

    def numbers(annotation: Any) -> bool:
        inner = typing.get_args(annotation)
        if typing.get_origin(annotation) is typing.Literal:
            return any(type(value) is int for value in inner)
        return annotation in (int, float, Any) or any(map(numbers, inner))

    def fields(section: Any, path: str) -> Iterator[str]:
        for name, field in section.model_fields.items():
            each = ".NAME" if typing.get_origin(field.annotation) is dict else ""
            for below in sections_in(field.annotation):
                yield from fields(below, f"{path}{name}{each}.")
            if numbers(field.annotation):
                yield path + name

    return list(fields(Job, ""))


@pytest.mark.parametrize("huge", [HUGE, float(HUGE), -HUGE], ids=str)
@pytest.mark.parametrize("field", numeric_fields())
def test_a_number_beyond_all_bounds_is_refused_or_harmless(field: str, huge: float) -> None:
    shapes: list[Any] = [huge, [huge], [huge, huge], {"a": huge}]
    path, _, name = field.rpartition(".")
    fitting = []
    for value in shapes:
        table: dict[str, Any] = {"data": {"source": "files"}}
        place = table
        for part in path.split("."):
            place = place.setdefault(part, {})
        place[name] = value
        if field == "data.validation.values":
            place["column"] = "x"
        with contextlib.suppress(JobError):
            fitting.append(Job.parse(table))
    assert bool(fitting) == (field in HARMLESS)
    for job in fitting:
        assert Job.parse(job.model_dump(mode="json")) == job


def test_all_numeric_fields_are_tried() -> None:
    known = {
        "training.rounds",
        "cluster.workers",
        "cluster.hang_seconds",
        "training.class_weights",
        "training.quantiles",
    }
    assert known | HARMLESS <= {*numeric_fields()}
    assert len(numeric_fields()) > 25


def test_the_largest_numbers_are_generous() -> None:
    settings = (
        "training.rounds=2147483647", "training.timeout_seconds=1209600", "cluster.hang_seconds=315360000",
        "cluster.wait_seconds=31536000", "cluster.workers=10000", "cluster.patience=365d", "cluster.memory=12.5 TiB",
    )  # fmt: skip
    assert Job.parse(SMALLEST, settings=settings).training.rounds == 2**31 - 1


def test_numbers_that_python_does_not_write_are_refused():
    with pytest.raises(JobError, match="thousands of digits"):
        Job.parse({"data": {"source": "x", "target": 16**5_000}})


def test_what_is_no_file_name_is_refused_with_what_to_call() -> None:
    with pytest.raises(JobError, match=r"for a mapping call Job\.parse"):
        Job.load({"data": {"source": "a"}})  # type: ignore[arg-type]
    with pytest.raises(JobError, match="takes the name of a TOML file, not NoneType"):
        Job.load(None)  # type: ignore[arg-type]
