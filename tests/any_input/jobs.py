"""Random jobs for random tables: tables of a job file, as a user would write them, right and wrong."""

from typing import Any

from hypothesis import strategies as st

from pipeline.config.xgboost import KINDS
from tests.any_input.tables import Case

OBJECTIVES = ["auto", "auto", "auto", "auto", *KINDS, "reg:nothing"]
EXPRESSIONS = (
    "{a} IS NULL", "{a} = {b}", "coalesce({a}, {a})", "CAST({a} AS VARCHAR)", "TRY_CAST({a} AS DOUBLE)", "length(CAST({a} AS VARCHAR))",
    "{a} + 1", "1 / {a}", "{a} > 0", "year({a})", "{a} || 'x'", "CASE WHEN {a} IS NULL THEN 0 ELSE 1 END", "hash({a})", "[{a}]", "'x'",
    "NULL", "sqrt({a})", "CAST({a} AS INTEGER)", "CAST({a} AS HUGEINT)", "epoch({a})", "{a}; DROP TABLE fragment", "(SELECT 1)", "random()",
    "{a} -- ", "now()", "sum({a})", "nothing", "", "*", "#1", "{{'a': {a}}}", "CAST({a} AS DATE)", "CAST({a} AS TIMESTAMP)", "CAST({a} AS BLOB)",
    "interval 1 day", "ln({a})", "{a}::DECIMAL(38, 37)", "repeat(CAST({a} AS VARCHAR), 3)",
)  # fmt: skip
CONDITIONS = (
    "{a} IS NOT NULL",
    "coalesce({a} = {a}, true)",
    "{a} IS NULL",
    "{a} > 0",
    "{a} = {b}",
    "true",
    "false",
    "1",
    "{a}",
    "'",
    "NULL",
    "{a} LIKE '%'",
)
NUMBERS = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, 1e9, -1e308, 3.4e38, 1e-320]))
PARAMS: dict[str, st.SearchStrategy[Any]] = {
    "max_depth": st.sampled_from([1, 3, 0, -1, "3", "deep", 2**40]),
    "eta": st.sampled_from([0.3, 1.0, 0, -1, 1e9, "0.1"]),
    "lambda": st.sampled_from([0, 1.0, -1]),
    "gamma": st.sampled_from([0, 1e9, -1]),
    "min_child_weight": st.sampled_from([0, 1, 1e9, -1]),
    "num_parallel_tree": st.sampled_from([1, 2, 0]),
    "colsample_bytree": st.sampled_from([0.5, 1, 0, 2]),
    "max_leaves": st.sampled_from([0, 4]),
    "grow_policy": st.sampled_from(["depthwise", "lossguide", "other"]),
    "booster": st.sampled_from(["gbtree", "dart", "gblinear"]),
    "multi_strategy": st.sampled_from(["one_output_per_tree", "multi_output_tree"]),
    "scale_pos_weight": st.sampled_from([1, 10, 0, -1]),
    "max_delta_step": st.sampled_from([0, 1]),
    "tweedie_variance_power": st.sampled_from([1.5, 1, 2, 3]),
    "huber_slope": st.sampled_from([1.0, 0]),
    "ndcg_exp_gain": st.booleans(),
    "depth": st.just(3),
    "seed": st.just(3),
}


def quoted(name: str) -> str:
    """A column's name as SQL."""
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


@st.composite
def jobs(draw: st.DrawFn, case: Case) -> dict[str, Any]:
    """The tables of a job for the case; sources and outputs are not in them."""
    names = case.known
    name = st.sampled_from([*names * 4, "absent", "*", "c?", "c1*"])
    few = draw(st.sampled_from([0, 0, 1, 1, 1]))  # 0: nothing rare in this job

    def rarely[T](strategy: st.SearchStrategy[T], chance: int = 6) -> T | None:
        return draw(strategy) if few and draw(st.integers(0, chance)) == chance else None

    data: dict[str, Any] = {"target": None if case.form == "libsvm" else case.target}
    data["exclude"] = rarely(st.lists(name, max_size=2))
    data["id"] = rarely(st.lists(name, max_size=2))
    data["weight"] = rarely(_of_kind(case, "weights", name))
    data["group"] = rarely(_of_kind(case, "queries", name), 8)
    data["positive"] = rarely(st.sampled_from(["yes", "no", 0, 1, True, False, 2**60, 0.1, ""]), 20)
    data["where"] = rarely(_sql(CONDITIONS, names), 10)
    data["derive"] = rarely(st.dictionaries(name, _sql(EXPRESSIONS, names), min_size=1, max_size=2), 4)
    data["validation"] = draw(_validations(name)) if draw(st.booleans()) else None
    data["csv"] = {"newlines_in_quotes": draw(st.integers(0, 3)) > 0}
    job = {"data": data, "preprocess": draw(_preprocess(name)) if few else {}, "training": draw(_training(name, few))}
    return {
        section: {key: value for key, value in table.items() if value is not None} for section, table in job.items()
    }


