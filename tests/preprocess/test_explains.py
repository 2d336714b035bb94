"""Features that alone explain the target are found, whatever kind they are; good features are not."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.config.job import Column, Preprocess, Training
from pipeline.data.schema.target import Target
from pipeline.preprocess.fit import PassConfig, fit
from pipeline.preprocess.statistics.collect import collect

ROWS = 4_000
RNG = np.random.default_rng(0)
X = RNG.normal(size=ROWS)
FLAG = Target("y", "binary", "binary:logistic", (0, 1))
KINDS = Target("y", "multiclass", "multi:softprob", ("a", "b", "c"))
VALUE = Target("y", "regression", "reg:squarederror")
CLASS = RNG.integers(0, 3, ROWS)
YES = (X + RNG.normal(size=ROWS) * 0.5 > 1).astype(int)
AMOUNT = np.exp(X) + RNG.normal(size=ROWS) * 0.1
HOLES = RNG.random(ROWS) < 0.1


def text(values: Any) -> np.ndarray:
    return np.char.add("is ", np.asarray(values).astype(str))


def found(target: Target, label: Any, columns: dict[str, Any], make_rows: Any, weight: Any = None) -> list[str]:
    """The columns that are reported to explain it."""
    table = pa.table(columns)
    rows = make_rows(table, label, weight=weight)
    shared = PassConfig("run", Preprocess(), Training(), target, len(table), 0)
    fitted = fit(collect(rows, Preprocess(), target), shared)
    return [str(one.column) for one in fitted.findings if one.kind == "explains_target"]


LEAKS: dict[str, tuple[Target, Any, Any]] = {
    "a copy of two classes": (FLAG, YES, YES),
    "the other way round": (FLAG, YES, -YES),
    "above a threshold": (FLAG, YES, np.where(YES, 15 + 100 * RNG.random(ROWS), 15 * RNG.random(ROWS))),
    "on both sides": (FLAG, YES, np.where(YES, RNG.choice([-9, 9], ROWS), 0) + RNG.random(ROWS)),
    "missing where it is no": (FLAG, YES, pa.array(X, mask=YES == 0)),
    "as a text": (FLAG, YES, text(YES)),
    "as texts of which each means one": (FLAG, YES, text(RNG.integers(0, 20, ROWS) * 2 + YES)),
    "rare": (FLAG, np.arange(ROWS) % 250 == 7, np.arange(ROWS) % 250 == 7),
    "a copy of classes": (KINDS, CLASS, CLASS),
    "classes by other codes": (KINDS, CLASS, np.array([7, 1, 3])[CLASS]),
    "classes as a text": (KINDS, CLASS, text(CLASS)),
    "a copy of a number": (VALUE, AMOUNT, AMOUNT.astype(np.float32)),
    "a multiple": (VALUE, AMOUNT, -3 * AMOUNT + 7),
    "its logarithm": (VALUE, AMOUNT, np.log(AMOUNT + 10)),
    "a number as texts": (VALUE, np.round(X), text(np.round(X))),
}
FEATURES: dict[str, tuple[Target, Any, Any]] = {
    "good": (FLAG, YES, X),
    "very good": (FLAG, YES, YES + RNG.normal(size=ROWS) * 0.4),
    "every row a level of its own": (FLAG, YES, text(np.arange(ROWS))),
    "many levels": (FLAG, YES, text(RNG.integers(0, 250, ROWS))),
    "of one class nearly always": (KINDS, np.where(np.arange(ROWS) % 400, 0, CLASS), X),
    "a number's": (VALUE, AMOUNT, X + RNG.normal(size=ROWS) * 0.1),
    "constant but for one": (VALUE, AMOUNT, np.append(np.zeros(ROWS - 1), 1)),
}


@pytest.mark.parametrize("name", LEAKS)
def test_one_feature_alone_explains_the_target(name: str, make_rows: Any) -> None:
    target, label, leak = LEAKS[name]
    assert found(target, label, {"noise": RNG.normal(size=ROWS), "leak": leak}, make_rows) == ["leak"]


@pytest.mark.parametrize("name", FEATURES)
def test_a_feature_that_is_only_good_is_no_finding(name: str, make_rows: Any) -> None:
    target, label, feature = FEATURES[name]
    assert found(target, label, {"noise": RNG.normal(size=ROWS), "x": feature}, make_rows) == []


def test_few_rows_say_nothing(make_rows: Any) -> None:
    rows = 60
    assert found(FLAG, YES[:rows], {"x": YES[:rows]}, make_rows) == []
    label = np.arange(ROWS) < 3
    assert found(FLAG, label, {"x": RNG.normal(size=ROWS) + 9 * label}, make_rows) == []


def test_rows_of_weight_zero_say_nothing(make_rows: Any) -> None:
    leak = np.where(np.arange(ROWS) < ROWS // 2, AMOUNT, RNG.normal(size=ROWS))
    assert found(VALUE, AMOUNT, {"x": leak}, make_rows) == []
    assert found(VALUE, AMOUNT, {"x": leak}, make_rows, weight=np.arange(ROWS) < ROWS // 2) == ["x"]


def test_a_kind_in_the_job_confirms_a_feature(make_rows: Any) -> None:
    preprocess = Preprocess(columns={"x": Column(kind="number"), "*": Column(log1p=True)})
    rows = make_rows(pa.table({"x": YES, "z": YES}), YES)
    fitted = fit(collect(rows, preprocess, FLAG), PassConfig("run", preprocess, Training(), FLAG, ROWS, 0))
    (finding,) = fitted.findings
    assert finding.column == "z"
    assert finding.message.endswith('else preprocess.columns.z.kind = "number" confirms it')


def test_the_finding_names_the_setting(make_rows: Any) -> None:
    rows = make_rows(pa.table({"late minutes": YES * 20, "x": X}), YES)
    shared = PassConfig("run", Preprocess(), Training(), FLAG, ROWS, 0)
    (finding,) = fit(collect(rows, Preprocess(), FLAG), shared).findings
    assert finding.setting == "data.exclude"
    assert "'late minutes' alone explains the target y (AUC above 0.999" in finding.message
