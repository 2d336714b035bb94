"""The pages in Bokeh documents, without a browser: what they say, what they draw, and that little is sent."""

import math
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from bokeh.document import Document
from bokeh.document.events import ColumnDataChangedEvent, ColumnsStreamedEvent, DocumentPatchedEvent
from bokeh.models import Column, ColumnDataSource, GlyphRenderer, Select
from bokeh.models.widgets import Div
from bokeh.plotting import figure

from pipeline.dashboard.pages.registry import INDIVIDUAL, PAGES, Page
from pipeline.dashboard.window import RedrawThrottle
from pipeline.events.types import (
    Event,
    JobResolved,
    Note,
    Place,
    Placed,
    Restarted,
    Saved,
    Started,
    Waiting,
    WorkerRounds,
)
from pipeline.monitoring.state.run_store import RunStore
from tests.dashboard import recorded
from tests.monitoring.state.test_run_store import filled, round_done

ALL = (*PAGES, *INDIVIDUAL)
TRAINING, EFFICIENCY, WORKERS = PAGES


def drawn(page: Page, board: RunStore, now: float = 0.0, asked: str = "") -> Document:
    """`asked`: the run that the page's address names."""
    doc = Document()
    context = SimpleNamespace(request=SimpleNamespace(arguments={"run": [asked.encode()]} if asked else {}))
    doc._session_context = lambda: context  # type: ignore[assignment,return-value]
    page.make(doc, lambda: board, lambda: now or max((run.heard for run in board.runs.values()), default=0.0))
    return doc


def words(doc: Document) -> str:
    """The text of the page, from the top."""

    def below(model: Any) -> Iterator[str]:
        if isinstance(model, Div):
            yield model.text
        for child in getattr(model, "children", ()):
            yield from below(child)

    return "\n".join(text for root in doc.roots for text in below(root))


def tick(doc: Document) -> None:
    for callback in doc.session_callbacks:
        callback.callback()


def sources(doc: Document) -> list[dict[str, Any]]:
    """The data of everything that is drawn."""
    found = [model.data_source for model in doc.models if isinstance(model, GlyphRenderer)]
    return [dict(source.data) for source in found if isinstance(source, ColumnDataSource)]


def partly(said: Iterable[tuple[str, Event]], share: float) -> tuple[RunStore, list[tuple[str, Event]]]:
    """A board that has heard the first part, and what is left."""
    events = list(said)
    at = int(share * len(events))
    return filled(events[:at]), events[at:]


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.route)
@pytest.mark.parametrize(
    "said", [recorded.binary, recorded.multiclass, recorded.ranking, recorded.failed, recorded.everything, list],
    ids=lambda said: said.__name__,
)  # fmt: skip
def test_every_page_shows_every_run(page: Page, said: Callable[[], Iterable[tuple[str, Event]]]) -> None:
    doc = drawn(page, filled(said()))
    doc.validate()
    assert doc.title == page.title
    assert "mslr-<b>" not in words(doc)
    assert "<min>" not in words(doc)
    doc.to_json()


@pytest.mark.parametrize("share", [0.001, 0.01, 0.03, 0.06, 0.2, 0.48, 0.6, 0.99])
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.route)
def test_every_page_at_every_moment(page: Page, share: float) -> None:
    board, _ = partly(recorded.binary(), share)
    drawn(page, board).validate()


def test_routes_are_our_own() -> None:
    assert [page.route for page in PAGES] == ["/training", "/efficiency", "/team"]
    assert all(page.route.startswith("/individual-training-") for page in INDIVIDUAL)
    assert len({page.route for page in ALL}) == len(ALL)


def test_training_answers_what_a_person_asks() -> None:
    board, _ = partly(recorded.binary(), 0.6)
    said = words(drawn(TRAINING, board))
    run = board.runs["flights-3f2a"]
    assert f"round {run.round} of 300" in said
    assert "running for" in said
    assert "about 3" in said  # seconds still, of 300 rounds at four a second
    assert "How good: validation.auc" in said
    assert "worker 1" in said
    assert "1 worker lost" in said
    assert "restarted 1 time" in said
    assert "worker 1 lost at round 137: killed by signal 9" in said
    assert "62% at most" in said or "63% at most" in said
    assert "flights/*.parquet" in said
    assert "6,400,000" in said


