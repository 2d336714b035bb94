"""Every row of the table on both kinds of cluster: it ends as the row says, with the undisturbed run's model."""

import random

import pytest

from benchmarks.faults.bench import Bench
from benchmarks.faults.flips import flip_all
from benchmarks.faults.places import KINDS, Kind
from benchmarks.faults.table import TABLE, Row, rows
from benchmarks.faults.trial import Trial

from .conftest import Places

QUICK = {"worker killed in the middle", "newest checkpoint flipped"}  # the others are slow together
PLAYED = [
    pytest.param(kind, row, id=f"{kind}-{row.fault}", marks=() if row.fault in QUICK else pytest.mark.slow)
    for kind in KINDS
    for row in rows(kind)
    if row.write is not None
]


@pytest.mark.parametrize(("kind", "row"), PLAYED)
def test_a_fault_ends_as_its_row_says(bench: Bench, places: Places, kind: Kind, row: Row) -> None:
    outcome = row.outcome(kind)
    assert row.write is not None
    assert outcome is not None
    Trial(bench, places(kind)).play(row.write, outcome)


def test_one_model_on_both_kinds(bench: Bench, places: Places) -> None:
    local, processes = (bench.undisturbed(places(kind)) for kind in KINDS)
    assert local.model == processes.model
    assert local.last_round < 200, "early stopping has to end the run"


def test_a_flipped_model_folder_is_refused(bench: Bench, places: Places) -> None:
    flipped = flip_all(bench.a_model(places("local")), 200, random.Random(1))
    assert flipped.files >= 7  # report and pictures among them
    assert flipped.wrong == ()


def test_the_table_names_every_fault_once() -> None:
    assert len({row.fault for row in TABLE}) == len(TABLE)
    assert all(row.local or row.processes for row in TABLE)
