"""Which column plays which part."""

import pyarrow as pa
import pytest

from pipeline.config.job import Data
from pipeline.data.schema.derive import Derivation, check
from pipeline.data.schema.roles import assign_roles
from pipeline.errors import DataError

SCHEMA = pa.schema(
    [(name, pa.float64()) for name in ("arr_delay", "dep_delay", "carrier", "hour", "month", "w", "key")]
)


def roles(derive=(), where=None, **fields):
    derivation = Derivation(tuple(dict(derive).items()), where)
    return assign_roles(Data(source="x", **fields), check(derivation, SCHEMA))


def test_everything_else_is_a_feature_in_the_order_of_the_schema():
    got = roles(target="arr_delay", weight="w", id=["key"], exclude=["dep_*"])
    assert got.features == ("carrier", "hour", "month")
    assert got.read == ("arr_delay", "carrier", "hour", "month", "w")
    assert got.predict == ("carrier", "hour", "month", "key")
    assert got.notes == ()


def test_what_a_derived_target_is_made_of_is_never_a_feature_and_reported_once():
    got = roles({"late": "gain > 15", "gain": "arr_delay - dep_delay"}, target="late")
    assert got.features == ("carrier", "hour", "month", "w", "key")
    assert got.notes == ("arr_delay, dep_delay and gain are left out: the target late is made from them",)
    assert "arr_delay" in got.read
    assert "arr_delay" not in got.predict


def test_a_feature_made_from_what_the_target_is_made_of_stays_and_is_reported():
    got = roles({"late": "arr_delay > 15", "sign": "arr_delay > 0"}, target="late")
    assert "sign" in got.features
    assert "arr_delay" in got.predict
    assert any("the feature sign is made from arr_delay" in note for note in got.notes)


def test_what_a_derived_weight_is_made_of_is_left_out():
    got = roles({"weighed": "w * 2"}, target="arr_delay", weight="weighed")
    assert not {"w", "weighed"} & set(got.features)
    assert got.notes == ("w is left out: the weight weighed is made from it",)


def test_a_target_that_replaces_its_raw_column():
    got = roles({"arr_delay": "arr_delay / 60"}, target="arr_delay")
    assert "arr_delay" not in got.features
    assert got.notes == ()


def test_validation_column_stays_a_feature_unless_excluded():
    validation = {"column": "month", "values": [11, 12]}
    assert "month" in roles(target="arr_delay", validation=validation).features
    got = roles(target="arr_delay", validation=validation, exclude=["month"])
    assert "month" not in got.features
    assert got.validation == "month"
    assert "month" in got.read
    assert "month" not in got.predict


def test_where_is_read_for_training_only():
    got = roles(target="arr_delay", where="dep_delay < 100", exclude=["dep_delay"])
    assert "dep_delay" in got.read
    assert "dep_delay" not in got.predict


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"target": "arr_dely"}, "data.target = 'arr_dely': no such column; did you mean arr_delay?"),
        ({"target": "ARR_DELAY"}, "did you mean arr_delay?"),
        ({"target": "zzz"}, "there are arr_delay, dep_delay"),
        ({}, "data.target is missing"),
        ({"target": "hour", "weight": "ww"}, "data.weight = 'ww'"),
        ({"target": "hour", "group": "q"}, "data.group = 'q'"),
        ({"target": "hour", "id": ["kee"]}, "data.id = 'kee': no such column; did you mean key?"),
        ({"target": "hour", "exclude": ["dep_dely"]}, "data.exclude: no column dep_dely; did you mean dep_delay?"),
        ({"target": "hour", "id": ["hour"]}, "data.id: hour is the target already"),
        ({"target": "hour", "weight": "hour"}, "data.weight: hour is the target already"),
        ({"target": "hour", "group": "hour"}, "data.group: hour is the target already"),
        ({"target": "hour", "group": "w", "weight": "w"}, "w is the weight already"),
        ({"target": "hour", "exclude": ["*"]}, "no features are left"),
        ({"target": "hour", "validation": {"column": "mnth", "values": [1]}}, "data.validation.column = 'mnth'"),
        ({"target": "hour", "validation": {"time": "when", "share": 0.1}}, "data.validation.time = 'when'"),
    ],
)
def test_wrong_names(fields, message):
    with pytest.raises(DataError) as caught:
        roles(**fields)
    assert message in str(caught.value)


def test_only_names_that_help_are_suggested():
    """The nearest first, wherever they are, and never a column that has another role already."""
    many = pa.schema(
        [(f"column {number}", pa.float64()) for number in range(50)] + list(SCHEMA) + [("Key-2", pa.int64())]
    )
    derived = check(Derivation(), many)
    for fields, message in (
        ({"target": "arr_delai"}, "did you mean arr_delay?"),
        ({"target": "arr_delay", "weight": "rr_delay"}, "did you mean dep_delay?"),
        ({"target": "hour", "id": ["key", "key2"]}, "did you mean Key-2?"),
        ({"target": "zzz"}, "there are column 0, column 1, "),
        ({"target": "zzz"}, ", column 19 and 38 more"),
    ):
        with pytest.raises(DataError) as caught:
            assign_roles(Data(source="x", **fields), derived)
        assert message in str(caught.value)


@pytest.mark.parametrize("name", ["row", "prediction", "prediction_0.5", "probability_yes", "contribution_x"])
def test_an_id_may_not_be_called_as_a_column_of_predictions(name):
    derived = check(Derivation(), SCHEMA.append(pa.field(name, pa.int64())))
    with pytest.raises(DataError, match=f"data.id: predictions have a column {name} of their own"):
        assign_roles(Data(source="x", target="hour", id=[name]), derived)
    assert name in assign_roles(Data(source="x", target="hour"), derived).features


def test_a_pattern_that_matches_nothing_is_reported():
    assert roles(target="hour", exclude=["x_*"]).notes == ("data.exclude: x_* matches no column",)