def test_a_run_that_falls_silent_is_named() -> None:
    board, _ = partly(recorded.binary(), 0.3)
    now = board.runs["flights-3f2a"].heard
    assert "no event for 10 min 0 s" in words(drawn(TRAINING, board, now + 600))
    assert "no event for" not in words(drawn(TRAINING, board, now + 5))


def test_a_lost_worker_interrupts_what_is_left() -> None:
    board, rest = partly(recorded.binary(), 0.0)
    for run, event in rest:
        board.apply(run, event)
        said = words(drawn(TRAINING, board)) if isinstance(event, (Waiting, Restarted)) else ""
        if isinstance(event, Waiting):
            assert "interrupted" in said
            assert "then about 4" in said
            assert "away: worker 1" in said
    assert "interrupted" not in words(drawn(TRAINING, board))


def test_before_the_rounds_the_stage_has_an_end() -> None:
    board, _ = partly(recorded.binary(), 0.02)
    said = words(drawn(TRAINING, board))
    assert "of blocks; all of it is known after the first rounds" in said or "of statistics; all of it" in said


def test_who_attaches_late_takes_earlier_stages_for_done() -> None:
    board = filled(list(recorded.binary())[200:400])
    said = words(drawn(TRAINING, board))
    assert said.count("<small>done</small>") == 3  # statistics, blocks, matrix
    assert said.count("to come") == 1  # evaluate


def test_a_failed_run_says_why() -> None:
    said = words(drawn(TRAINING, filled(recorded.failed())))
    assert "failed" in said
    assert "column &#x27;delay &lt;min&gt;&#x27; has infinite values" in said


def test_curves_of_several_metrics() -> None:
    doc = drawn(TRAINING, filled(recorded.multiclass()))
    said = words(doc)
    assert said.index("<h3>merror") < said.index("<h3>mlogloss")  # the deciding one first
    assert "stopped early" in said
    lines = [data for data in sources(doc) if "value" in data]
    assert len(lines) == 4
    assert all(len(data["round"]) == 88 for data in lines)


def test_metrics_may_change_from_run_to_run() -> None:
    board = filled(recorded.multiclass())
    doc = drawn(TRAINING, board)
    for run, event in recorded.ranking():
        board.apply(run, event)
    tick(doc)
    said = words(doc)
    assert "<h3>ndcg@10" in said
    assert "merror" not in said.replace("validation.merror", "")


def test_speed_has_a_gap_where_the_run_was_interrupted() -> None:
    doc = drawn(TRAINING, filled(recorded.binary()))
    rate = next(data["rate"] for data in sources(doc) if "rate" in data and "round" in data)
    assert sum(math.isnan(each) for each in rate) == 1
    assert min(each for each in rate if not math.isnan(each)) > 3


def test_rounds_that_are_reported_at_once_make_no_peak_of_speed() -> None:
    board = RunStore()
    for number in range(1, 201):
        late = 0.49 if number % 50 == 0 else 0.0  # it arrives with the next one
        board.apply("a", round_done(number, 10.0 + 0.5 * number + late, rounds=300))
    rate = next(data["rate"] for data in sources(drawn(TRAINING, board)) if "rate" in data and "round" in data)
    assert max(rate) < 4


@pytest.mark.parametrize("page", INDIVIDUAL, ids=lambda page: page.route)
def test_single_drawings_fill_their_window_and_say_why_they_are_empty(page: Page) -> None:
    board = RunStore()
    doc = drawn(page, board)
    assert "No training yet" in words(doc)
    board.apply("a", Started(time=1.0, verb="train", run="a"))
    tick(doc)
    assert "known after the first rounds" in words(doc)
    for run, event in recorded.ranking():
        board.apply(run, event)
    tick(doc)
    (root,) = doc.roots
    assert isinstance(root, Column)
    assert root.sizing_mode == "stretch_both"
    figures = [model for model in root.references() if isinstance(model, figure)]
    assert {model.sizing_mode for model in figures} <= {"stretch_both"}
    assert len(figures) > 0 or page.route.endswith("progress")


