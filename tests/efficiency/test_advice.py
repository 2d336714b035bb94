"""The largest loss of worker time: which it is, what it was spent on, and what changes it."""

import pytest

from pipeline.efficiency.account import KINDS, STAGES, Account, StageTime, sentence
from pipeline.efficiency.advice import explained, largest_loss, other_parts


def account(**stages: StageTime) -> dict[str, object]:
    spent = sum(stages.values(), StageTime())
    return Account(spent.total, {"0": 1}, {"0": spent}, stages).to_dict()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "useful"])
def test_every_loss_has_a_cause_and_a_remedy(kind: str) -> None:
    for stage in STAGES:
        cause, remedy = explained(kind, stage)
        assert cause
        assert remedy


def test_the_largest_loss_is_named_with_what_changes_it() -> None:
    told = largest_loss(account(rounds=StageTime(useful=6, wait=3), saving=StageTime(idle=1)))
    assert told is not None
    assert told.startswith("largest loss: 30 % waiting in rounds: waiting in each round for the slowest worker (")
    told = largest_loss(account(rounds=StageTime(useful=6), saving=StageTime(idle=3), reading=StageTime(other=2)))
    assert told is not None
    assert "output.report = false" in told


def test_small_losses_need_no_advice() -> None:
    assert largest_loss(account(rounds=StageTime(useful=97, wait=3))) is None
    assert largest_loss(account()) is None


def test_other_is_split_into_what_it_is() -> None:
    told = account(rounds=StageTime(useful=80), reading=StageTime(other=15), scheduling=StageTime(other=5))
    assert other_parts(told) == "reading 15 %, scheduling 5 %"
    assert "20 % other (reading 15 %, scheduling 5 %), 0 % idle" in sentence(told)
    assert other_parts(account(rounds=StageTime(useful=99, other=1))) == ""
