"""Random tables, and the ways they reach the program: in memory, as files of each format, in any pieces."""

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.feather as feather
import pyarrow.parquet as pq
from hypothesis import strategies as st

from tests.any_input.columns import HOSTILE, HOSTILE_NUMBERS, KINDS, NUMBERS, OTHERS, TARGETS, TEXTS, TIMES, make_column

ROWS = (0, 1, 2, 9, 10, 11, *(40,) * 4, 41, *(80,) * 4, 200, 1_200)  # the last: enough for a row number to be one
FORMS = (
    "table", "table", "parquet", "parquet", "parquet", "csv", "feather", "pandas", "indexed", "dask", "rows", "hive",
    "libsvm",
)  # fmt: skip
MISSING = (0.0, 0.0, 0.1, 0.6, 1.0)


@dataclass(frozen=True)
class Column:
    """One column, made when it is needed."""

    name: str
    kind: str
    seed: int
    missing: float
    target: bool = False

    def make(self, rows: int) -> pa.Array:
        return make_column(self.kind, rows, self.seed, self.missing, target=self.target)


@dataclass(frozen=True)
class Case:
    """A table, and how it is cut and stored."""

    columns: tuple[Column, ...]  # the target first
    rows: int
    form: str  # one of FORMS
    files: int  # some of them perhaps without rows
    group_rows: int  # of a Parquet row group or Arrow batch
    sort: bool  # by the target: one class in a fragment
    blank: int | None  # this column is missing in the whole first file
    drift: bool  # integers have other types in the last file
    leak: bool = False  # the last feature is a copy of the target

    @property
    def target(self) -> str:
        return self.columns[0].name

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def known(self) -> list[str]:
        """The columns as the job may name them."""
        if self.form == "libsvm":
            return ["label", *(f"f{number}" for number in range(1, len(self.columns)))]
        return [*self.names, "part", "name"] if self.form == "hive" else self.names

    def table(self) -> pa.Table:
        """All rows, in their order."""
        table = pa.Table.from_arrays([column.make(self.rows) for column in self.columns], names=self.names)
        if self.sort and self.rows:
            codes = table.column(0).combine_chunks()
            if not pa.types.is_nested(codes.type):
                codes = codes if pa.types.is_dictionary(codes.type) else codes.dictionary_encode()
                order = np.argsort(codes.indices.fill_null(-1).to_numpy(), kind="stable")
                table = table.take(pa.array(order))
        if self.blank is not None and self.files > 1:
            table = self._blanked(table)
        if self.leak and self.form != "libsvm":  # whose features are numbers
            table = table.set_column(len(self.columns) - 1, self.columns[-1].name, table.column(0))
        if self.form in ("table", "feather"):  # the others know no such encoding
            for place, column in enumerate(self.columns):
                if column.kind == "runs":
                    table = table.set_column(place, column.name, pc.run_end_encode(table.column(place)))
                elif column.kind == "text view":
                    table = table.set_column(place, column.name, table.column(place).cast(pa.string_view()))
        return table

    def _blanked(self, table: pa.Table) -> pa.Table:
        place = self.blank % len(self.columns) if self.blank is not None else 0
        first = self.bounds()[1]
        column = table.column(place)
        blanked = pa.concat_tables(
            [
                pa.table({"x": pa.nulls(first, column.type)}),
                pa.table({"x": column.slice(first)}),
            ]
        ).column(0)
        return table.set_column(place, table.schema.field(place), blanked)

    def bounds(self) -> np.ndarray:
        """Where the files begin and end; neighbours may be the same."""
        rng = np.random.default_rng(self.rows)
        return np.sort(np.concatenate([[0, self.rows], rng.integers(0, self.rows + 1, self.files - 1)]))

    def stored(self, folder: Path) -> Any:
        """The table as a job's source: in memory, or written below the folder, whose name is given."""
        table = self.table()
        if self.form == "table":
            return table
        if self.form == "rows":
            return self._rows(table)
        if self.form in ("pandas", "indexed", "dask"):
            return self._frame(table)
        bounds = self.bounds()
        for number, (start, stop) in enumerate(itertools.pairwise(bounds)):
            part = table.slice(start, stop - start)
            if self.drift and number == self.files - 1:
                part = _drifted(part)
            self._write(part, folder, number)
        return str(folder)

    def _rows(self, table: pa.Table) -> Any:
        """A list of mappings, one a row, where Python knows all values; else the table."""
        plain = pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_string, pa.types.is_null
        known = all(any(check(kind) for check in plain) for kind in table.schema.types)
        return table.to_pylist() if known and table.num_rows and len(set(self.names)) == len(self.names) else table

    def _frame(self, table: pa.Table) -> Any:
        """A pandas frame, one of its columns as the index perhaps, or a Dask DataFrame; the table where there is none."""
        if len(set(self.names)) < len(self.names):
            return table
        objects = pa.types.is_decimal, pa.types.is_date, pa.types.is_boolean  # Python's in a frame, texts in Dask's
        try:
            odd = self.form == "dask" and any(check(kind) for check in objects for kind in table.schema.types)
            frame = table.to_pandas(types_mapper=pd.ArrowDtype if odd else None)
        except (pa.ArrowException, ValueError, OverflowError):  # times beyond those of NumPy
            frame = table.to_pandas(types_mapper=pd.ArrowDtype)
        if self.form == "indexed":
            return frame.set_index(self.names[-1])
        if self.form == "dask" and self.rows:
            try:
                from dask.dataframe import from_pandas

                return from_pandas(frame, npartitions=self.files, sort=False)
            except (TypeError, ValueError, NotImplementedError):  # nested columns
                return frame
        return frame

    def _write(self, part: pa.Table, folder: Path, number: int) -> None:
        if self.form == "csv":
            pacsv.write_csv(_writable(part), folder / f"{number}.csv")
        elif self.form == "libsvm":
            (folder / f"{number}.libsvm").write_text("".join(_libsvm(part)))
        elif self.form == "feather":
            feather.write_feather(part, folder / f"{number}.feather", chunksize=self.group_rows)
        else:
            if self.form == "hive":
                folder = folder / f"part={number % 2}" / f"name={'x' if number else '__HIVE_DEFAULT_PARTITION__'}"
                folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(part, folder / f"{number}.parquet", row_group_size=self.group_rows)