def test_without_early_stopping_no_round_is_called_the_best() -> None:
    board = RunStore()
    board.apply("a", JobResolved(time=0.0, settings={"training.early_stopping": "0"}))
    for number in range(1, 20):
        board.apply("a", round_done(number, float(number), rounds=300, best=0.5))
    said = words(drawn(TRAINING, board))
    assert "in the latest round" in said
    assert "best round" not in said
    assert "stops early" not in said


def test_before_the_rounds_the_page_says_what_will_be_drawn() -> None:
    board, _ = partly(recorded.binary(), 0.02)
    assert "drawn here as soon as the rounds begin" in words(drawn(TRAINING, board))
    assert "drawn here" not in words(drawn(TRAINING, filled(recorded.binary())))


def test_a_run_without_rounds_says_so_everywhere() -> None:
    for page in PAGES:
        assert "the rounds were not reached" in words(drawn(page, filled(recorded.failed())))


def test_efficiency_names_the_straggler() -> None:
    doc = drawn(EFFICIENCY, filled(recorded.binary()))
    assert "The others wait for <b>worker 1</b>" in words(doc)
    assert "PE, parallel efficiency" in words(doc)
    last = next(data for data in sources(doc) if "useful" in data)
    assert list(last["worker"]) == ["0", "1"]
    total = sum(last[part][0] for part in ("useful", "transfer", "wait", "other"))
    assert total == pytest.approx(250, rel=0.05)
    assert last["wait"][0] > last["wait"][1] == 0


def test_too_few_cores_are_named() -> None:
    board = RunStore()
    for name in "01":
        board.apply("c", WorkerRounds(time=1.0, worker=name, first=1, round=4, seconds=4.0, cpu_seconds=1.6,
                                     runqueue_seconds=2.0, bytes_sent=1, memory_nbytes=1))  # fmt: skip
    assert "For 50% of it they have no core" in words(drawn(EFFICIENCY, board))
    assert "without a core for 50%" in words(drawn(TRAINING, board))


def test_workers_shows_shares_memory_and_what_became_of_them() -> None:
    doc = drawn(WORKERS, filled(recorded.binary()))
    said = words(doc)
    for shown in ("4,100,000", "64.1%", "1 time", "killed by signal 9", "2 workers took part"):
        assert shown in said
    memory = next(data for data in sources(doc) if "memory" in data)
    assert list(memory["limit"]) == [2.0, 2.0]
    assert (memory["memory"] < memory["limit"]).all()
    spans = next(data for data in sources(doc) if "left" in data)
    assert list(spans["worker"]) == ["0", "1", "1"]
    assert all(left < right for left, right in zip(spans["left"], spans["right"], strict=True))


def test_gpus_have_their_columns() -> None:
    board = RunStore()
    board.apply("g", WorkerRounds(time=1.0, worker="0", first=1, round=9, seconds=1.0, cpu_seconds=0.1, runqueue_seconds=0.0,
                                 bytes_sent=None, memory_nbytes=10**9, gpu_memory_nbytes=20 * 10**9, gpu_utilisation=0.93))  # fmt: skip
    assert "20 GB" in words(drawn(WORKERS, board))
    assert "93%" in words(drawn(WORKERS, board))
    assert "On GPUs" in words(drawn(EFFICIENCY, board))


def test_very_many_workers_are_picked_from() -> None:
    board = RunStore()
    names = [f"w{i}" for i in range(1_000)]
    board.apply("m", Placed(time=1.0, workers=tuple(Place(
        worker=name, rows=1, share=0.001, capability=0.001, threads=1, memory_limit_nbytes=10**9, planned_nbytes=10**8
    ) for name in names)))  # fmt: skip
    for i, name in enumerate(names):
        board.apply("m", WorkerRounds(time=2.0, worker=name, first=1, round=1, seconds=1.0, cpu_seconds=0.2 + i / 2_000,
                                     runqueue_seconds=0.0, bytes_sent=1, memory_nbytes=i * 10**6))  # fmt: skip
    for page in PAGES:
        doc = drawn(page, board)
        assert max((len(data.get("worker", ())) for data in sources(doc)), default=0) <= 24
        assert len(words(doc)) < 200_000
    assert "worker w999" in words(drawn(EFFICIENCY, board))


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.route)
def test_nothing_is_sent_where_nothing_changed(page: Page) -> None:
    doc = drawn(page, filled(recorded.everything()))
    sent: list[Any] = []
    doc.on_change(sent.append)
    tick(doc)
    assert sent == []


