"""No name from elsewhere reaches a terminal with its control characters: not on any way out of this program."""

import ast
import io
import json
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli.main import cli
from pipeline.cli.output import metrics_text
from pipeline.cli.progress import Bars, Lines
from pipeline.cli.terminal import closing_errors_as_notes, run
from pipeline.dashboard.markup import text as html_text
from pipeline.errors import DataError
from pipeline.events.types import FragmentDone, Note, RoundDone, WorkerLost
from pipeline.formatting import aligned, for_terminal, json_for_terminal
from tests.test_layers import MODULES

# Title, clipboard, colour (7 and 8 bit), a line erased, text that runs backwards, a lone surrogate.
EVIL = "x\x1b]0;title\x07\x1b]52;c;eHg=\x07\x1b[31m\x9b2J\r\x7f\u202egnp\u2066\udc9b\u2028y"


def harmless(shown: str) -> bool:
    return all(sign.isprintable() or sign == "\n" for sign in shown)


@pytest.fixture
def evil_file(tmp_path: Path) -> Path:
    name = EVIL.replace("\udc9b", "")  # Arrow's names are UTF-8
    pq.write_table(pa.table({name: ["a", EVIL.replace("\udc9b", "")], "target": [0, 1]}), tmp_path / "x.parquet")
    return tmp_path / "x.parquet"


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_names_of_columns(evil_file: Path, more: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["describe", str(evil_file), *more]) == 0
    assert run(cli, ["describe", str(evil_file), "--target", EVIL.replace("\udc9b", "") + "?", *more]) == 2
    out, err = capfd.readouterr()
    assert "title" in out
    assert "title" in err
    assert harmless(out)
    assert harmless(err)
    if more:
        assert json.loads(out.splitlines()[0])["columns"][0]["name"] == EVIL.replace("\udc9b", "")


def test_a_strangers_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    import pipeline

    monkeypatch.setattr(pipeline.Model, "load", lambda path: None)  # as if its hashes were right
    (tmp_path / "manifest.json").write_text(json.dumps({"column": EVIL}, ensure_ascii=False).replace("\udc9b", "\x9b"))
    (tmp_path / "MODEL_CARD.md").write_bytes(f"# {EVIL}\n\n- one\n".encode("utf-8", "replace"))
    for more in ([], ["--json"]):
        assert run(cli, ["describe", str(tmp_path), *more]) == 0
        out = capfd.readouterr().out
        assert "title" in out
        assert harmless(out)


def test_an_error_while_closing_after_success(capfd: pytest.CaptureFixture[str]) -> None:
    with closing_errors_as_notes(["saved"]):
        raise OSError(f"{EVIL} http://me:secret@host/x")
    shown = capfd.readouterr().err
    assert "the model is saved; closing failed: x" in shown
    assert "secret" not in shown
    assert harmless(shown)


def test_errors_of_all_kinds(capfd: pytest.CaptureFixture[str]) -> None:
    @click.command(context_settings={"ignore_unknown_options": True})
    @click.argument("kind")
    def fail(kind: str) -> None:
        error: Exception = {"ours": DataError(EVIL), "click": click.ClickException(EVIL)}.get(kind, KeyError(EVIL))
        error.add_note(f"resume with: {EVIL}")
        raise error

    for kind in ("ours", "click", "theirs", "--debug", "--json"):
        assert run(fail, [kind]) in (1, 2)
        shown = capfd.readouterr()
        assert "title" in shown.err
        assert harmless(shown.err)
        assert harmless(shown.out)


def test_progress() -> None:
    events = [
        Note(message=EVIL), WorkerLost(worker=EVIL, stage=EVIL, round=0, reason=EVIL),
        FragmentDone(stage=EVIL, done=1, total=1, rows=1),
        RoundDone(round=2, rounds=2, metrics={EVIL: 0.5, "[red]x[/red]": 1.0}, best_round=1, rows_per_second=1.0),
    ]  # fmt: skip
    stream, written = io.StringIO(), list[str]()
    lines = Lines(lambda line: written.append(line))
    with Bars(stream) as bars:
        for event in events:
            bars(event)
            lines(event)
    drawn = stream.getvalue()
    assert "[r" in drawn  # no markup of Rich's either; narrow as it is
    for bad in ("\x1b]", "\x9b", "\x07", "\u202e", "\u2066", "\u2028"):
        assert bad not in drawn
        assert not any(bad in line for line in written)


def test_lines_of_progress_as_they_are_written(capfd: pytest.CaptureFixture[str]) -> None:
    from pipeline.cli.progress import listening

    with listening() as listen:
        listen(Note(message=EVIL))
        listen(WorkerLost(worker=EVIL, stage="rounds", round=1, reason=EVIL))
    shown = capfd.readouterr().err
    assert shown.count("\n") == 2
    assert harmless(shown)


def test_tables_and_pages() -> None:
    assert all(map(harmless, aligned([(EVIL, "9"), ("features", "28")])))
    assert harmless(metrics_text({"train": {EVIL: 0.5}}))
    assert harmless(html_text(EVIL))
    assert harmless(for_terminal(f"{EVIL}\n{EVIL}"))
    value = {EVIL: [EVIL, "\U000e0001"]}
    shown = json_for_terminal(json.dumps(value, ensure_ascii=False))
    assert harmless(shown)
    assert json.loads(shown) == value


WRITERS = {  # which modules write, and where
    "pipeline.cli.terminal",  # `show` and `show_json`, through which everything else goes
    "pipeline.cli.progress",  # lines and bars, escaped there
    "pipeline.dashboard.replay",  # a line of its own
    "pipeline.cluster.devices",  # a child process, to its parent
}


def test_no_other_module_writes_to_a_terminal() -> None:
    found = {name for name, path in MODULES.items() for node in ast.walk(ast.parse(path.read_text())) if writes(node)}
    assert found <= WRITERS


def writes(node: Any) -> bool:
    called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
    return called in ("print", "click.echo", "click.secho", "traceback.print_exc", "traceback.print_exception") or (
        called.startswith(("sys.stdout.", "sys.stderr.")) and called.endswith((".write", ".writelines"))
    )
