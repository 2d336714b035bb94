"""The report, its pictures, the card and the importance: small, safe, from any kind of run."""

import html.parser
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from pipeline.config.metric_registry import title_of
from pipeline.model.importance import gain, permutation
from pipeline.model.inference import features
from pipeline.preprocess.apply import matrix
from pipeline.reports.card import card
from pipeline.reports.data import Bar, ReportData, merged_bars, metric_names, number, plain, thinned
from pipeline.reports.html import report_html
from pipeline.reports.pictures import pictures
from tests.models import TARGETS as MODELS
from tests.models import flights
from tests.reports.examples import NASTY, TARGETS, example

BOKEH_NBYTES = 1.3 * 2**20


class _Tags(html.parser.HTMLParser):
    """Every tag with its attributes, the text outside scripts, and the scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] not in ("script", "style"):
            self.words.append(data)


@pytest.mark.parametrize("kind", TARGETS)
def test_a_report_is_small_quick_and_whole(kind):
    begin = time.perf_counter()
    page = report_html(example(kind))
    assert time.perf_counter() - begin < 10  # about 0.5 s; far below 10 even on a busy machine
    assert len(page) < 2**20 + BOKEH_NBYTES
    read = _Tags(page)
    words = " ".join(read.words)
    for section in ("Learning", "How good it is", "What it uses", "The data", "Where the time went", "The job"):
        assert section in words
    assert "at the best round, 71" in words
    for said in ("42.0 worker-seconds", "unexplained 1.2%", "By stage", "a note of the account"):
        assert said in " ".join(words.split())
    assert {"binary": "AUC", "multiclass": "accuracy", "regression": "RMSE", "ranking": "NDCG@10"}[kind] in words


@pytest.mark.parametrize("kind", TARGETS)
def test_it_asks_the_network_for_nothing_and_runs_nothing_from_outside(kind):
    page = report_html(example(kind))
    read = _Tags(page)
    for tag, attributes in read.tags:
        assert tag not in ("img", "iframe", "link", "object", "embed", "base", "form", "a"), (tag, attributes)
        assert "src" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
    assert "default-src 'none'" in page
    assert "unsafe-eval" not in page
    scripts = re.findall(r"<script[^>]*>(.*?)</script", page, flags=re.DOTALL)
    assert not [script for script in scripts if script.strip().startswith("alert")]
    assert sum(tag == "script" for tag, _ in read.tags) == len(scripts) == page.count("<script")
    assert NASTY not in page


def test_texts_are_never_mathematics_or_marks():
    assert "$$" not in plain(NASTY)
    assert "\\(" not in plain("a \\(x\\)")
    assert plain("a\0b\nc") == "a�b c"
    assert len(plain("x" * 500)) == 200
    data = example("binary")
    page = report_html(ReportData(**{**data.__dict__, "title": "\0roc\0", "notes": ["@@roc@@", "{{ x }}"]}))
    assert "�roc�" in page


def test_a_run_with_nothing_to_show_still_has_a_page():
    data = ReportData("empty", "today", TARGETS["binary"], {})
    page = report_html(data)
    assert len(page) < 20_000  # no chart, no Bokeh
    assert "<h1>empty</h1>" in page
    assert pictures(data) == {}
    one = ReportData(
        "one", "today", TARGETS["binary"], {}, history={"train.auc": [0.5]}, timeline=[Bar("w", "x", 1, 1)]
    )
    assert "AUC" in report_html(one)


def test_long_runs_stay_small():
    data = example("binary", rounds=20_000)
    bars = [Bar(f"w{i % 4}", "blocks", i, i + 0.9) for i in range(50_000)]
    wide = {f"f{i}": 1.0 / (i + 1) for i in range(5_000)}
    page = report_html(ReportData(**{**data.__dict__, "timeline": bars, "gain": wide, "permutation": wide}))
    assert len(page) < 2**20 + BOKEH_NBYTES
    assert len(merged_bars(bars)) <= 4 * 1_500
    rounds, values = thinned(range(100_000))
    assert (rounds[0], rounds[-1], len(values)) == (1, 100_000, 600)


def test_rounds_that_were_not_measured_are_left_out():
    nan = float("nan")
    rounds, values = thinned([0.5, nan, 0.4, None])
    assert (rounds.tolist(), values.tolist()) == ([1, 3], [0.5, 0.4])
    history = {"train.auc": [0.5] * 3, "validation.auc": [0.5, 0.6, 0.7], "validation.logloss": [0.6, 0.5, 0.55]}
    assert metric_names(history, best_round=2) == ["logloss", "auc"]
    assert metric_names({"train.auc": [nan]}) == []
    data = example("binary")
    sparse = [value if i % 10 == 0 else nan for i, value in enumerate(data.history["train.logloss"])]
    page = report_html(ReportData(**{**data.__dict__, "history": {**data.history, "train.logloss": sparse}}))
    assert "at the best round, 71" in page


def test_bars_of_a_worker_are_merged_only_with_their_own():
    bars = [Bar("a", "x", 0, 1), Bar("b", "x", 0.5, 2), Bar("a", "x", 1, 2), Bar("a", "y", 2, 900)]
    assert merged_bars(bars) == [Bar("a", "x", 0, 2), Bar("a", "y", 2, 900), Bar("b", "x", 0.5, 2)]


def test_numbers_read_well():
    assert [number(value) for value in (0.81234, 0, 1.5e-6, 123.456, 1_234_567.8, -70.01, 1e15)] == [
        "0.8123", "0", "1.50e-06", "123.5", "1,234,568", "-70.01", "1.000e+15",
    ]  # fmt: skip
    assert title_of("ndcg@10") == "NDCG@10"
    assert title_of("error_p05") == "error, 5 % quantile"
    assert title_of("pinball_0.9") == "pinball loss (q = 0.9)"


@pytest.mark.parametrize("kind", TARGETS)
def test_pictures_are_pngs(kind):
    made = pictures(example(kind))
    assert set(made) == {"learning", "importance", "quality"}
    for content in made.values():
        assert content.startswith(b"\x89PNG")
        assert len(content) < 200_000


def test_bokeh_and_matplotlib_are_imported_only_to_draw():
    code = (
        "import sys, pipeline.reports.html, pipeline.reports.pictures, pipeline.reports.card\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'bokeh', 'matplotlib', 'dask', 'xgboost'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", MODELS)
def test_importance_finds_what_the_label_was_made_of(make_model, kind):
    model = make_model(kind)
    table = flights(800, seed=4)
    block = matrix(model.recipe, features(model, table))
    label = np.zeros(len(block), dtype=np.float32)
    if kind == "multiclass":
        label = np.searchsorted(model.classes, table["how"].to_numpy(zero_copy_only=False)).astype(np.float32)
    elif kind == "binary":
        label = (table["delay"].to_numpy() > 8).astype(np.float32)
    else:
        label = table["delay"].to_numpy().astype(np.float32)
    assert set(gain(model.booster)) == {"distance", "carrier", "speed"}
    costs, words = permutation(model.booster, model.manifest.target, block, label)
    assert costs["speed"] > 0
    assert costs["carrier"] > 0
    assert "800 training rows" in words
    assert permutation(model.booster, model.manifest.target, block, label)[0] == costs


def test_the_card_is_honest_and_escaped(make_model):
    model = make_model("binary")
    numbers = {"train": {"auc": 0.91, "confusion": [[1, 2], [3, 4]]}, "validation": {"auc": 0.9}}
    text = card(model.manifest, numbers, ["speed", NASTY])
    assert "| AUC | 0.9100 | 0.9000 |" in text
    assert "positive class is True" in text
    assert "distance, minutes, carrier" in text
    assert "<script>" not in text
    assert "No rows were held out" not in text
    assert "No rows were held out" in card(model.manifest, {"train": {"auc": 0.91}})
    assert len(text) < 4_000
