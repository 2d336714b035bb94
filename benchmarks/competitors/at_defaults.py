"""Libraries at their defaults: fits one on training rows, and predicts test rows.

Imports nothing of this project, so that a library may be installed in an environment of its own: as a script it reads
lines of JSON, [library, kind, target, train.parquet, test.parquet, predictions.npy], and answers each with one line.  Text columns are given
as categories in each library's own way; scikit-learn takes those with more than 255 levels by its target encoder.  All
with one thread.
"""

import json
import sys
import time
from typing import Any

import numpy as np
import pandas as pd

MOST_LEVELS = 255  # of scikit-learn's categories
SEED = 0
MISSING = "(missing)"


def fit(
    library: str, kind: str, target: str, train: pd.DataFrame, test: pd.DataFrame
) -> tuple[np.ndarray, dict[str, Any]]:
    """(rows,) values, or (rows, classes) probabilities in the order of the sorted classes, of the test rows."""
    label, columns = train[target], [name for name in train if name != target]
    train, test = train[columns], test[columns]
    text = [name for name in columns if not pd.api.types.is_numeric_dtype(train[name])]
    classifies = kind != "regression"
    codes = np.unique(label.to_numpy(), return_inverse=True)[1] if classifies else label.to_numpy()
    model, given = MODELS[library](classifies, text, train)
    train, test = (_prepared(library, rows, train, text) for rows in (train, test))
    cpu, wall = time.process_time(), time.perf_counter()
    model.fit(train, codes, **given)
    spent = {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.perf_counter() - wall}
    spent["version"] = __import__(library).__version__
    return np.asarray(model.predict_proba(test) if classifies else model.predict(test)), spent


def _prepared(library: str, rows: pd.DataFrame, train: pd.DataFrame, text: list[str]) -> pd.DataFrame:
    rows = rows.copy()
    for name in text:
        if library == "catboost":
            rows[name] = rows[name].astype(object).where(rows[name].notna(), MISSING).astype(str)
        elif library == "sklearn" and train[name].nunique() > MOST_LEVELS:
            rows[name] = rows[name].astype(object).where(rows[name].notna(), MISSING)
        else:
            rows[name] = pd.Categorical(rows[name], sorted(train[name].dropna().unique()))
    return rows


def _xgboost(classifies: bool, text: list[str], train: pd.DataFrame) -> tuple[Any, dict[str, Any]]:
    import xgboost

    kind = xgboost.XGBClassifier if classifies else xgboost.XGBRegressor
    return kind(n_jobs=1, enable_categorical=True), {}


def _lightgbm(classifies: bool, text: list[str], train: pd.DataFrame) -> tuple[Any, dict[str, Any]]:
    import lightgbm

    kind = lightgbm.LGBMClassifier if classifies else lightgbm.LGBMRegressor
    return kind(n_jobs=1, verbose=-1), {}


def _sklearn(classifies: bool, text: list[str], train: pd.DataFrame) -> tuple[Any, dict[str, Any]]:
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import TargetEncoder

    kind = HistGradientBoostingClassifier if classifies else HistGradientBoostingRegressor
    model = kind(categorical_features="from_dtype", random_state=SEED)
    many = [name for name in text if train[name].nunique() > MOST_LEVELS]
    if not many:
        return model, {}
    # By itself it takes whole numbers for classes.
    encode = TargetEncoder(target_type="auto" if classifies else "continuous", random_state=SEED)
    encoder = make_column_transformer(
        (encode, many), remainder="passthrough", verbose_feature_names_out=False
    ).set_output(transform="pandas")
    return make_pipeline(encoder, model), {}


def _catboost(classifies: bool, text: list[str], train: pd.DataFrame) -> tuple[Any, dict[str, Any]]:
    import catboost

    kind = catboost.CatBoostClassifier if classifies else catboost.CatBoostRegressor
    options = {"thread_count": 1, "logging_level": "Silent", "allow_writing_files": False, "random_seed": SEED}
    return kind(**options), {"cat_features": text}


MODELS = {"xgboost": _xgboost, "lightgbm": _lightgbm, "sklearn": _sklearn, "catboost": _catboost}


def main() -> None:
    for line in sys.stdin:
        library, kind, target, train, test, out = json.loads(line)
        try:
            predicted, said = fit(library, kind, target, pd.read_parquet(train), pd.read_parquet(test))
            np.save(out, predicted)
        except Exception as error:  # whatever a library raises is its result
            said = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
