"""Alarm expressions: what is accepted, and the errors for what is not."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.alarms import DURATIONS, LIVE, OCCASIONAL, PLAIN, SHARES, Condition, ExpressionError, parse
from pipeline.config.fields import job_fields
from pipeline.config.job import Alarm, Job
from pipeline.errors import JobError

SMALLEST: dict[str, Any] = {"data": {"source": "files", "target": "y"}}

RIGHT = {
    "pe < 0.6 for 60s": ("pe", "<", 0.6, 60.0),
    "memory > 0.9": ("memory", ">", 0.9, 0.0),
    "no_progress for 120s": ("no_progress", ">=", 120.0, 0.0),
    "validation.auc drops 0.02": ("validation.auc", "drops", 0.02, 0.0),
    "restarts > 2": ("restarts", ">", 2.0, 0.0),
    "train.logloss > 1.5": ("train.logloss", ">", 1.5, 0.0),
    "rows_per_second < 1e6 for 30s": ("rows_per_second", "<", 1e6, 30.0),
    "PE<=.6": ("pe", "<=", 0.6, 0.0),
    "j >= 1_000": ("j", ">=", 1000.0, 0.0),
    "validation.ndcg@5 drops 0.1 for 2 m": ("validation.ndcg@5", "drops", 0.1, 120.0),
    "validation.poisson-nloglik rises 1.5 for 1h": ("validation.poisson-nloglik", "rises", 1.5, 3600.0),
    "train.tweedie-nloglik@1.5 > -3": ("train.tweedie-nloglik@1.5", ">", -3.0, 0.0),
}


@pytest.mark.parametrize("text", RIGHT)
def test_what_expressions_mean(text: str) -> None:
    assert parse(text) == Condition(text, *RIGHT[text])


def test_spaces_and_line_breaks_do_not_matter() -> None:
    assert parse("  pe \n<\t0.6  for 60 s ").text == "pe < 0.6 for 60 s"
    assert parse("\n lb<1").quantity == "lb"


NO_QUANTITY = "at character 1: unknown quantity "
WRONG = {
    "": "at character 1: expected a quantity and a condition, e.g. pe < 0.6 for 60s",
    # names: what may have been meant, or all there are
    "pee < 0.6": f"{NO_QUANTITY}pee; did you mean pe?",
    "  mem > 0.9": "at character 3: unknown quantity mem; did you mean memory?",
    "noprogress for 60s": f"{NO_QUANTITY}noprogress; did you mean no_progress?",
    "auc < 0.5": f"{NO_QUANTITY}auc; did you mean validation.auc?",
    "val.auc < 0.5": f"{NO_QUANTITY}val.auc; did you mean validation.auc?",
    "validation.acu < 0.5": f"{NO_QUANTITY}validation.acu; did you mean validation.auc?",
    "speed < 1": f"{NO_QUANTITY}speed; known: pe, e, j, lb, memory, no_progress, restarts, rows_per_second, and metrics of "
    "the rounds, e.g. train.logloss or validation.auc",
    "train.zzz < 1": f"{NO_QUANTITY}train.zzz; known metrics: auc, aucpr, error, gamma-deviance, gamma-nloglik, logloss, mae, "
    "map, mape, merror, mlogloss, mphe, ndcg, poisson-nloglik, pre, quantile, rmse, rmsle, tweedie-nloglik",
    "0.6 > pe": f"{NO_QUANTITY}0.6; known: pe, e, j, lb, memory, no_progress, restarts, rows_per_second, and metrics of "
    "the rounds, e.g. train.logloss or validation.auc",
    # conditions
    "pe": "at character 3: expected <, <=, > or >=",
    "pe = 1": "at character 4: expected <, <=, > or >=, not =",
    "pe 0.6": "at character 4: expected <, <=, > or >=, not 0.6",
    "pe drops 0.1": "at character 4: expected <, <=, > or >=, not drops; drops and rises are for metrics, e.g. validation.auc",
    "validation.auc == 1": "at character 16: expected <, <=, >, >= or drops, not ==",
    "validation.auc drop 0.02": "at character 16: expected drops, not drop",
    "validation.auc rises 0.02": "at character 16: more auc is better; did you mean drops?",
    "validation.logloss drops 0.1": "at character 20: less logloss is better; did you mean rises?",
    # numbers
    "pe <": "at character 5: expected a number",
    "pe < x": "at character 6: expected a number, not x",
    "pe < nan": "at character 6: expected a number, not nan",
    "e < 1e999": "at character 5: expected a number, not 1e999",
    "memory > 90": "at character 10: memory is a share, 0 to 1; did you mean 0.9?",
    "lb < -1": "at character 6: lb is a share, 0 to 1",
    "validation.auc drops 0": "at character 22: expected a number above 0 after drops, not 0",
    # times
    "no_progress": "at character 12: expected for and a time, e.g. no_progress for 120s",
    "no_progress > 120": "at character 13: expected for and a time, e.g. no_progress for 120s, not >",
    "pe < 0.6 for": "at character 13: expected a time with its unit, e.g. 60s, 5m or 2h",
    "pe < 0.6 for 60": "at character 16: expected a time with its unit, e.g. 60s, 5m or 2h",
    "pe < 0.6 for 60 days": "at character 17: expected a time with its unit, e.g. 60s, 5m or 2h, not days",
    "pe < 0.6 for 0s": "at character 14: expected a time above 0 and of at most 30 days, not 0",
    "pe < 0.6 for 721h": "at character 17: expected at most 30 days, not h",
    # the end
    "pe < 0.6 and j > 2": "at character 10: expected for and a time, e.g. for 60s, or the end, not and; write two conditions as two alarms",
    "pe < 0.6 for 6s,": "at character 16: expected for and a time, e.g. for 60s, or the end, not ,; write two conditions as two alarms",
    "memory > 0.9" + " " * 100: "at character 101: an expression has at most 100 characters",
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_the_error_for_a_wrong_expression(text: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert str(caught.value) == WRONG[text]


WORDS = [
    *PLAIN,
    "train.auc",
    "validation.",
    "<",
    ">=",
    "drops",
    "rises",
    "for",
    "60s",
    "0.5",
    "-1",
    "s",
    "\x00",
    "é",
    "٣",
]


@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=7).map(" ".join) | st.text())
def test_any_text_is_a_condition_or_refused(text: str) -> None:
    try:
        condition = parse(text)
    except ExpressionError as error:
        assert str(error).startswith("at character ")  # noqa: PT017
        return
    assert parse(condition.text) == condition
    assert condition.text.isprintable()


def test_the_documented_quantities_are_those_there_are() -> None:
    import pipeline.config.alarms as module

    page = (Path(__file__).parents[2] / "docs" / "dashboard.md").read_text(encoding="utf-8")
    for text in (module.__doc__, page, Alarm.model_fields["when"].description):
        assert [name for name in PLAIN if not re.search(rf"\b{name}\b", text or "", re.IGNORECASE)] == []
    assert set(LIVE) | SHARES | DURATIONS | OCCASIONAL <= set(PLAIN)


@pytest.mark.parametrize(
    ("text", "value", "best", "holds"),
    [
        ("pe < 0.6", 0.6, 0, False), ("pe <= 0.6", 0.6, 0, True), ("pe < 0.6", 0.59, 0, True),
        ("j > 2", 2, 0, False), ("j >= 2", 2, 0, True),
        ("validation.auc drops 0.02", 0.28, 0.3, True), ("validation.auc drops 0.02", 0.2801, 0.3, False),
        ("validation.auc drops 0.02", 0.35, 0.3, False),
        ("validation.rmse rises 0.5", 2.0, 1.5, True), ("validation.rmse rises 0.5", 1.0, 1.5, False),
        ("no_progress for 10s", 10.0, 0, True), ("no_progress for 10s", 9.9, 0, False),
    ],
)  # fmt: skip
def test_when_conditions_hold(text: str, value: float, best: float, holds: bool) -> None:
    assert parse(text).holds(value, best) is holds


# in a job


def job_of(text: str) -> Job:
    return Job.parse({**SMALLEST, **tomllib.loads(text)})


def test_a_job_has_alarms() -> None:
    job = job_of("""
        [[alarm]]
        when = "pe < 0.6 for 60s"
        [[alarm]]
        when = "no_progress for 120s"
        do = "exit"
        [[alarm]]
        when = "restarts > 2"
        do = "post"
        url = "http://127.0.0.1:9/hook?a=b"
    """)
    assert [alarm.do for alarm in job.alarm] == ["log", "exit", "post"]
    assert Job.parse(job.model_dump(mode="json")) == job
    assert Job.parse(SMALLEST).alarm == []


def told(alarm: Any, **more: Any) -> str:
    with pytest.raises(JobError) as caught:
        Job.parse({**SMALLEST, "alarm": alarm, **more})
    return str(caught.value)


def test_a_wrong_expression_is_refused_when_the_job_is_read() -> None:
    wrong = [{"when": "memory > 0.9"}, {"when": "pee < 0.6", "do": "exit"}]
    assert told(wrong) == "job: alarm[1].when = 'pee < 0.6': at character 1: unknown quantity pee; did you mean pe?"


@pytest.mark.parametrize(
    ("alarm", "said"),
    [
        ({}, "alarm[0].when is missing"),
        ({"when": 3}, "alarm[0].when = 3: expected a text (the condition: "),
        ({"when": "pe < 1", "do": "mail"}, "alarm[0].do = 'mail': expected 'log', 'exit' or 'post' ("),
        ({"when": "pe < 1", "wen": 1}, "unknown key alarm[0].wen; did you mean when?"),
        ({"when": "pe < 1", "do": "post"}, 'alarm[0]: do = "post" needs url, and url needs do = "post"'),
        ({"when": "pe < 1", "url": "http://a/"}, 'alarm[0]: do = "post" needs url, and url needs do = "post"'),
        *(
            ({"when": "pe < 1", "do": "post", "url": url}, f"alarm[0].url = {url!r}: expected a URL of http:// or https://")
            for url in ("", "a", "file:///etc/passwd", "ftp://a/", "http://", "http:///x", "http://[::1", "http://a:0/",
                        "http://a:b/", "http://a:99999/", "data:,x")
        ),
        ({"when": "pe < 1", "do": "post", "url": "https://me:it@a/"}, "alarm[0].url = 'https://***@a/': no user or password"),
        ({"when": "pe < 1", "do": "post", "url": "http://a/\n"}, r"alarm[0].url = 'http://a/\n': expected at most 2000 characters"),
        ({"when": "pe < 1", "do": "post", "url": "http://a/" + "x" * 2_000}, "alarm[0].url = 'http://a/xxx"),
    ],
)  # fmt: skip
def test_the_error_for_a_wrong_alarm(alarm: dict[str, Any], said: str) -> None:
    assert told([alarm]).startswith(f"job: {said}")


def test_what_is_no_list_of_alarms() -> None:
    assert told({"when": "pe < 1"}) == "job: alarm: expected a list (conditions to watch; each begins with [[alarm]])"
    assert told([{"when": "pe < 1"}] * 51).startswith("job: alarm = [{'when': 'pe < 1'}, ")


def test_alarms_can_be_set_on_the_command_line() -> None:
    job = Job.parse(SMALLEST, settings=['alarm=[{when = "memory > 0.9", do = "exit"}]'])
    assert job.alarm == [Alarm(when="memory > 0.9", do="exit")]
    with pytest.raises(JobError, match=r"alarm = 'x': expected a list"):
        Job.parse(SMALLEST, settings=["alarm=x"])
    with pytest.raises(JobError, match=r"expected section\.field=value"):
        Job.parse(SMALLEST, settings=["data={}"])


def test_alarms_do_not_prevent_resuming() -> None:
    from pipeline.training.identity import Identity
    from pipeline.training.xgboost.trainer import XGBoostTrainer

    calm, watched = Job.parse(SMALLEST), Job.parse({**SMALLEST, "alarm": [{"when": "pe < 1"}]})
    then, now = (Identity.of(job, (), "cpu", XGBoostTrainer()) for job in (calm, watched))
    assert then.differences(now) == []


def test_alarms_are_among_the_fields_of_a_job() -> None:
    assert job_fields()["alarm[].when"].default == "required"
    assert job_fields()["alarm[].do"].default == '"log"'
