"""Makes the files of `benchmarks.small_jobs`: data whose reading costs as much as their training or more, and categories."""

import gzip
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from benchmarks.category_rows import generated

TARGET = "label"
LEVELS = 50_000  # of each text of `texts`
NUMBERS, TEXTS = 13, 26  # its columns
ROW_GROUP_ROWS = 4_096  # of `wide`
CATEGORY_LEVELS = 120  # of each category of `categories`
LONG_TRIP_MINUTES = 12
PLACES = ("PULocationID", "DOLocationID")
TRIP_NUMBERS = ("VendorID", "RatecodeID", "passenger_count", "trip_distance", "trip_type")
ADULT = (
    "age,workclass,fnlwgt,education,education_num,marital_status,occupation,relationship,race,sex,capital_gain,"
    "capital_loss,hours_per_week,native_country,label"
)


@dataclass(frozen=True)
class Shape:
    """One kind of data."""

    name: str
    title: str
    rounds: int
    make: Callable[[Path, int], None]  # (folder, size): writes the files
    size: int  # rows; files for `files`
    toy: int
    depth: int = 6
    needs: str = ""  # the folder of PIPELINE_DATA that its rows come from
    categories: bool = False  # texts are categories, not numbers, to the script as well


def numbers(rows: int, features: int, seed: int = 0) -> pa.Table:
    """float32 features, and a label that follows from a few of them."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, features), dtype=np.float32)
    score = x[:, 0] + x[:, 1] * x[:, 2] + 0.5 * rng.standard_normal(rows)
    return pa.table({TARGET: (score > 0).astype(np.int8), **{f"x{place}": x[:, place] for place in range(features)}})


def _files(folder: Path, size: int) -> None:
    table = numbers(size * 100, 20)
    for number in range(size):
        pacsv.write_csv(table.slice(number * 100, 100), folder / f"{number:05}.csv")


def _csv(folder: Path, size: int) -> None:
    pacsv.write_csv(numbers(size, 20), folder / "rows.csv")


def _gzip(folder: Path, size: int) -> None:
    _csv(folder, size)
    with (folder / "rows.csv").open("rb") as plain, gzip.open(folder / "rows.csv.gz", "wb", compresslevel=6) as packed:
        shutil.copyfileobj(plain, packed)
    (folder / "rows.csv").unlink()


def _wide(folder: Path, size: int) -> None:
    pq.write_table(numbers(size, 5_000), folder / "rows.parquet", row_group_size=ROW_GROUP_ROWS)


def _short(folder: Path, size: int) -> None:
    pacsv.write_csv(numbers(size, 10_000), folder / "rows.csv")


def _texts(folder: Path, size: int) -> None:
    rng, table = np.random.default_rng(1), numbers(size, NUMBERS)
    for place in range(TEXTS):
        words = np.array([f"v{place % 4}_{level}" for level in range(LEVELS)])
        levels = np.minimum(rng.exponential(LEVELS / 10, size).astype(np.int64), LEVELS - 1)
        table = table.append_column(f"c{place}", pa.array(words[levels]))
    pacsv.write_csv(table, folder / "rows.csv")


def _adult(folder: Path, size: int) -> None:
    """UCI's census rows, `PIPELINE_DATA`/adult/adult.data: no header, and a blank before each value."""
    lines = adult_file().read_text(encoding="ascii").splitlines()[:size]
    cleaned = (line.replace(", ", ",") for line in lines if line)
    (folder / "rows.csv").write_text("\n".join([ADULT, *cleaned]) + "\n", encoding="ascii")


def _taxi(folder: Path, size: int) -> None:
    """Trips of `PIPELINE_DATA`/green_taxi, as often as needed for the rows asked for; label: longer than 12 minutes."""
    read = ["lpep_pickup_datetime", "lpep_dropoff_datetime", *TRIP_NUMBERS, *PLACES]
    files = sorted((data_folder() / "green_taxi").glob("*.parquet"))
    table = pa.concat_tables([pq.read_table(file, columns=read) for file in files], promote_options="permissive")
    start, end = table["lpep_pickup_datetime"], table["lpep_dropoff_datetime"]
    minutes = pc.divide(pc.cast(pc.seconds_between(start, end), pa.float64()), 60.0)
    columns = {TARGET: pc.cast(pc.greater(minutes, LONG_TRIP_MINUTES), pa.int8())}
    columns |= {"hour": pc.hour(start), "weekday": pc.day_of_week(start)}
    columns |= {name: table[name] for name in TRIP_NUMBERS}
    columns |= {name: pc.cast(table[name], pa.string()) for name in PLACES}
    trips = pa.table(columns)
    pq.write_table(pa.concat_tables([trips] * -(-size // trips.num_rows)).slice(0, size), folder / "rows.parquet")


def _categories(folder: Path, size: int) -> None:
    table = generated("interacting", CATEGORY_LEVELS, size, seed=0).rename_columns({"label": TARGET})
    label = pc.cast(table[TARGET], pa.int8())
    pq.write_table(table.set_column(table.column_names.index(TARGET), TARGET, label), folder / "rows.parquet")


def data_folder() -> Path:
    return Path(os.environ.get("PIPELINE_DATA", "../shared/data"))


def adult_file() -> Path:
    return data_folder() / "adult" / "adult.data"


def _empty(folder: Path, size: int) -> None:
    pacsv.write_csv(numbers(size, 3), folder / "rows.csv")


EMPTY = Shape("empty", "start-up: 100 rows, 1 round", 1, _empty, 100, 100)
SHAPES = {
    shape.name: shape
    for shape in (
        Shape("files", "2,000 CSV files of 100 rows x 20", 30, _files, 2_000, 20),
        Shape("csv", "CSV, 1 M x 20", 30, _csv, 1_000_000, 2_000),
        Shape("gzip", "the same as one .csv.gz", 30, _gzip, 1_000_000, 2_000),
        Shape("wide", "Parquet, 50 k x 5,000", 5, _wide, 50_000, 100),
        Shape("short", "CSV, 60 rows x 10,000 columns", 30, _short, 60, 60),
        Shape("texts", "CSV, 1 M x 39, 26 of them texts of many values", 20, _texts, 1_000_000, 2_000),
        Shape("adult", "UCI adult, CSV, 33 k x 14", 100, _adult, 1_000_000, 2_000, needs="adult"),
        Shape(
            "taxi",
            "Parquet, green taxi trips, 5 times, 2 M x 9, 2 of them categories",
            100,
            _taxi,
            2_000_000,
            2_000,
            depth=8,
            needs="green_taxi",
            categories=True,
        ),
        Shape(
            "categories",
            "Parquet, 2 M x 9, 3 of them categories of 120 levels",
            100,
            _categories,
            2_000_000,
            2_000,
            depth=8,
            categories=True,
        ),
    )
}


def write_shape(shape: Shape, cache: Path, toy: bool) -> Path:
    """Writes a shape's files where the cache does not hold them; returns their folder."""
    size = shape.toy if toy else shape.size
    folder = cache / f"{shape.name}-{size}"
    done = folder.with_suffix(".json")
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        shape.make(folder, size)
        done.write_text(json.dumps({"shape": shape.name, "size": size}), encoding="utf-8")
    return folder
