"""What a scaling result comes to, and the words, table and page that say it."""

import dataclasses
import re
from pathlib import Path

import pytest

from pipeline.efficiency.explain import losses_of, sentences
from pipeline.efficiency.pictures import pictures
from pipeline.efficiency.report import write_report
from pipeline.efficiency.table import table
from pipeline.efficiency.view import seen, telling
from tests.efficiency.examples import MACHINE, configuration, point, result


def test_medians_and_figures_of_a_point():
    one, two = seen(result())
    assert two.seconds.low <= two.seconds.median <= two.seconds.high
    assert two.PE == pytest.approx(two.LB * two.CommE)
    assert one.GE == 1.0  # of two threads for one core it would take longer: itself is the best single process
    assert two.GE == pytest.approx(0.02 / two.seconds.median)
    assert one.CompS == 1.0
    speedup = one.seconds.median / two.seconds.median
    assert two.serial_fraction == pytest.approx((1 / speedup - 1 / 2) / (1 - 1 / 2))
    assert one.serial_fraction is None


def test_without_a_base_case_there_is_no_global_efficiency():
    (two,) = seen(result(point(configuration(2)), single_seconds=None))
    assert (two.GE, two.CompS, two.serial_fraction) == (None, None, None)


def test_weak_scaling_is_counted_by_row():
    points = [point(configuration(n, rows=100_000 * n, mode="weak")) for n in (1, 2)]
    one, two = seen(result(*points))
    assert two.CompS == pytest.approx(sum(s.useful for s in one.splits) * 2 / sum(s.useful for s in two.splits))
    assert two.serial_fraction is None


def test_transfer_is_named_and_cheaper_exchanges_are_proposed():
    loss, cause, change = sentences(result(point(configuration(2, rows=20_000)), single_seconds=None), MACHINE)
    assert "the largest loss is transfer" in loss or "replicated" in loss
    assert "The cause:" in cause
    assert re.search(r"predicted to take \d+% off a round", change)


def test_uneven_shares_are_named_with_their_worker():
    uneven = point(configuration(2, rows=400_000, shares=(0.2, 0.8)))
    loss, cause, change = sentences(result(uneven, single_seconds=None), MACHINE)
    assert "largest loss is imbalance" in loss
    assert "worker 1 has 80% of the rows" in cause
    assert "even shares of the rows" in change


def test_the_run_queue_is_named():
    _, cause, _ = sentences(result(point(configuration(2), other=0.5), single_seconds=None), MACHINE)
    assert "had no core" in cause


def test_a_better_single_process_is_proposed_with_its_measured_gain():
    _, _, change = sentences(result(point(configuration(2)), single_seconds=0.001), MACHINE)
    assert "one process without a cluster, with all 2 threads, was measured to take" in change


def test_one_worker_alone_exchanges_nothing():
    (said,) = sentences(result(point(configuration(1))), MACHINE)
    assert "nothing is exchanged" in said


def test_without_a_machine_no_gain_is_predicted():
    said = sentences(result(point(configuration(2)), single_seconds=None), None)
    assert len(said) == 3
    assert "predicted" not in said[2]


def test_oversubscribed_points_are_told_of_last():
    crowded = point(configuration(4))
    crowded = dataclasses.replace(
        crowded, configuration=dataclasses.replace(crowded.configuration, oversubscribed=True)
    )
    told = telling(result(point(configuration(2)), crowded))
    assert told is not None
    assert told.workers == 2


def test_the_replicated_part_is_the_models():
    (two,) = seen(result(point(configuration(2)), single_seconds=None))
    with_model, without = losses_of(two, MACHINE), losses_of(two, None)
    assert with_model["replicated split evaluation"] > 0
    assert set(without) == {"imbalance", "transfer", "waiting", "run queue"}


def test_the_table_puts_measured_and_predicted_side_by_side():
    lines = table(result(point(configuration(2), slower=1.25))).splitlines()
    assert lines[0] == "rows <of> an example"
    row = next(line for line in lines if line.startswith("strong, 2 workers"))
    assert " 0.78 " in row  # predicted over measured: 1 / (1.25 * 1.02)
    assert any("a single process without a cluster, 2 threads: 20.00 ms" in line for line in lines)


def test_an_empty_result_has_a_report_too(tmp_path: Path):
    empty = dataclasses.replace(result(), points=(), singles=())
    assert sentences(empty, None) == ()
    write_report(empty, None, tmp_path)
    assert "How it scales" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_report_is_one_page_with_every_picture_and_nothing_from_elsewhere(tmp_path: Path):
    made = result(*(point(configuration(n)) for n in (1, 2)), *(point(configuration(n, mode="weak")) for n in (1, 2)))
    made = dataclasses.replace(made, sentences=sentences(made, MACHINE))
    write_report(made, MACHINE, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<of>" not in page
    assert "<note>" not in page
    assert page.count("<svg") == len(list(tmp_path.glob("*.png"))) == 6
    assert not re.search(r"(src|href)=\"(?!#)", page.replace("xlink:href", "href"))
    order = [page.index(name) for name in ("GE, global efficiency", "PE, parallel efficiency", ">E<")]
    assert order == sorted(order)
    assert all(path.stat().st_size < 150_000 for path in tmp_path.glob("*.png"))


def test_pictures_of_what_there_is():
    alone = result(point(configuration(1)), single_seconds=None)
    assert set(pictures(alone, None, "png")) == {"seconds", "split", "predicted"}
    assert all(content.startswith(b"\x89PNG") for content in pictures(alone, None, "png").values())
