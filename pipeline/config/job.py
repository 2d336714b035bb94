"""Defines the job: the user's request, read from TOML and validated once.

`--help`, the README and error messages show the descriptions of the fields; all defaults are defined here.
"""

import codecs
import itertools
import math
import os
import re
import textwrap
import tomllib
import urllib.parse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import AfterValidator, ConfigDict, Field

from pipeline.config.encoding import ENCODING
from pipeline.config.quantities import LONGEST_SECONDS, parse_duration
from pipeline.config.urls import LOCAL_ONLY, is_url
from pipeline.config.validation_messages import Origins, explain, show_path
from pipeline.errors import JobError
from pipeline.formatting import hidden_in, server_of

LONGEST_URL = 2_000  # characters
SET = "--set"  # the name of a setting in errors
ALARM = "alarm"  # the one list of tables among the sections
_STATEFUL = frozenset({"hz", "raw-unicode-escape"})  # decode the same bytes as ASCII, but are not ASCII
DEEPEST = 30  # dots in a key: a column's name may hold some
Device = Literal["auto", "cpu", "cuda"]
Format = Literal["auto", "parquet", "csv", "feather", "libsvm"]


def _local(path: str) -> str:
    if is_url(path):
        raise ValueError(LOCAL_ONLY)
    return path


def _local_file(path: str) -> str:
    if is_url(path):
        raise ValueError("expected the path of a local file, not a URL")
    return path


LocalFolder = Annotated[str, AfterValidator(_local)]
LocalFile = Annotated[str, AfterValidator(_local_file)]
Share = Annotated[float, Field(strict=True, gt=0, lt=1)]
LARGEST = 2**31 - 1  # whole number: fits in Dask's protocol, Arrow and XGBoost, also times 1 MiB
MOST_PROCESSES = 65_536  # workers, and threads of one
LARGEST_WEIGHT = 1e12  # far from the largest float32, also as a sum over rows
LARGEST_NBYTES = 2**60  # of a worker's memory: Dask's protocol takes less than 2**64
LONGEST_COLLECTIVE_SECONDS = 2_000_000  # XGBoost passes it to poll() as milliseconds of 32 bits: 24.8 days at most
Positive = Annotated[int, Field(strict=True, ge=1, le=LARGEST)]
Count = Annotated[int, Field(strict=True, ge=1, le=MOST_PROCESSES)]
Seconds = Annotated[float, Field(strict=True, gt=0, le=LONGEST_SECONDS)]


class Setting(str):
    """A `section.field=value` that overrides a job's table, and the option that errors name for it."""

    option: str

    def __new__(cls, text: str, option: str = SET) -> Self:
        setting = super().__new__(cls, text)
        setting.option = option
        return setting