def test_only_the_new_end_of_a_curve_is_sent() -> None:
    board, rest = partly(recorded.binary(killed=False), 0.5)
    doc = drawn(TRAINING, board)
    sent: list[DocumentPatchedEvent] = []
    doc.on_change_dispatch_to(_Receiver(sent))
    for run, event in rest[:20]:
        board.apply(run, event)
    tick(doc)
    streamed = [event for event in sent if isinstance(event, ColumnsStreamedEvent)]
    curves = [event for event in streamed if "value" in event.data]
    assert len(curves) == 4
    assert all(len(event.data["value"]) < 10 for event in curves)
    assert not [event for event in sent if isinstance(event, ColumnDataChangedEvent) and "value" in event.model.data]


def test_a_run_can_be_chosen() -> None:
    board = filled(recorded.everything())
    doc = drawn(TRAINING, board)
    (select,) = [model for model in doc.models if isinstance(model, Select)]
    assert select.visible
    assert [value for value, _ in select.options] == [
        "",
        "mslr-<b>1</b>",
        "covertype-77b0",
        "broken-01",
        "flights-3f2a",
    ]
    assert "mslr-&lt;b&gt;" in words(doc)
    select.value = "flights-3f2a"
    assert "train flights-3f2a" in words(doc)
    board.apply("newer", Started(time=recorded.BEGIN + 9_999, verb="train", run="newer"))
    tick(doc)
    assert "train flights-3f2a" in words(doc)  # what was chosen stays
    del board.runs["flights-3f2a"]
    tick(doc)
    assert "train newer" in words(doc)


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.route)
def test_a_run_that_is_asked_for_is_waited_for(page: Page) -> None:
    board = filled(recorded.binary())
    doc = drawn(page, board, asked="a<b>")
    said = words(doc)
    assert "Run a&lt;b&gt; is not known here (yet)" in said
    assert "flights" not in said
    (select,) = [model for model in doc.models if isinstance(model, Select)]
    assert select.visible
    assert [value for value, _ in select.options] == ["", "flights-3f2a", "a<b>"]
    select.value = "flights-3f2a"
    assert "not known here" not in words(doc)
    select.value = "a<b>"
    assert "not known here" in words(doc)
    board.apply("a<b>", Started(time=1.0, verb="evaluate", run="a<b>"))  # not the newest
    tick(doc)
    said = words(doc)
    assert "not known here" not in said
    assert select.value == "a<b>"
    doc.validate()


def test_a_run_that_is_asked_for_is_shown() -> None:
    board = filled(recorded.everything())
    for page in PAGES:
        assert "train flights-3f2a" in words(drawn(page, board, asked="flights-3f2a"))


def test_one_run_needs_no_selector() -> None:
    (select,) = [model for model in drawn(TRAINING, filled(recorded.binary())).models if isinstance(model, Select)]
    assert not select.visible


def test_a_page_that_takes_long_to_draw_is_drawn_less_often() -> None:
    clock, times = [0.0], []

    class Slow:
        root = Div()

        def update(self, run: object, now: float) -> None:
            times.append(clock[0])
            clock[0] += 0.1

    shown, run = RedrawThrottle([Slow()], lambda: clock[0]), filled(recorded.ranking()).runs["mslr-<b>1</b>"]
    while clock[0] < 60:
        run.apply(Note(time=1.0, message=str(clock[0])))
        shown.update(run, clock[0])
        clock[0] += 0.5
    assert len(times) <= 13
    assert len(times) >= 10
    drawings = len(times)
    shown.update(run, clock[0])
    assert len(times) == drawings
    run.apply(Saved(time=2.0, path="m", sha256=""))
    shown.update(run, clock[0])  # at once: its scheduler may end with it
    assert len(times) == drawings + 1


class _Receiver:
    """What Bokeh dispatches a document's changes to."""

    def __init__(self, sent: list[DocumentPatchedEvent]) -> None:
        self._sent = sent

    def _document_patched(self, event: DocumentPatchedEvent) -> None:
        self._sent.append(event)
