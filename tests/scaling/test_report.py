"""The page of a scaling run and its pictures: what is shown, in which order, and that nothing comes from elsewhere."""

import dataclasses
import functools
import html.parser
import re
from pathlib import Path

import pytest

from pipeline.efficiency.records import Point, Result, Single
from pipeline.scaling.chart_style import log_axis
from pipeline.scaling.charts import checked, pair_of, ratio_of
from pipeline.scaling.charts_far import workload_of
from pipeline.scaling.explain import explain_result
from pipeline.scaling.pictures import pictures
from pipeline.scaling.report import REPORT, report_html, write_report
from pipeline.scaling.view import summarise_points
from tests.scaling.examples import MACHINE, configuration, point, result

ALL = {"seconds", "split", "predicted", "allreduce", "serial_fraction", "far_seconds", "far_efficiency"}
OPEN_ENDED = {"meta", "br", "path", "use", "rect", "line"}


def crowded(workers: int) -> Point:
    made = point(configuration(workers))
    return dataclasses.replace(made, configuration=dataclasses.replace(made.configuration, oversubscribed=True))


def whole() -> Result:
    """Both modes, one to four workers, one point oversubscribed."""
    strong = [point(configuration(n), slower=1.1, other=1e-4 * n) for n in (1, 2, 4)]
    weak = [point(configuration(n, rows=50_000 * n, mode="weak"), other=1e-4) for n in (1, 2, 4)]
    made = result(*strong, crowded(8), *weak)
    made = dataclasses.replace(made, singles=(*made.singles, Single("weak", 200_000, 4, (0.01,) * 5)))
    return dataclasses.replace(made, sentences=explain_result(made, MACHINE))


@functools.cache
def whole_page() -> str:
    """Drawn once: it takes a second."""
    return report_html(whole(), MACHINE)