def _of_kind(case: Case, kind: str, name: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """A column that suits, where there is one; or else any."""
    fitting = [column.name for column in case.columns[1:] if column.kind == kind and case.form != "libsvm"]
    return st.one_of(st.sampled_from(fitting), st.sampled_from(fitting), name) if fitting else name


def _sql(templates: tuple[str, ...], names: list[str]) -> st.SearchStrategy[str]:
    column = st.sampled_from(names).map(quoted)
    return st.builds(lambda text, a, b: text.format(a=a, b=b), st.sampled_from(templates), column, column)


def _validations(name: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    share = st.sampled_from([0.2] * 6 + [0.5, 0.99, 0.001])
    values = st.lists(
        st.sampled_from([0, 1, True, "no", "yes", 0.5, 2**60, "2020-01-01", "", 10**30]), min_size=1, max_size=2
    )
    return st.one_of(
        st.fixed_dictionaries({"share": share}),
        st.fixed_dictionaries({"share": share}),
        st.fixed_dictionaries({"share": share}),
        st.fixed_dictionaries({"column": name, "values": values}),
        st.fixed_dictionaries({"time": name, "share": share}),
    )


@st.composite
def _preprocess(draw: st.DrawFn, name: st.SearchStrategy[str]) -> dict[str, Any]:
    column = st.fixed_dictionaries(
        {},
        optional={
            "kind": st.sampled_from(["auto", "number", "category", "time", "drop"]),
            "impute": st.one_of(NUMBERS, st.just("mean")),
            "indicator": st.booleans(),
            "clip": st.tuples(NUMBERS, NUMBERS).map(list),
            "log1p": st.booleans(),
            "standardise": st.booleans(),
            "encoding": st.sampled_from(["auto", "codes", "target", "frequency", "hash"]),
            "parts": st.lists(st.sampled_from(["year", "weekday", "hour", "dayofyear", "epoch"]), max_size=2),
        },
    )
    options = {
        "max_levels": st.sampled_from([2, 3, 254]),
        "min_count": st.sampled_from([1, 2, 1_000]),
        "high_cardinality": st.sampled_from(["target", "frequency", "hash"]),
        "smoothing": st.sampled_from([0, 1, 1e12, 1e300]),
        "folds": st.sampled_from([2, 20]),
        "hash_bins": st.sampled_from([2, 254]),
        "tracked_levels": st.just(254),
        "sample_rows": st.just(1_000),
    }
    found: dict[str, Any] = {key: draw(strategy) for key, strategy in options.items() if draw(st.integers(0, 3)) == 3}
    if draw(st.integers(0, 2)) == 2:
        found["columns"] = draw(st.dictionaries(name, column, min_size=1, max_size=2))
    return found


@st.composite
def _training(draw: st.DrawFn, name: st.SearchStrategy[str], few: int) -> dict[str, Any]:
    found: dict[str, Any] = {"rounds": draw(st.integers(1, 3))}
    options: dict[str, tuple[int, st.SearchStrategy[Any]]] = {  # one chance in so many
        "objective": (3, st.sampled_from(OBJECTIVES)),
        "max_bin": (3, st.sampled_from([2, 3, 255])),
        "row_order": (1, st.sampled_from(["key", "source"])),
        "row_sample": (5, st.sampled_from([0.5, 0.01, 1.0])),
        "seed": (5, st.sampled_from([1, 2**31 - 1])),
        "early_stopping": (6, st.sampled_from([0, 1])),
        "metrics": (12, st.lists(st.sampled_from(["auc", "rmse", "mlogloss", "ndcg@3", "error@0.7", "logloss", "none"]), max_size=2)),
        "class_weights": (10, st.one_of(st.just("balanced"), st.just({"yes": 2.0, "1": 0.5}), st.just({"no": 3}))),
        "monotone": (12, st.dictionaries(name, st.sampled_from([-1, 0, 1]), max_size=2)),
        "interactions": (12, st.lists(st.lists(name, max_size=2), max_size=2)),
        "quantiles": (8, st.lists(st.sampled_from([0.1, 0.5, 0.999]), unique=True).map(sorted)),
        "params": (3, st.lists(st.sampled_from(list(PARAMS)), max_size=2, unique=True).flatmap(_params)),
    }  # fmt: skip
    for key, (chance, strategy) in options.items():
        if few and draw(st.integers(0, chance)) == chance:
            found[key] = draw(strategy)
    return found


def _params(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({name: PARAMS[name] for name in names})