class Section(pydantic.BaseModel):
    """A table of the job: frozen, and strict about keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CsvOptions(Section):
    """The format of CSV files."""

    header: bool = Field(True, description="the first line holds the column names")
    columns: list[str] = Field(
        [], description="the column names, in place of the header's; without a header the default is c1, c2, ..."
    )
    separator: str = Field(",", min_length=1, max_length=1, description="one character")
    decimal: Literal[".", ","] = Field(".", description="the decimal point")
    encoding: str = Field("utf-8", max_length=50, description="of the text, e.g. latin-1 or cp1252")
    comment: str = Field("", max_length=1, description="lines that start with this character are skipped")
    missing: list[str] = Field(
        ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "?"], description="texts that are read as missing"
    )
    newlines_in_quotes: bool = Field(False, description="quoted values may hold line breaks: files are then read whole")

    @pydantic.field_validator("separator")
    @classmethod
    def _separates(cls, separator: str) -> str:
        if not separator.isascii() or separator in '\r\n"\0':
            raise ValueError("expected one ASCII character, neither a quote nor a line break")
        return separator

    @pydantic.field_validator("columns")
    @classmethod
    def _distinct(cls, columns: list[str]) -> list[str]:
        for name in columns:
            if not name.strip() or columns.count(name) > 1:
                raise ValueError("each name once, and none of them empty")
        return columns

    @pydantic.field_validator("encoding")
    @classmethod
    def _ends_lines_as_ascii(cls, encoding: str) -> str:
        """Fragments begin after the byte of a line end, so that byte must mean nothing else."""
        try:
            codec = codecs.lookup(encoding)
            same = all(codec.encode(chr(code))[0] == bytes([code]) for code in range(128))
        except (LookupError, ValueError, TypeError, AttributeError):
            raise ValueError("unknown encoding") from None
        if codec.name == "utf-8-sig":  # a byte order mark is skipped in any case
            return "utf-8"
        if not same or codec.name in _STATEFUL or codec.name.startswith("iso2022"):
            raise ValueError("files in this encoding cannot be read in parts: convert them to UTF-8")
        return encoding


class Validation(Section):
    """The rows held out for validation, given in exactly one of these ways.

    `share` alone: rows chosen by a hash of their row id.
    `source`: other files.
    `column` and `values`: rows whose column has one of the values.
    `time` and `share`: the last share of a time column.
    """

    share: Share | None = Field(None, description="share of the rows, 0 to 1")
    source: str | list[str] | None = Field(None, description="other files to validate on")
    column: str | None = Field(None, description="a column whose `values` mark the validation rows")
    values: list[int | float | str | bool] = Field([], description="the values of `column`")
    time: str | None = Field(None, description="a time column; its last `share` validates")

    @pydantic.model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = [name for name in ("source", "column", "time") if getattr(self, name) is not None]
        if len(ways) > 1:
            raise ValueError(f"give one way of choosing the rows, not {' and '.join(ways)}")
        if (self.column is None) != (not self.values):
            raise ValueError('column needs values, and values a column, e.g. column = "month", values = [11, 12]')
        if self.time is not None and self.share is None:
            raise ValueError("time needs share, e.g. share = 0.2")
        if not ways and self.share is None:
            raise ValueError("give share, source, column with values, or time with share")
        if self.share is not None and ways in (["source"], ["column"]):
            raise ValueError(f"share cannot be combined with {ways[0]}")
        return self


class Data(Section):
    """The files, and the roles of their columns."""

    source: str | list[str] = Field(description="a file, folder, glob, URL, or a list of them")
    format: Format = Field("auto", description="auto: by the files' endings")
    target: str | None = Field(None, description="the column to predict; LIBSVM files have it built in")
    positive: str | int | float | bool | None = Field(
        None, description="the positive class of a two-class target; default: the class that sorts last"
    )
    weight: str | None = Field(None, description="column of row weights, >= 0")
    group: str | None = Field(None, description="column of query ids for ranking; LIBSVM: from the .query files")
    id: list[str] = Field([], description="columns copied to predictions, never features")
    exclude: list[str] = Field([], description="columns that are never features; * and ? match")
    validation: Validation | None = Field(None, description="which rows are held out; default: none")
    derive: dict[str, str] = Field({}, description="new columns as SQL expressions of a row's columns (DuckDB)")
    where: str | None = Field(None, description="SQL condition: which rows train and evaluate")
    function: str | None = Field(
        None,
        pattern=r"^[\w.]+:\w+$",
        description="module:name of a pure pyarrow.Table -> pyarrow.Table; needs --allow-code",
    )
    fragment_mib: Positive = Field(64, description="target size of a fragment in MiB, uncompressed")
    skip_bad_fragments: bool = Field(
        False, description="leave out fragments whose content is damaged, and count them; a missing file is an error"
    )
    strict: bool = Field(False, description="an error instead of a note about a result that is probably not intended")
    csv: CsvOptions = CsvOptions()


class Column(Section):
    """How a column, or all columns that match a pattern, become features."""

    kind: Literal["auto", "number", "category", "time", "drop"] = Field(
        "auto", description="auto: by the column's type"
    )
    impute: float | Literal["mean"] | None = Field(None, description="number that replaces missing values, or mean")
    indicator: bool = Field(False, description="with impute: add a feature that is 1 where the value was missing")
    clip: tuple[float, float] | None = Field(None, description="lowest and highest value kept")
    log1p: bool = Field(False, description="sign(x) * log(1 + |x|)")
    standardise: bool = Field(False, description="subtract the mean, divide by the standard deviation")
    encoding: Literal["auto", "codes", "target", "frequency", "hash"] = Field("auto", description="for categories")
    parts: list[Literal["year", "month", "day", "weekday", "hour", "minute", "dayofyear", "epoch"]] = Field(
        [], description="for times; default: all that vary"
    )


class Preprocess(Section):
    """The preprocessing of columns into features."""

    columns: dict[str, Column] = Field({}, description="overrides by column name or pattern (* and ?)")
    max_levels: Annotated[int, Field(strict=True, ge=2, le=ENCODING.most_levels)] = Field(
        ENCODING.most_levels, description="categories up to this split natively"
    )
    min_count: Positive = Field(1, description="levels seen in fewer training rows count as missing")
    high_cardinality: Literal["target", "frequency", "hash"] = Field("target", description="encoding above max_levels")
    smoothing: Annotated[float, Field(strict=True, ge=0, le=1e12)] = Field(
        20.0, description="rows of prior in a target encoding"
    )
    folds: Annotated[int, Field(strict=True, ge=2, le=20)] = Field(
        5, description="folds of the out-of-fold target encoding"
    )
    hash_bins: Annotated[int, Field(strict=True, ge=2, le=ENCODING.most_levels)] = Field(
        ENCODING.most_levels, description="codes of the hash encoding"
    )
    tracked_levels: Annotated[int, Field(strict=True, ge=ENCODING.most_levels, le=LARGEST)] = Field(
        100_000, description="levels counted per column; rarer ones are left out"
    )
    sample_rows: Annotated[int, Field(strict=True, ge=1_000, le=LARGEST)] = Field(
        262_144, description="rows sampled for the cut points"
    )


class Training(Section):
    """The parameters of boosting."""

    objective: str = Field("auto", description="an XGBoost objective; auto: by the target's type")
    rounds: Positive = Field(150, description="boosting rounds at most")
    early_stopping: Annotated[int, Field(strict=True, ge=0, le=LARGEST)] = Field(
        20,
        description="stop after this many rounds without a better validation metric; 0: never. Needs data.validation",
    )
    metrics: list[str] = Field(
        [], description="metrics per round, the last one decides early stopping; default: the objective's"
    )
    max_bin: Annotated[int, Field(strict=True, ge=2, le=ENCODING.max_bin)] = Field(
        ENCODING.max_bin, description="bins per feature"
    )
    row_sample: Annotated[float, Field(strict=True, gt=0, le=1)] = Field(
        1.0, description="share of the rows (queries) each round, same for any layout"
    )
    class_weights: (
        dict[str, Annotated[float, Field(strict=True, gt=0, le=LARGEST_WEIGHT)]] | Literal["balanced"] | None
    ) = Field(None, description="weight by class, or balanced")
    monotone: dict[str, Literal[-1, 0, 1]] = Field({}, description="feature = 1 (rising), -1 (falling)")
    interactions: list[list[str]] = Field(
        [], description="groups of features that may occur together on a path of a tree"
    )
    quantiles: list[Share] = Field([], description="for reg:quantileerror: the quantiles, in rising order")
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**31)] = Field(0, description="seed of everything random")
    params: dict[str, Any] = Field(
        {},
        description="further XGBoost parameters, passed through; defaults of our own: learning_rate 0.1, and "
        "colsample_bynode 0.5 where no colsample_* is given",
    )
    timeout_seconds: Annotated[int, Field(strict=True, ge=1, le=LONGEST_COLLECTIVE_SECONDS)] = Field(
        1800, description="how long a worker waits for its peers in one collective"
    )
    checkpoint_rounds: Positive | None = Field(
        None, description="rounds between two checkpoints; default: by time alone"
    )
    checkpoint_seconds: Seconds = Field(
        30.0, description="seconds between two checkpoints; longer where a checkpoint takes more than 0.5 % of that"
    )
    max_restarts: Annotated[int, Field(strict=True, ge=0, le=LARGEST)] = Field(
        3,
        description="restarts after lost workers that are allowed without a checkpoint in between; then the run fails",
    )
    matrix: Literal["auto", "memory", "disk"] = Field(
        "auto", description="where the quantised matrix is stored; auto: on disk where it does not fit in memory"
    )
    row_order: Literal["auto", "key", "source"] = Field(
        "auto",
        description="order of the rows in memory: by a key that makes rounds faster, or as in the source; the trees are the same",
    )

    @pydantic.field_validator("quantiles")
    @classmethod
    def _rising(cls, quantiles: list[float]) -> list[float]:
        if any(one >= other for one, other in itertools.pairwise(quantiles)):
            raise ValueError("expected rising values, each once, e.g. [0.1, 0.5, 0.9]")
        return quantiles

    @pydantic.field_validator("params")
    @classmethod
    def _plain(cls, params: dict[str, Any]) -> dict[str, Any]:
        for name, value in params.items():
            for part in value if isinstance(value, list) else [value]:
                if not isinstance(part, (str, bool, int, float)) or (
                    isinstance(part, float) and not math.isfinite(part)
                ):
                    raise ValueError(f"{name} is neither a text, true or false, nor a finite number")
        return params

    @pydantic.field_validator("params", mode="before")
    @classmethod
    def _of_numpy(cls, params: Any) -> Any:
        """Numbers of NumPy, as grids of values give them, become Python's."""
        if not isinstance(params, dict):
            return params
        scalar = {name: value for name, value in params.items() if getattr(value, "ndim", None) == 0}
        return {**params, **{name: value.item() for name, value in scalar.items()}}


