"""Rows with categories of many levels: generated ones, and shares of the named data sets; cut into three parts.

Names: NAME-ROWS is that many training rows of a data set of benchmarks/named_rows.py or benchmarks/real_sets.py, or of
generated flights (0 rows: three fifths of what there is); KIND-LEVELSxROWS has three categories of so many levels:
independent (two of them have an effect of their own by level, the third has none), skewed (the same, with level
frequencies that fall as 1 / rank), interacting (the effect is of pairs of levels, and no category has one alone),
noise (no category has an effect), amounts (as independent, a regression).
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks import real_sets
from benchmarks.local_preparation import Ready, prepare
from benchmarks.named_rows import REAL, job_of
from pipeline.config.job import Job
from pipeline.config.names import matches
from pipeline.data.rows import load_rows
from pipeline.errors import JobError
from pipeline.preprocess.settings import is_text

KINDS = ("independent", "skewed", "interacting", "noise", "amounts")
STOPPING_SHARE = 1 / 3  # rows for early stopping, of the number of training rows
MOST_TEST_ROWS = 60_000
FLIGHTS = {  # generated: what is known before departure
    "target": "late", "exclude": ["dep_delay", "taxi_out"], "derive": {"late": "arr_delay > 15"},
}  # fmt: skip


@dataclass(frozen=True)
class Parts:
    """Rows to train on, to stop early by, and to judge by, all with the column `label`."""

    name: str
    fitting: pa.Table  # the first two, with a column `part`: 0 trains, 1 stops
    test: pa.Table
    categories: tuple[str, ...]


def parts_of(name: str, seed: int, cache: Path) -> Parts:
    """Draws the rows of a name by a seed.  JobError if the name is unknown, or has too few rows."""
    found = re.fullmatch(r"(\w+)-(?:(\d+)x)?(\d+)", name)
    if found is None:
        raise JobError(f"{name}: expected KIND-LEVELSxROWS or NAME-ROWS")
    kind, levels, rows = found[1], found[2], int(found[3])
    rng = np.random.default_rng((seed, 20))
    forced: tuple[str, ...] = ()
    if levels is not None:
        if kind not in KINDS:
            raise JobError(f"{name}: the kinds are {', '.join(KINDS)}")
        table = generated(kind, int(levels), int(1.5 * rows) + MOST_TEST_ROWS, seed)
    else:
        table, forced = _named(kind, rows, cache)
    order = rng.permutation(table.num_rows)
    rows = rows or int(0.6 * len(order))
    stopping = int(rows * STOPPING_SHARE)
    if len(order) < rows + 1.5 * stopping:  # a test needs rows, too
        raise JobError(f"{name}: the data set has {len(order):,} rows")
    fitting = table.take(order[: rows + stopping])
    part = (np.arange(rows + stopping) >= rows).astype(np.int8)
    test = table.take(order[rows + stopping :][:MOST_TEST_ROWS])
    texts = [field.name for field in table.schema if is_text(field.type) or pa.types.is_dictionary(field.type)]
    patterns = [field.name for field in table.schema if any(matches(pattern, field.name) for pattern in forced)]
    return Parts(name, fitting.append_column("part", pa.array(part)), test, tuple(dict.fromkeys([*patterns, *texts])))


def generated(kind: str, levels: int, rows: int, seed: int) -> pa.Table:
    """Three categories and six numbers, of which four have an effect."""
    effects, rng = np.random.default_rng((seed, 21)), np.random.default_rng((seed, 22))
    popularity = 1 / np.arange(1, levels + 1) if kind == "skewed" else np.ones(levels)
    codes = rng.choice(levels, (3, rows), p=popularity / popularity.sum())
    numbers = rng.normal(size=(rows, 6)).astype(np.float32)
    score = 0.7 * numbers[:, 0] + 0.5 * np.abs(numbers[:, 1]) + 0.5 * numbers[:, 2] * numbers[:, 3]
    if kind == "interacting":
        left, right = effects.normal(size=(2, levels, 2))
        left, right = left - left.mean(0), right - right.mean(0)
        score += (left[codes[0]] * right[codes[1]]).sum(1) / np.sqrt(2)
    elif kind != "noise":
        score += effects.normal(0, 0.6, levels)[codes[0]] + effects.normal(0, 0.6, levels)[codes[1]]
    noise = rng.normal(0, 1.5, rows) if kind == "amounts" else rng.logistic(size=rows)
    target = score + noise if kind == "amounts" else score - 1 + noise > 0
    names = np.array([f"level {number:03d}" for number in range(levels)])
    columns = {f"category{place}": pa.array(names[one]) for place, one in enumerate(codes)}
    columns |= {f"number{place}": pa.array(one) for place, one in enumerate(numbers.T)}
    label = target.astype(np.float32) if kind == "amounts" else target
    return pa.table({**columns, "label": pa.array(label)})


def _named(name: str, rows: int, cache: Path) -> tuple[pa.Table, tuple[str, ...]]:
    """All rows of a data set, and the columns that its job makes categories.  JobError if unknown."""
    if name == "flights":  # more than the rows asked for: for the other parts, and for cancelled flights
        job = job_of(f"flights-{int(1.6 * rows) + MOST_TEST_ROWS}", cache)
        job = Job.parse({"data": {"source": job.data.source, **FLIGHTS}})
    elif name in REAL:
        job = job_of(name, cache)
    elif name in real_sets.SETS:
        loaded = real_sets.load(name, cache, most_rows=2**31)
        label = loaded.table[loaded.target]
        if loaded.kind == "multiclass":
            raise JobError(f"{name} has several classes: expected a binary target or a regression")
        label = label if loaded.kind == "regression" else label == label.max()
        return pa.Table.from_pandas(
            loaded.table.drop(columns=loaded.target).assign(label=label), preserve_index=False
        ), ()
    else:
        raise JobError(f"{name}: expected flights or one of {', '.join([*REAL, *real_sets.SETS])}")
    kept = cache / f"rows-{name}-{rows if name == 'flights' else 'all'}.arrow"
    forced = tuple(column for column, setting in job.preprocess.columns.items() if setting.kind == "category")
    if not kept.exists():
        table = _rows(prepare(job))
        cache.mkdir(parents=True, exist_ok=True)
        with pa.OSFile(str(kept), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    with pa.memory_map(str(kept)) as file:
        return pa.ipc.open_file(file).read_all(), forced


def _rows(ready: Ready) -> pa.Table:
    """The features and labels of all rows that have a label, as a training reads them."""
    tables = []
    for unit, payload in ready.units:
        rows = load_rows(unit.source, unit.fragment, unit.rows, payload)
        assert rows.label is not None
        label = rows.label.astype(bool) if len(ready.target.classes) == 2 else rows.label
        tables.append(rows.table.append_column("label", pa.array(label)))
    return pa.concat_tables(tables, promote_options="permissive").unify_dictionaries().combine_chunks()
