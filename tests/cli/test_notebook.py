"""From a notebook: progress in the cell, short values of cells, and nothing but the public names to complete."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline.cli import notebook
from pipeline.config.job import Job
from pipeline.data.synthetic.generator import GenerateResult, generate
from pipeline.events.types import EventHandler, FragmentDone, Note, RoundDone, StatisticsDone, WorkerLost, discard
from pipeline.run.train import TrainResult


class Handle:
    def __init__(self, shown: list[str]) -> None:
        self._shown = shown

    def update(self, data: dict[str, str], raw: bool) -> None:
        assert raw
        self._shown.append(data["text/plain"])


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a cell shows, one text a drawing; IPython's kernel is as far there as it is used."""
    texts: list[str] = []

    def display(data: dict[str, str], raw: bool, display_id: bool) -> Handle:
        assert raw
        assert display_id
        return Handle(texts)

    kernel = SimpleNamespace(kernel=object())
    module = SimpleNamespace(get_ipython=lambda: kernel, display=SimpleNamespace(display=display))
    monkeypatch.setitem(sys.modules, "IPython", module)
    return texts


def round_done(number: int) -> RoundDone:
    return RoundDone(round=number, rounds=50, metrics={"validation.auc": 0.75}, best_round=number, rows_per_second=1e6)


def test_a_run_is_drawn_in_its_cell(shown: list[str]) -> None:
    now = 0.0
    cell = notebook.Cell(shown.append, lambda: now)
    cell(FragmentDone(stage="statistics", done=2, total=4, rows=10))
    cell(FragmentDone(stage="statistics", done=3, total=4, rows=10))  # drawn with what follows
    assert shown == ["statistics [########........] 2/4"]
    now = 1.0
    cell(Note(message="<b>"))
    cell(StatisticsDone(rows=10, seconds=1))
    now = 2.0
    cell(WorkerLost(worker="w0", stage="rounds", round=1, reason="killed"))
    cell(round_done(25))
    cell.draw()
    assert shown[-1].splitlines() == [
        "statistics [############....] 3/4",
        "rounds     [########........] 25/50  validation.auc 0.75",
        "note: <b>",
        "worker w0 lost at round 1: killed",
    ]
    assert len(shown) == 4
    assert "&lt;b&gt;" in notebook.bundle("<b>")["text/html"]


def test_verbs_show_their_progress_unless_another_handler_is_given(shown: list[str]) -> None:
    def verb(folder: str, *, listen: EventHandler = discard) -> str:
        """What it does."""
        listen(round_done(50))
        if folder == "wrong":
            raise ValueError(folder)
        return folder

    said: list[Any] = []
    made = notebook.for_notebook(verb)
    assert made.__doc__ == verb.__doc__
    assert made("x", listen=said.append) == "x"
    assert (len(said), shown) == (1, [])
    assert made("x") == "x"
    assert shown[-1] == "rounds     [################] 50/50  validation.auc 0.75"
    with pytest.raises(ValueError, match="wrong"):
        made("wrong")
    assert notebook.for_notebook(Job) is Job


def test_verbs_are_as_they_are_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a script, also one that a library has loaded IPython into, and at IPython's own prompt, which has no kernel."""
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not pipeline._in_notebook()
    for shell in (None, SimpleNamespace()):
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda shell=shell: shell))
        assert not pipeline._in_notebook()
        monkeypatch.delitem(vars(pipeline), "generate", raising=False)
        assert pipeline.generate is generate
    code = """
import sys
from types import SimpleNamespace
sys.modules["IPython"] = SimpleNamespace(get_ipython=lambda: None)
import pipeline
pipeline.generate
assert "pipeline.cli.notebook" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_package_shows_a_notebook_s_verbs(tmp_path: Path) -> None:
    """In a process where IPython's kernel runs: a file is written, and how far it was is drawn."""
    code = f"""
import sys
from types import SimpleNamespace
shown = []
handle = SimpleNamespace(update=lambda data, raw: shown.append(data["text/plain"]))
sys.modules["IPython"] = SimpleNamespace(
    get_ipython=lambda: SimpleNamespace(kernel=1), display=SimpleNamespace(display=lambda *a, **k: handle))
import pipeline
pipeline.generate({str(tmp_path / "data")!r}, rows=2_000, files=2)
assert "generate" in shown[-1] and "2/2" in shown[-1], shown
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_only_public_names_are_completed() -> None:
    import pipeline.data.source

    assert dir(pipeline) == sorted(pipeline.__all__)
    assert {"train", "predict", "Job", "Model"} <= set(dir(pipeline))


def test_values_of_cells_are_short(tmp_path: Path) -> None:
    """A job with every kind of field, a description of many columns, what training gives."""
    job = Job.parse(
        {
            "data": {"source": ["https://user:hunter2@host/x.parquet?sig=TOKEN"] * 50, "target": "y"},
            "training": {"rounds": 7},
            "alarm": [{"when": "e < 0.5", "do": "log"}],
        }
    )
    assert "training.rounds = 7" in repr(job)
    assert "data.target = 'y'" in repr(job)
    assert "hunter2" not in repr(job)
    assert "TOKEN" not in repr(job)
    assert len(repr(job)) < 400
    pq.write_table(pa.table({f"column {number}": [1, 2] for number in range(500)}), tmp_path / "x.parquet")
    description = pipeline.describe(str(tmp_path / "x.parquet"))
    assert repr(description).splitlines()[0].startswith("2 rows, 500 columns")
    assert len(repr(description).splitlines()) < 100
    assert len(str(description).splitlines()) > 500
    files = tuple(tmp_path / str(number) for number in range(999))
    assert (
        repr(GenerateResult(tmp_path, files, 5_000, 7_000))
        == f"<Generated {tmp_path}: 5,000 rows, 7,000 bytes, 999 files>"
    )


def test_a_model_and_its_training_are_short_values(tmp_path: Path) -> None:
    model = object.__new__(pipeline.Model)
    manifest = SimpleNamespace(
        target=SimpleNamespace(objective="binary:logistic", column="late"), best_round=42, features=("a",) * 30
    )
    for name, value in {"path": tmp_path, "manifest": manifest, "metrics": {"history": [0.5] * 9_999}}.items():
        object.__setattr__(model, name, value)
    summary = {"metrics": {"train": {"auc": 0.9}, "validation": {"rows": 3, "auc": 0.81236, "curve": [1.0] * 999}}}
    assert repr(model) == f"<Model {tmp_path}: binary:logistic for late, 42 rounds, 30 features>"
    result = TrainResult(model, summary)
    assert repr(result) == f"<TrainResult {model!r}; validation: auc 0.8124; more in .summary>"
