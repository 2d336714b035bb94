"""Every row of the table on both kinds of cluster: it ends as the row says, with the undisturbed run's model."""

import logging
import random

import pytest

from faults.bench import Bench
from faults.flips import flip_all
from faults.places import KINDS, Kind
from faults.runs import Missed
from faults.table import TABLE, Row, rows
from faults.trial import Trial
from faults.workloads import USUAL

from .conftest import Places

QUICK = {"worker killed in the middle"}  # the others are slow together
TURNS = (USUAL, "multi-class", "matrix on disk")
PLAYED = [
    pytest.param(kind, row, number, id=f"{kind}-{row.fault}", marks=() if row.fault in QUICK else pytest.mark.slow)
    for kind in KINDS
    for number, row in enumerate(row for row in rows(kind) if row.write is not None and kind in row.tested)
]


@pytest.mark.parametrize(("kind", "row", "number"), PLAYED)
def test_a_fault_ends_as_its_row_says(bench: Bench, places: Places, kind: Kind, row: Row, number: int) -> None:
    """On a running scheduler some workloads take turns: each costs an undisturbed run; `make chaos` has all of them."""
    outcome = row.outcome(kind)
    assert row.write is not None
    assert outcome is not None
    turns = [name for name in TURNS if name in row.workloads]
    workload = USUAL if kind == "local" or row.fault in QUICK else turns[number % len(turns)]
    trial = Trial(bench, places(kind), workload=workload)
    try:
        trial.play(row.write, outcome)
    except Missed as error:  # it proves nothing: e.g. Dask's nanny never started its worker again, which `heal` mends
        logging.getLogger(__name__).warning(error)
        trial.play(row.write, outcome)


@pytest.mark.slow
def test_one_model_on_both_kinds(bench: Bench, places: Places) -> None:
    local, processes = (bench.undisturbed(places(kind)) for kind in KINDS)
    assert local.model == processes.model
    assert local.last_round < 200, "early stopping has to end the run"


@pytest.mark.slow
def test_a_flipped_model_folder_is_refused(bench: Bench, places: Places) -> None:
    flipped = flip_all(bench.a_model(places("local")), 200, random.Random(1))
    assert flipped.files >= 7  # report and pictures among them
    assert flipped.wrong == ()


def test_the_table_names_every_fault_once() -> None:
    assert len({row.fault for row in TABLE}) == len(TABLE)
    assert all(row.local or row.processes for row in TABLE)
