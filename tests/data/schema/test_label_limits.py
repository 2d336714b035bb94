"""Which labels each objective and metric takes."""

from typing import Any

import pytest

from pipeline.config.job import Training
from pipeline.data.schema.label_limits import check_numbers, check_validation_labels, with_gain
from pipeline.data.schema.target import Target
from pipeline.data.schema.target_survey import LabelSurvey
from pipeline.errors import DataError


def grades(*values: float) -> LabelSurvey:
    counts: dict[Any, int] = dict.fromkeys(values, 3)
    kind = "int" if all(isinstance(value, int) for value in values) else "float"
    return LabelSurvey(kind, counts, minimum=min(values), maximum=max(values))  # type: ignore[arg-type]


MANY = LabelSurvey("float", None, minimum=0.0, maximum=9.0)


@pytest.mark.parametrize(
    ("objective", "options", "labels", "says"),
    [
        ("rank:ndcg", {}, grades(0, 1, 32), "holds values > 31, and rank:ndcg takes whole grades up to 31"),
        ("rank:ndcg", {}, grades(0, 0.5, 1), "holds fractions, and rank:ndcg takes whole grades up to 31"),
        ("rank:ndcg", {}, MANY, "holds fractions"),
        (
            "rank:pairwise",
            {"params": {"ndcg_exp_gain": True}},
            grades(0, 40),
            "rank:pairwise takes whole grades up to 31",
        ),
        ("rank:pairwise", {}, grades(-1, 1), "rank:pairwise needs values >= 0"),
        (
            "rank:pairwise",
            {"metrics": ["map@3"]},
            grades(0, 1, 2),
            "holds grades other than 0 and 1, and map@3 takes no others",
        ),
        ("rank:ndcg", {"metrics": ["pre"]}, grades(0, 1, 2), "pre takes no others"),
        ("rank:map", {}, grades(0, 0.5, 1), "rank:map takes no others"),
        ("reg:gamma", {}, grades(0, 1), "holds values <= 0"),
    ],
)
def test_grades_beyond_the_limit_are_refused_with_it(objective: str, options: Any, labels: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        check_numbers("y", objective, Training(**options), labels)


@pytest.mark.parametrize(
    ("objective", "options", "labels"),
    [
        ("rank:ndcg", {}, grades(0, 1, 31)),
        ("rank:ndcg", {"params": {"ndcg_exp_gain": False}}, grades(0, 0.5, 99)),
        ("rank:pairwise", {}, grades(0, 0.5, 99)),
        ("rank:pairwise", {"metrics": ["map"]}, grades(0, 1)),
        ("rank:map", {}, LabelSurvey("bool", {False: 1, True: 1})),
        ("reg:squarederror", {}, MANY),
    ],
)
def test_legal_grades_pass(objective: str, options: Any, labels: Any) -> None:
    check_numbers("y", objective, Training(**options), labels)


def test_a_validation_source_has_the_same_limits_and_may_be_constant() -> None:
    with pytest.raises(DataError, match="the target y of the validation source holds values > 31"):
        check_validation_labels("y", "rank:ndcg", Training(), grades(0, 40))
    check_validation_labels("y", "reg:squarederror", Training(), grades(2, 2))
    check_validation_labels("y", "binary:logistic", Training(), grades(-7, 2))


@pytest.mark.parametrize(
    ("labels", "changed"), [(grades(0, 1, 31), False), (grades(0, 32), True), (grades(0.0, 0.5), True)]
)
def test_pairwise_measures_large_grades_and_fractions_by_linear_gains(labels: Any, changed: bool) -> None:
    training = Training(params={"max_depth": 3})
    target = Target("y", "ranking", "rank:pairwise")
    got = with_gain(training, target, labels)
    assert got.params == ({"max_depth": 3, "ndcg_exp_gain": False} if changed else {"max_depth": 3})
    assert with_gain(training, Target("y", "ranking", "rank:ndcg"), labels) is training


def test_targets_of_other_kinds_keep_their_settings() -> None:
    training = Training()
    for kind, values in (("text", {"no": 1, "yes": 2}), ("other", None), ("float", {0.5: 1})):
        found = with_gain(training, Target("y", "binary", "binary:logistic"), LabelSurvey(kind, values))  # type: ignore[arg-type]
        assert found is training