class Balance(html.parser.HTMLParser):
    """Whether every tag that is opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in OPEN_ENDED:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in OPEN_ENDED:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def words_of(page: str) -> str:
    reader = Balance()
    reader.feed(page)
    assert reader.open == []
    return " ".join(" ".join(reader.texts).split())


@pytest.mark.slow
def test_one_page_with_every_picture_and_nothing_from_elsewhere(tmp_path: Path) -> None:
    write_report(whole(), MACHINE, tmp_path)
    page = (tmp_path / REPORT).read_text(encoding="utf-8")
    assert {path.stem for path in tmp_path.glob("*.png")} == ALL
    assert all(path.stat().st_size < 150_000 for path in tmp_path.glob("*.png"))
    assert page.count("<svg") == page.count('role="img"') == len(ALL)
    assert not re.search(r"(src|href)=\"(?!#)", page)
    assert "<script" not in page
    assert "default-src 'none'" in page


def test_the_page_escapes_what_comes_from_outside() -> None:
    page = report_html(dataclasses.replace(whole(), sentences=("a <b>sentence</b>",)), MACHINE)
    assert "<of>" not in page
    assert "<note>" not in page
    assert "<b>sentence" not in page
    assert "rows <of> an example" in words_of(page)


def test_ids_do_not_repeat_across_the_pictures_of_a_page() -> None:
    page = whole_page()
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    names = [name for drawing in drawings for name in set(re.findall(r' id="([^"]+)"', drawing))]
    assert len(names) == len(set(names))
    for drawing in drawings:
        assert set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", drawing)) <= set(re.findall(r' id="([^"]+)"', drawing))


def test_the_headline_is_ge_then_pe_then_e_with_its_seconds() -> None:
    made = whole()
    said = words_of(whole_page())
    told = next(p for p in summarise_points(made) if p.workers == 4 and p.configuration.mode == "strong")
    order = [
        said.index(name) for name in ("GE, global efficiency", "PE, parallel efficiency", "E, compute per overhead")
    ]
    assert order == sorted(order)
    assert "4 workers of 1 thread · strong scaling · 5 repetitions of 10 rounds" in said
    for figure in (f"{told.GE:.3f}", f"{told.PE:.3f}", f"{told.E:.2f} {1e3 * told.mean('useful'):.1f} ms compute,"):
        assert figure in said
    assert f"T {1e3 * told.seconds.median:.1f} ms" in said


def test_every_factor_of_every_point_is_in_its_table() -> None:
    made = whole()
    said = words_of(whole_page())
    for seen_point in summarise_points(made):
        for name in ("GE", "PE", "LB", "CommE", "SerE", "TE", "CompS"):
            assert f"{getattr(seen_point, name):.3f}" in said
    assert "strong, 8 workers*" in said
    assert "* oversubscribed" in said


def test_sentences_checks_and_notes_are_on_the_page() -> None:
    made = whole()
    said = words_of(whole_page())
    for line in made.sentences:
        assert line in said
    assert "How far to trust it" in said
    assert "a <note>" in said


def test_oversubscribed_points_check_no_model() -> None:
    made = whole()
    assert {p.workers for p in checked(made)} == {1, 2, 4}
    assert "predicted" not in pictures(result(crowded(2), single_seconds=None), None, "svg")


def test_measured_and_predicted_are_paired() -> None:
    one, two = summarise_points(result(point(configuration(1)), point(configuration(2), slower=1.25)))
    was, will = pair_of(two, "T")
    assert was == two.seconds.median
    assert two.predicted is not None
    assert will == two.predicted.seconds
    assert ratio_of(two, "T") == pytest.approx(1 / (1.25 * 1.02))
    assert pair_of(one, "E") == (None, None)
    assert ratio_of(one, "C") is None


def test_pictures_of_what_there_is() -> None:
    alone = result(point(configuration(1)), single_seconds=None)
    drawn = pictures(alone, None, "png")
    assert set(drawn) == {"seconds", "split", "predicted"}
    assert all(picture.content.startswith(b"\x89PNG") for picture in drawn.values())
    assert set(pictures(dataclasses.replace(alone, points=()), MACHINE, "png")) == {"allreduce"}
    said = words_of(report_html(alone, None))
    assert "No single process was measured" in said
    assert "There is one worker: no figure." in said


def test_the_same_result_gives_the_same_page() -> None:
    assert report_html(whole(), MACHINE) == whole_page()


def test_an_empty_result_has_a_page_too(tmp_path: Path) -> None:
    write_report(dataclasses.replace(result(), points=(), singles=()), None, tmp_path)
    assert "Nothing was measured." in words_of((tmp_path / REPORT).read_text(encoding="utf-8"))
    assert list(tmp_path.glob("*.png")) == []


def test_many_workers_are_folded_and_only_the_ends_of_each_point_are_drawn() -> None:
    many = result(*(point(configuration(n)) for n in (1, 8, 16)), single_seconds=None)
    assert "all 25 workers" in words_of(report_html(many, MACHINE))
    drawn = pictures(many, None, "svg")["split"]
    assert drawn.content.count(b"strong 16, worker") == 2
    assert "computes least" in drawn.caption


def test_an_axis_of_nearly_equal_values_has_several_numbers() -> None:
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    axes.plot([1, 2], [40.0, 41.0])
    log_axis(axes, "y")
    low, high = axes.get_ylim()
    assert high / low == pytest.approx(2)
    assert len([tick for tick in axes.get_yticks() if low <= tick <= high]) >= 2


def test_bytes_are_shown_as_predicted_sent_and_computed():
    page = report_html(result(point(configuration(2))), MACHINE)
    (two,) = summarise_points(result(point(configuration(2))))
    assert two.predicted is not None
    row = page[page.index("Bytes that worker 0 sends") :]
    row = row[: row.index("</div>")]
    assert f">{two.predicted.bytes_bound[0]:,}<" in row
    assert f">{two.predicted.bytes_estimate[0]:,}<" in row
    assert row.count(">100<") == 2
    assert "Bytes that worker 0 sends" not in report_html(result(point(configuration(1))), MACHINE)


def test_far_curves_continue_with_the_rows_that_were_measured():
    made = result(*(point(configuration(2, rows=n, mode=mode)) for n, mode in ((200_000, "strong"), (600_000, "weak"))))
    assert workload_of(made, "strong").total_rows == 200_000
    assert workload_of(made, "weak").rows == (300_000, 300_000)
    alone = result(point(configuration(2, rows=200_000)))
    assert workload_of(alone, "weak").rows == (100_000, 100_000)  # not measured: as many each as there were
    captions = [picture.caption for name, picture in pictures(made, MACHINE, "svg").items() if name == "far_efficiency"]
    assert captions[0].startswith("With 300,000 rows on each worker")