def _drifted(table: pa.Table) -> pa.Table:
    """Integers as floats, texts as dictionaries: what another writer would have made of the rows."""
    for place, field in enumerate(table.schema):
        if pa.types.is_int8(field.type) or pa.types.is_int16(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(pa.float64()))
        elif pa.types.is_string(field.type):
            table = table.set_column(place, field.name, table.column(place).dictionary_encode())
    return table


def _libsvm(table: pa.Table) -> Iterator[str]:
    """Lines of `label index:value ...`; what is no number is numbered."""
    columns = []
    for column in table.columns:
        kind = column.type
        if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
            columns.append(column.to_pylist())
        else:
            columns.append([None if text is None else len(text) for text in _texts(column)])
    for label, *values in zip(*columns, strict=True):
        shown = (f"{place}:{_shown(value)}" for place, value in enumerate(values, start=1) if value is not None)
        yield f"{_shown(label)} {' '.join(shown)}\n"


def _shown(value: float | None) -> str:
    return "nan" if value is None else str(float(value)) if isinstance(value, float) else str(int(value))


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    """Texts for values that Python may not know, such as times beyond its own."""
    if pa.types.is_temporal(column.type):
        column = column.cast(pa.int32() if column.type in (pa.date32(), pa.time32("s")) else pa.int64())
    return [None if value is None else str(value) for value in column.to_pylist()]


def _writable(table: pa.Table) -> pa.Table:
    """With texts for what Arrow's CSV writer does not know."""
    for place, field in enumerate(table.schema):
        plain = pa.types.is_boolean(field.type) or pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        if not (plain or pa.types.is_string(field.type) or pa.types.is_temporal(field.type)):
            table = table.set_column(place, field.name, pa.array(_texts(table.column(place)), pa.string()))
        elif pa.types.is_float16(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(pa.float32()))
    return table


NAMES = st.one_of(
    st.sampled_from([f"c{number}" for number in range(12)]),
    st.sampled_from([f"c{number}" for number in range(12)]),
    st.sampled_from([name for name in HOSTILE if name]),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=8),
)
FEATURES = st.one_of(
    st.sampled_from([*NUMBERS, *TEXTS, *TIMES]),
    st.sampled_from([*NUMBERS, *TEXTS, *TIMES]),
    st.sampled_from(["normal", "counts", "few", "queries", "weights"]),
    st.sampled_from(list(KINDS)),
)
SEEDS = st.integers(0, 2**16)


@st.composite
def cases(draw: st.DrawFn, forms: tuple[str, ...] = FORMS, rows: tuple[int, ...] = ROWS) -> Case:
    """Tables of a few columns: many of which can be trained on, and many not."""
    odd = draw(st.integers(0, 9))  # most tables have at most one thing wrong with them
    names = draw(st.lists(NAMES, min_size=2, max_size=7, unique=odd != 9))
    hostile_target = odd == 8
    target = Column(
        names[0],
        draw(st.sampled_from(list(KINDS) if hostile_target else list(TARGETS))),
        draw(SEEDS),
        draw(st.sampled_from(MISSING if hostile_target else (0.0, 0.0, 0.2))),
        target=not hostile_target,
    )
    features = [Column(name, draw(FEATURES), draw(SEEDS), draw(st.sampled_from(MISSING))) for name in names[1:]]
    if odd != 7:  # then what is refused at any place is removed
        features = [
            dataclasses.replace(column, kind="normal")
            if column.kind in OTHERS | HOSTILE_NUMBERS and column.kind != "nothing"
            else column
            for column in features
        ]
    form = draw(st.sampled_from(forms))
    columns = [target, *features]
    if form not in ("table", "feather"):  # Parquet has no seconds
        columns = [
            dataclasses.replace(column, kind="any second") if column.kind == "extreme second" else column
            for column in columns
        ]
    return Case(
        columns=tuple(columns),
        rows=draw(st.sampled_from(rows if odd == 6 else [count for count in rows if count >= 40])),
        form=form,
        files=draw(st.integers(1, 4)),
        group_rows=draw(st.sampled_from([7, 20, 1_000])),
        sort=draw(st.booleans()),
        blank=draw(st.none() | st.integers(0, 6)),
        drift=draw(st.booleans()) and draw(st.booleans()),
        leak=draw(st.integers(0, 4)) == 4,
    )


def wide_case(columns: int) -> Case:
    """A table of many columns of all kinds that can be features, in three files."""
    kinds = [
        kind
        for kind in {**NUMBERS, **TEXTS, **TIMES}
        if kind not in ("constant", "empty", "long", "same second", "wider decimal")
    ]
    kinds = [kind for kind in kinds if kind != "extreme second"]
    features = [Column(f"column {n}", kinds[n % len(kinds)], n, MISSING[n % 4]) for n in range(columns)]
    target = Column("y", "two texts", 0, 0.0, target=True)
    return Case((target, *features), rows=60, form="parquet", files=3, group_rows=20, sort=True, blank=1, drift=True)