class Security(Section):
    """TLS files: of the client for a running scheduler, of all processes for a cluster of our own."""

    ca_file: str = Field(description="PEM file of the authority")
    cert_file: str = Field(description="PEM file of the certificate")
    key_file: str = Field(description="PEM file of the certificate's key")


_UNIT_NBYTES = {"k": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}  # at most: kB is less than KiB


class Cluster(Section):
    """The cluster of the run."""

    device: Device = Field("auto", description="auto: the GPUs if they can be used, else the CPU")
    workers: Count | Literal["auto"] = Field("auto", description="auto: one per NUMA node, or one per GPU")
    threads: Count | Literal["auto"] = Field("auto", description="per worker; auto: the cores shared evenly")
    memory: str = Field(
        "auto", pattern=r"^(auto|\d+(\.\d+)?\s*([kMGT]i?B))$", description="limit per worker, e.g. 4GiB"
    )
    scheduler: str | None = Field(None, description="a running scheduler, e.g. tcp://10.0.0.1:8786")
    security: Security | Literal["auto"] | None = Field(
        None,
        description="TLS for the connections to and between Dask's processes: files, or auto: the run's own cluster makes a "
        "certificate for itself",
    )
    wait_seconds: Seconds = Field(
        30.0, description="how long training waits for a lost worker before it continues without it"
    )
    patience: str = Field(
        "5m",
        description="how long a run waits for a worker while the cluster has none, at the start too, e.g. 6h for a queue",
    )
    hang_seconds: Seconds = Field(
        60.0,
        description="seconds without a heartbeat after which a worker counts as hung and is ended, and a scheduler counts as lost",
    )
    elastic: bool = Field(False, description="use workers that join a running scheduler, from the next checkpoint on")
    dashboard: bool = Field(True, description="Dask's dashboard, on loopback")
    dashboard_hosts: list[str] = Field(
        [],
        description="further names under which a browser reaches the dashboard of the run's own cluster, e.g. a JupyterHub's; "
        "* allows every name",
    )
    gpu_pool: str | None = Field(None, description="RMM pool per GPU, e.g. 20GiB")
    gpu_spill: str | None = Field(None, description="GPU memory above which Dask spills, e.g. 30GiB")
    scratch: LocalFolder | None = Field(
        None,
        description="folder on each worker's local disk for what does not fit in memory; default: the worker's own",
    )
    local_directory: LocalFolder | None = Field(None, description="folder of Dask's own files on the workers")
    prices: LocalFile | None = Field(
        None, description="TOML file with what a worker costs for an hour, e.g. prices.toml, to plan the cost of a run"
    )

    @pydantic.field_validator("memory")
    @classmethod
    def _within_64_bits(cls, memory: str) -> str:
        number, unit, _ = re.split(r"\s*([kMGT])", memory) if memory != "auto" else ("0", "k", "")
        if float(number) * _UNIT_NBYTES[unit] > LARGEST_NBYTES:
            raise ValueError(f"expected at most {LARGEST_NBYTES // 2**40}TiB")
        return memory

    @pydantic.field_validator("patience")
    @classmethod
    def _duration(cls, patience: str) -> str:
        parse_duration(patience)
        return patience


