"""Predicting in a process that was forked after a prediction: OpenMP's threads are not in the child."""

import os
import select
import signal
import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from pipeline.model import inference
from pipeline.model.artifact import Model
from tests.models import flights

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="no os.fork, or no os.pidfd_open, on this system")
SECONDS = 20.0  # that a child may take on a busy machine; some 0.01 on an idle one


def forked(work: Callable[[], None]) -> int | None:
    """The exit status of a child that does this: 0; 1 where it raised; None where it had to be killed."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # Python warns of forks in a process with threads, which this tests
        child = os.fork()
    if not child:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    ended = os.pidfd_open(child)
    try:
        in_time, _, _ = select.select([ended], [], [], SECONDS)
    finally:
        os.close(ended)
    if not in_time:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if in_time else None


@pytest.mark.parametrize("kind", ["binary", "quantiles"])
def test_a_forked_child_predicts_a_row(make_model: Callable[..., Model], kind: str) -> None:
    model = make_model(kind).with_threads(2)
    table = flights(20_000, seed=4)
    whole = model.predict(table)  # starts OpenMP's threads
    row = table.slice(7, 1).to_pylist()[0]

    def work() -> None:
        for data in (row, table.slice(7, 1), pd.DataFrame([row])):
            assert np.array_equal(model.predict(data), whole[7:8])
        assert model.contributions(row).shape[0] == 1

    assert forked(work) == 0


def test_few_rows_are_predicted_by_one_thread(make_model: Callable[..., Model]) -> None:
    model = make_model("binary").with_threads(2)
    table = flights(inference.FEW_ROWS, seed=4)
    threads = []
    for rows in (inference.FEW_ROWS - 1, inference.FEW_ROWS):
        model.predict(table.slice(0, rows))
        config = model.booster_for(rows).save_config()
        threads.append("1" if '"nthread":"1"' in config else "2" if '"nthread":"2"' in config else config)
    assert threads == ["1", "2"]
    single = model.with_threads(1)
    assert single.booster_for(3) is single.booster  # not made twice
