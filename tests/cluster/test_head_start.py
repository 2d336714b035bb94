"""What refuses a job is looked at before a cluster starts for it."""

import threading
from typing import NoReturn

import pytest

from pipeline.cluster.head_start import HeadStart, NotStarted
from pipeline.cluster.interrupts import finish


def test_nothing_is_started_where_the_look_fails() -> None:
    started: list[str] = []

    def look() -> NoReturn:
        raise ValueError("no such column")

    ahead = HeadStart(look, seconds=60)
    with pytest.raises(ValueError, match="no such column"):
        finish(ahead.held(lambda: started.append("cluster")), meanwhile=ahead.before(lambda: started.append("more")))
    assert started == []
    with pytest.raises(NotStarted):
        ahead.held(lambda: None)()


def test_a_cluster_starts_during_a_survey_that_takes_long() -> None:
    """And is undone where the look fails after that."""
    up, undone = threading.Event(), []

    def look() -> NoReturn:
        assert up.wait(10)
        raise ValueError("no answer")

    ahead = HeadStart(look, seconds=0.01)
    with pytest.raises(ValueError, match="no answer"):
        finish(ahead.held(up.set), undone.append, ahead.before(lambda: None))
    assert len(undone) == 1


def test_after_the_survey_both_continue() -> None:
    order: list[str] = []
    ahead = HeadStart(lambda: order.append("look"), seconds=60)
    assert finish(ahead.held(lambda: 7), meanwhile=ahead.before(lambda: order.append("then"))) == 7
    assert order == ["look", "then"]
