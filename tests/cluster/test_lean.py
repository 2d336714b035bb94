"""XGBoost without its wrappers for scikit-learn, Arrow without pandas: in a process of its own each."""

import subprocess
import sys

import pytest

START = """
import sys
from pipeline.cluster import lean
lean.install()
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

def ours():  # as if it stood in this package
    found = {"__name__": "pipeline.somewhere", "pa": pa, "pc": pc, "np": np}
    exec("x = [pa.array([1]), pa.array(np.arange(3)), pc.fill_null(pa.array([None, 1]), 0)]", found)
    return found["x"]
"""


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", START + code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_training_imports_neither() -> None:
    run("""
import pipeline.training.xgboost.trainer, pipeline.data.reading
ours()
assert not {"pandas", "sklearn"} & set(sys.modules)
""")


@pytest.mark.parametrize("first", ["ours()", ""], ids=["after our calls", "before them"])
def test_arrow_knows_the_objects_of_a_pandas_that_other_code_imports(first: str) -> None:
    """Else it takes a Series for a sequence, whose NaN is a value and not missing."""
    run(f"""
{first}
import pandas as pd
series = pd.Series([1.5, float("nan")])
assert pa.array(series).null_count == 1
assert pa.types.is_dictionary(pa.array(pd.Categorical(["x", "y"])).type)
assert pa.Table.from_pandas(pd.DataFrame({{"a": series}})).column("a").null_count == 1
assert ours()[0].to_pylist() == [1]
""")


def test_other_code_gets_pandas_from_arrow() -> None:
    run("""
ours()
assert pa.table({"a": [1, 2]}).to_pandas().shape == (2, 1)
""")


def test_many_threads_load_it_at_once() -> None:
    run("""
import threading
def theirs():
    import pandas as pd
    assert pa.array(pd.Series([float("nan")])).null_count == 1
threads = [threading.Thread(target=run) for run in (ours, theirs) * 8]
for thread in threads: thread.start()
for thread in threads: thread.join(30)
assert not any(thread.is_alive() for thread in threads)
""")


def test_scikit_learn_can_still_be_imported() -> None:
    run("""
import xgboost, sklearn.linear_model
""")


def test_what_xgboost_and_scipy_rarely_need_is_not_loaded_before_it_is_used() -> None:
    run("""
import pipeline.training.xgboost.trainer
assert not {"xgboost.sklearn", "scipy.special", "numpy.f2py.crackfortran"} & set(sys.modules)
import numpy.testing
numpy.testing.assert_equal(np.arange(2), [0, 1])
import xgboost.sklearn
assert xgboost.sklearn.XGBRegressor
""")
