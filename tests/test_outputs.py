"""What writes, writes locally: a URL is refused by every output in one line, and no folder named `s3:` comes about."""

from pathlib import Path

import pytest

from pipeline.cli.main import cli
from pipeline.cli.terminal import run
from pipeline.config.job import Job
from pipeline.data.synthetic.generator import generate
from pipeline.errors import JobError, ModelError, OutputError
from pipeline.events.recording import recording
from pipeline.inference.predict import claim_predictions
from pipeline.model.artifact import Model
from pipeline.model.folder import claim_folder
from pipeline.run.output_lock import check_output_dir

URL = "s3://me:secret@bucket/model"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, which has to stay so."""
    (tmp_path / "job.toml").write_text('data.source = "x.parquet"\ndata.target = "y"\n')
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "x.parquet", "--target", "y", "--out", URL],
        ["train", "x.parquet", "--target", "y", "--set", f"output.model={URL}"],
        ["train", "x.parquet", "--target", "y", "--resume", URL],
        ["train", "x.parquet", "--target", "y", "--events", URL],
        ["train", "x.parquet", "--target", "y", "--set", f"cluster.scratch={URL}"],
        ["train", "x.parquet", "--target", "y", "--set", f"cluster.local_directory={URL}"],
        ["predict", "model", "x.parquet", "--out", URL],
        ["scale", "../job.toml", "--out", URL],
        ["generate", URL],
    ],
    ids=" ".join,
)
def test_a_url_as_output_is_refused(here: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, arguments) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "local folders" in line
    assert "s3://***@bucket/model" in line
    assert "secret" not in line
    assert not [*here.iterdir()]


@pytest.mark.parametrize("path", [URL, "gs://bucket/x", "file:///tmp/x", Path("s3://bucket/x")], ids=str)
def test_a_url_as_output_is_refused_in_python(here: Path, path: str | Path) -> None:
    def record() -> None:
        with recording(Path(path), print):
            pass

    for write in (
        lambda: claim_folder(path),
        lambda: claim_predictions(path, False),
        lambda: check_output_dir(path, resume=False, overwrite=False),
        lambda: generate(path, rows=10),
        record,
    ):
        with pytest.raises(OutputError, match="local folders"):
            write()
    with pytest.raises(JobError, match=r"output\.model"):
        Job.parse({"data": {"source": "x"}, "output": {"model": str(path)}})
    with pytest.raises(ModelError, match="copy it to one first"):
        Model.load(path)
    assert not [*here.iterdir()]