class Output(Section):
    """The outputs of the run."""

    model: LocalFolder | None = Field(None, description="the model folder; default: a dated one under models/")
    overwrite: bool = Field(False, description="replace an existing model folder")
    report: bool = Field(True, description="write report.html and its pictures")
    audit: bool = Field(
        True, description="add a line to the history of audits, which corrects later plans: numbers, no names"
    )


class Alarm(Section):
    """Something to watch for during training, and the action to take; an alarm fires once per episode."""

    when: str = Field(
        description="the condition: pe, e, j, lb, memory, restarts, rows_per_second or a metric, e.g. validation.auc, with "
        "<, <=, > or >= and a number, and perhaps for 60s; validation.auc drops 0.02; no_progress for 120s"
    )
    do: Literal["log", "exit", "post"] = Field(
        "log",
        description="log: a note; exit: the run ends with exit code 1, the checkpoint stays; post: a note, and JSON to url",
    )
    url: str | None = Field(
        None,
        description="for post: http:// or https://; the server gets the run's id, the condition, the value and the round",
    )

    @pydantic.field_validator("when")
    @classmethod
    def _condition(cls, when: str) -> str:
        from pipeline.config.alarms import parse  # imports NumPy, which most jobs do not need

        parse(when)
        return when

    @pydantic.field_validator("url")
    @classmethod
    def _web(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if len(url) > LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url:
            raise ValueError(f"expected at most {LONGEST_URL} characters of ASCII without spaces")
        try:
            parts = urllib.parse.urlsplit(url)
            known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # of its port, or a missing bracket
            known = False
        if not known:
            raise ValueError("expected a URL of http:// or https:// with a host")
        if parts.username is not None:
            raise ValueError("no user or password in a URL: the job is kept with the model")
        return url

    @pydantic.model_validator(mode="after")
    def _together(self) -> Self:
        if (self.do == "post") != (self.url is not None):
            raise ValueError('do = "post" needs url, and url needs do = "post"')
        return self


REPR_CHARACTERS = 120  # of one field's value


def require_job(job: object) -> None:
    """Raises JobError unless it is a Job: its path is given easily."""
    if not isinstance(job, Job):
        raise JobError(f"job is a {type(job).__name__}: give a pipeline.Job, e.g. that of pipeline.Job.load(path)")


class Job(Section):
    """The user's request: data, preprocessing, training, cluster, output, alarms."""

    data: Data
    preprocess: Preprocess = Preprocess()
    training: Training = Training()
    cluster: Cluster = Cluster()
    output: Output = Output()
    alarm: list[Alarm] = Field([], max_length=50, description="conditions to watch; each begins with [[alarm]]")

    def __repr__(self) -> str:
        """Only the fields that differ from their defaults, without the secrets in URLs."""
        fields, changed = storable(self), self.model_dump(mode="json", exclude_defaults=True)
        said = [
            f"{section}.{name} = {textwrap.shorten(repr(fields[section][name]), REPR_CHARACTERS)}"
            for section, inner in changed.items()
            if isinstance(inner, dict)
            for name in inner
        ]
        said += [f"{len(self.alarm)} alarms"] if self.alarm else []
        return f"<Job {', '.join(said)}>"

    @classmethod
    def load(cls, path: str | os.PathLike[str], settings: Iterable[str] = ()) -> "Job":
        """The job in a TOML file, overridden by `settings` ("training.rounds=50").

        Relative sources and prices are relative to the file's folder.  JobError names file or setting, field, value and
        what is allowed.
        """
        if isinstance(path, Mapping):
            raise JobError("Job.load takes the name of a TOML file; for a mapping call Job.parse({...})")
        if not isinstance(path, (str, os.PathLike)):
            raise JobError(f"Job.load takes the name of a TOML file, not {type(path).__name__}")
        path = Path(path)
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            raise JobError(f"{path}: no such job file") from None
        except (OSError, ValueError, RecursionError) as error:  # of TOML, UTF-8, whole numbers of 5,000 digits, ...
            raise JobError(f"{path}: not a readable TOML file: {error}") from None
        return cls.parse(table, settings=settings, origin=str(path), folder=path.parent)

    @classmethod
    def parse(
        cls,
        table: Mapping[str, Any],
        *,
        settings: Iterable[str] = (),
        origin: str = "job",
        folder: Path | None = None,
    ) -> "Job":
        """The job in a nested mapping; `origin` names it in errors, relative sources and prices are relative to `folder`."""
        table = {key: dict(value) if isinstance(value, Mapping) else value for key, value in table.items()}
        if folder is not None:
            _anchor(table, folder)
        written = dict(table)
        given = [(tuple(_apply(table, setting)), setting) for setting in settings]
        try:
            return cls.model_validate(table)
        except pydantic.ValidationError as error:
            told = Origins(origin, written, [(path, getattr(setting, "option", SET)) for path, setting in given])
            raise JobError(explain(error, table, cls, told)) from None


def storable(job: Job) -> dict[str, Any]:
    """The job as JSON values for storage and display: without the secrets of its URLs.

    Of an alarm's URL only the server is kept, as its path may be a secret too.
    """
    fields: Any = hidden_in(job.model_dump(mode="json"))
    for number, alarm in enumerate(job.alarm):
        if alarm.url is not None:
            fields[ALARM][number]["url"] = server_of(alarm.url)
    return fields  # type: ignore[no-any-return]  # the function gives a mapping for a mapping


def _anchor(table: dict[str, Any], folder: Path) -> None:
    """Makes the relative paths of the sources and of the prices relative to the job file's folder."""
    data, cluster = table.get("data"), table.get("cluster")
    if isinstance(cluster, dict) and "prices" in cluster:
        cluster["prices"] = _anchored(cluster["prices"], folder)
    if not isinstance(data, dict):
        return
    if "source" in data:
        data["source"] = _anchored(data["source"], folder)
    if isinstance(data.get("validation"), dict) and "source" in data["validation"]:
        data["validation"] = {**data["validation"], "source": _anchored(data["validation"]["source"], folder)}


def _anchored(source: Any, folder: Path) -> Any:
    if isinstance(source, list):
        return [_anchored(item, folder) for item in source]
    if not isinstance(source, str) or "://" in source or os.path.isabs(source):
        return source
    return os.path.normpath(folder / os.path.expanduser(source))


def _apply(table: dict[str, Any], setting: str) -> list[str]:
    """Puts a `section.field=value` into the table and returns its path; the value is TOML, or else a bare string."""
    name, sign, text = setting.partition("=")
    parts = _parts(name.strip()) if name.count(".") < DEEPEST else []
    if not sign or (len(parts) < 2 and parts != [ALARM]) or not all(parts):
        raise JobError(f"--set {setting}: expected section.field=value, e.g. training.rounds=50")
    value = _value(text)
    place = table
    for depth, part in enumerate(parts[:-1]):
        inner = place.get(part, {})
        if not isinstance(inner, Mapping):
            raise JobError(f"--set {setting}: {show_path(parts[: depth + 1])} = {inner!r} is not a table")
        place[part] = dict(inner)
        place = place[part]
    place[parts[-1]] = value
    return parts


def _value(text: str) -> Any:
    """The value parsed as TOML, or else the bare text."""
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # integers of 5,000 digits raise no TOML error
        return text.strip()
    return table["value"] if len(table) == 1 else text.strip()


def _parts(name: str) -> list[str]:
    """The parts of a dotted key: parsed as TOML, so that quotes may contain dots, or else split at the dots."""
    try:
        inner: Any = tomllib.loads(f"{name} = 0")
    except (ValueError, RecursionError):
        return name.split(".")
    parts = []
    while isinstance(inner, dict):
        if len(inner) != 1:  # a comment, or several lines
            return name.split(".")
        part, inner = next(iter(inner.items()))
        parts.append(part)
    return parts
