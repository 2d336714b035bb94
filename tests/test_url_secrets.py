"""User, password and query of a URL are used for reading and appear nowhere else."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed.core import error_message

import pipeline
from pipeline.config.job import Job, storable
from pipeline.data.files.listing import File, find_files, relative_names
from pipeline.data.files.retries import NoSuchFile, failure
from pipeline.data.fragments import Piece
from pipeline.errors import AccessError, DataError
from pipeline.events.findings import Finding, plain, text_of
from pipeline.events.recording import line_of
from pipeline.events.types import Event, Failed, Note, Skipped, encode
from pipeline.formatting import without_secrets
from pipeline.runtime.task_errors import task

URL = "http://me:pa55@host:8000/month=11/x.parquet?sig=T0KEN/a=b&exp=1"
SECRETS = ("me:", "pa55", "T0KEN", "exp=1")


def clean(text: str) -> bool:
    return not any(secret in text for secret in SECRETS)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"{URL}: no such file", "http://***@host:8000/month=11/x.parquet?***: no such file"),
        (f"[{URL!r}, 'b']", "['http://***@host:8000/month=11/x.parquet?***', 'b']"),
        ("https://T0KEN@host/x", "https://***@host/x"),
        ("http://me:pa55/x@y@host/z", "http://***@host/z"),
        ("a://b/c, http://me:pa55@host/x", "a://b/c, http://***@host/x"),
        ("simplecache::https://me:pa55@host/x", "simplecache::https://***@host/x"),
        ("http://host:80/a@b/part-1", "http://host:80/a@b/part-1"),
        ("s3://bucket/part-?.csv", "s3://bucket/part-?.csv"),
        ("s3://bucket/x?T0KEN=1", "s3://bucket/x?***"),
        ("abfs://container@account/x", "abfs://container@account/x"),
        ("tcp://127.0.0.1:8786", "tcp://127.0.0.1:8786"),
    ],
)
def test_what_is_hidden_of_a_url(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


def test_a_password_in_a_source_is_neither_stored_nor_shown() -> None:
    job = Job.parse({
        "data": {"source": [URL, "http://me:pa55@host/a b?exp=1 c"], "validation": {"source": URL}},
        "alarm": [{"when": "pe < 0.5", "do": "post", "url": "https://hooks/T0KEN?exp=1"}],
    })  # fmt: skip
    assert job.data.source[0] == URL  # what is read
    assert clean(json.dumps(storable(job)))
    assert storable(job)["data"]["validation"]["source"] == "http://***@host:8000/month=11/x.parquet?***"
    assert Job.parse(storable(job))
    assert clean(str(DataError(f"{URL}: damaged")))
    assert clean(Piece(URL, (0,), None, 1, 1).place())
    finding = Finding("text", f"x is text: {URL}", where=f"line 4 of {URL}")
    assert clean(text_of(finding) + json.dumps(plain(finding)) + text_of(f"left out: {URL}"))
    events: list[Event] = [Note(message=URL), Failed(message=URL), Skipped(fragment=0, reason=f"{URL}: damaged")]
    assert all(clean(json.dumps(encode(event))) and clean(line_of("run", event).decode()) for event in events)


def test_files_are_named_without_the_secrets_of_their_urls() -> None:
    """So that a checkpoint fits the same files with a new signature; and a query is no folder, ending or column."""
    names = relative_names([File(URL, 1), File(URL.replace("T0KEN", "new"), 1)])
    assert names == ["x.parquet?***", "x.parquet?*** (2)"]
    assert relative_names([File(URL, 1)]) == relative_names([File(URL.replace("T0KEN", "new"), 1)])


def test_a_signed_file_trains_and_leaves_no_trace_of_its_signature(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=300)
    path = tmp_path / "x.parquet?sig=T0KEN"
    pq.write_table(pa.table({"x": x, "y": x + rng.normal(size=300)}), path)
    url = f"simplecache::file://{path}"
    events: list[Event] = []
    job = Job.parse({
        "data": {"source": url, "target": "y"}, "output": {"model": str(tmp_path / "model")}, "training": {"rounds": 2},
    })  # fmt: skip
    result = pipeline.train(client, job, listen=events.append)
    stored = [path.read_bytes() for path in (tmp_path / "model").rglob("*") if path.is_file()]
    assert len(stored) > 5
    shown = [
        json.dumps([encode(event) for event in events]),
        json.dumps(result.summary, default=str),
        *capfd.readouterr(),
    ]
    assert not any(b"T0KEN" in content for content in stored)
    assert not any("T0KEN" in text for text in shown)
    assert "x.parquet?***" in (tmp_path / "model" / "MODEL_CARD.md").read_text().replace("\\", "")
    assert "T0KEN" not in json.dumps(pipeline.describe(job.data).to_dict())
    monkeypatch.chdir(tmp_path)  # a model of a URL predicts files of this folder
    assert pipeline.predict(client, result.model, "x.parquet?sig=T0KEN", out="predictions").rows == 300
    assert find_files(url, "auto")[0] == "parquet"


# Errors of servers


class Unpicklable(Exception):
    """As aiohttp.ClientResponseError, which holds a CIMultiDictProxy."""

    __module__ = "aiohttp.client_exceptions"

    def __init__(self, status: int) -> None:
        super().__init__(f"{status}, message='x', url='{URL}'")
        self.status = status

    def __reduce__(self) -> Any:
        raise TypeError("cannot pickle 'multidict._multidict.CIMultiDictProxy' object")


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("by_fsspec", [True, False])
def test_a_server_that_denies_access_is_reported_as_that(status: int, by_fsspec: bool) -> None:
    """fsspec makes `no such file` of every error over HTTP."""
    error: Exception = Unpicklable(status)
    if by_fsspec:
        error, error.__cause__ = FileNotFoundError(URL), error
    found = failure(URL, error)
    assert isinstance(found, AccessError)
    assert not isinstance(found, NoSuchFile)
    assert f"access denied ({status})" in str(found)
    assert clean(str(found))


@pytest.mark.parametrize("status", [404, 410])
def test_a_file_that_is_not_there_is_reported_as_that(status: int) -> None:
    assert isinstance(failure(URL, Unpicklable(status)), NoSuchFile)


def test_an_error_of_a_worker_keeps_its_class() -> None:
    """Dask pickles what an error was raised from, too; one that cannot be pickled would leave a bare Exception."""

    def read() -> None:
        try:
            raise Unpicklable(403)
        except Unpicklable as error:
            try:
                raise failure(URL, error) from None
            except AccessError:
                raise DataError("the whole") from error

    for function, kind in ((read, Exception), (task(read), DataError)):
        try:
            function()
        except Exception as error:
            message = error_message(error)
        arrived = pickle.loads(message["exception"].data)
        assert type(arrived) is kind
    assert str(arrived) == "the whole"


def test_every_task_is_one() -> None:
    """Whatever reads, prepares or trains on a worker is decorated."""
    from pipeline.inference import evaluate, predict
    from pipeline.preprocess import fit
    from pipeline.scaling import block_files, compute_calibration
    from pipeline.training import evaluation, workset
    from pipeline.training.xgboost import communicator, rank_task, trainer

    tasks = [
        fit.survey_unit, fit.collect_unit, fit.make_block, fit.fit, fit.block_facts, predict._write, evaluate._score,
        rank_task.train_task, workset._build, evaluation._evaluate, trainer._labels_of, trainer._intercept_of, communicator._tracker_task, block_files.write_block, compute_calibration.fit_grid,
    ]  # fmt: skip
    assert all(hasattr(function, "__wrapped__") for function in tasks)
