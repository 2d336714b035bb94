"""Converts rows in memory, of the common Python kinds, to an Arrow table.

Accepted: an Arrow table, record batch or stream, a pandas frame, any object with Arrow's C interface (Polars), a 2-D
NumPy array with names, a mapping of column names to values, and a list of such mappings, one for each row.
A named index of a pandas frame is a column, an unnamed one is left out.  Columns that are not used are not converted.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import SourceError
from pipeline.events.findings import Finding, UserNote

ACCEPTED = (
    "an Arrow table, record batch or stream, a pandas or Polars frame, a 2-D NumPy array, "
    "a mapping of column names to values, or a list of such mappings, one a row"
)
_WAY_OUT = "convert it, or leave it out of the training (data.exclude)"
UNREADABLE = pa.binary()  # type in the schema of a column of Python objects that is not used


def is_rows(data: Any) -> bool:
    """Whether `to_table` takes it."""
    if isinstance(data, (list, tuple)):
        return all(isinstance(row, Mapping) for row in data)
    if dask_kind(data) is not None:
        return False
    known = (pa.Table, pa.RecordBatch, pa.RecordBatchReader, np.ndarray, Mapping)
    return isinstance(data, known) or is_frame(data) or _speaks_arrow(data) or hasattr(data, "__dataframe__")


def is_frame(data: Any) -> bool:
    """Whether it is a pandas frame, or of a class derived from it.  Imports nothing.

    pandas 2 has its class in pandas.core.frame, pandas 3 in pandas.
    """
    return _is_a(data, "pandas", "DataFrame")


def dask_kind(data: Any) -> str | None:
    """DataFrame, Array, Series, Bag: what a Dask collection is; None for anything else."""
    kinds = ("DataFrame", "Array", "Series", "Bag", "Delayed")
    return next((kind for kind in kinds if any(_is_a(data, top, kind) for top in ("dask", "dask_expr"))), None)


def described(data: Any) -> str:
    """The type of an object, as text.

    >>> described(3), described(pa.table({}))
    ('an int', 'a pyarrow.Table')
    """
    kind = type(data)
    top = kind.__module__.partition(".")[0]
    name = kind.__qualname__ if top == "builtins" else f"{top}.{kind.__qualname__}"
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def refusal(data: Any, accepted: str = ACCEPTED) -> SourceError:
    """The error for an object that no rows can be read from: its type, what to pass instead, and what is accepted."""
    return SourceError(f"no rows can be read from {described(data)}{_hint(data)}; accepted: {accepted}")


def to_table(
    data: Any,
    where: str,
    *,
    names: Sequence[str] | None = None,
    only: Collection[str] | None = None,
    unused: Sequence[str] = (),
) -> pa.Table:
    """The rows as a table.

    `names`: those of an array's columns.  `only`: the columns to convert, None for all of them.  `unused`: columns that
    become `UNREADABLE` where they cannot be converted.  SourceError, which begins with `where` and names the column.
    """
    if names is not None and not isinstance(data, np.ndarray):
        raise SourceError(f"{where}: names= is for arrays; {described(data)} has names of its own")
    if isinstance(data, np.ndarray):
        return from_array(data, where, names)
    if is_frame(data):
        return from_pandas(data, where, only=only, unused=unused)
    if isinstance(data, Mapping):
        return _from_mapping(data, where, only)
    if not is_rows(data):
        raise refusal(data)
    if isinstance(data, (list, tuple)):
        return _from_rows(data, where, only)
    if only is not None and _is_a(data, "polars", "DataFrame"):
        data = data.select([name for name in data.columns if name in only])
    try:
        return data if isinstance(data, pa.Table) else _from_arrow(data)
    except Exception as error:  # of whatever library the data are
        raise SourceError(f"{where}: {described(data)} cannot be read ({type(error).__name__})") from None


def from_array(array: np.ndarray, where: str, names: Sequence[str] | None) -> pa.Table:
    """A 2-D array, or one of records; masked values are missing.  SourceError where names and columns do not match."""
    if array.dtype.names is not None and array.ndim == 1 and names is None:
        return _table({name: array[name] for name in array.dtype.names}, where)
    if array.ndim != 2:
        row = "; one row is array.reshape(1, -1)" if array.ndim == 1 else ""
        raise SourceError(f"{where}: an array of shape {array.shape}: it must be (rows, columns){row}")
    check_names(array.shape[1], where, names)
    assert names is not None
    return _table({str(name): array[:, place] for place, name in enumerate(names)}, where)


def check_names(columns: int, where: str, names: Sequence[str] | None) -> None:
    """SourceError unless `names` match the columns in number and are distinct."""
    if names is None:
        raise SourceError(f"{where}: an array has no names of columns: give names=[...], {columns} of them")
    if isinstance(names, str) or len(names) != columns:
        count = "one text" if isinstance(names, str) else len(names)
        raise SourceError(f"{where}: names= holds {count}, the array has {columns} columns")
    _check_distinct(map(str, names), where)


def from_pandas(
    frame: Any,
    where: str,
    *,
    only: Collection[str] | None = None,
    unused: Sequence[str] = (),
    nthreads: int | None = None,
) -> pa.Table:
    """The rows of a pandas frame, the named levels of its index as columns after the others.

    SourceError naming the column (Arrow's last argument) whose values are not of one type.
    """
    frame = with_index(frame)
    if only is not None:
        frame = frame.loc[:, [str(name) in only for name in frame.columns]]
    if not frame.shape[1]:  # without columns, Arrow would not keep the number of rows
        return pa.table({"": pa.nulls(len(frame))}).select([])
    kinds = [str(kind) for kind in frame.dtypes]
    if any(kind.startswith("Sparse") for kind in kinds):
        frame = frame.copy(deep=False)
        for place, kind in enumerate(kinds):
            if kind.startswith("Sparse"):
                frame.isetitem(place, frame.iloc[:, place].sparse.to_dense())
    _check_distinct(map(str, frame.columns), where)
    try:
        return pa.Table.from_pandas(frame, preserve_index=False, nthreads=nthreads).replace_schema_metadata(None)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        hidden = set(unused).intersection(frame.columns)
        if hidden:
            return _without_unused(frame, where, hidden, nthreads)
        raise SourceError(f"{where}: {_unconverted(frame, error)}") from None


def _unconverted(frame: Any, error: Exception) -> str:
    """Names the column that Arrow cannot convert, and the ways out; the values stay unmentioned."""
    for place, name in enumerate(frame.columns):
        try:
            pa.array(frame.iloc[:, place], from_pandas=True)
        except OverflowError:
            what = "whole numbers that are too large for 64 bits"
            return f"column {name!r} holds {what}: {_WAY_OUT}; astype(float) makes them numbers, astype(str) text"
        except (pa.ArrowException, TypeError, ValueError):
            kind = str(frame.dtypes.iloc[place])
            if kind.startswith("complex"):
                return f"column {name!r} holds complex numbers ({kind}), which no column can have: {_WAY_OUT}"
            what = "Python objects of several types" if kind == "object" else f"values of the type {kind}"
            return f"column {name!r} holds {what}, which no column can have: {_WAY_OUT}; astype(str) makes it text"
    return str(error.args[-1]).splitlines()[0] if error.args else type(error).__name__


def _check_distinct(names: Iterable[str], where: str) -> None:
    """SourceError naming a column whose name another one has."""
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise SourceError(f"{where}: two columns are named {twice!r}")


def index_notes(frame: Any) -> tuple[UserNote, ...]:
    """Notes on a pandas frame's index that is left out; none for an index 0, 1, 2 ..."""
    columns = {str(name) for name in frame.columns}
    notes: list[UserNote] = []
    for level, name in enumerate(frame.index.names):
        kind = str(frame.index.get_level_values(level).dtype)
        if name is not None and str(name) in columns:
            notes.append(f"left out, the index {name} of the frame: a column has its name")
        elif name is None and type(frame.index).__name__ != "RangeIndex":
            said = f"left out, the index of the frame ({kind}): it has no name; give it one, and it is a column"
            # integers: row numbers, of a frame that is a selection of rows
            notes.append(said if "int" in kind else Finding("unnamed_index", said))
    return tuple(notes)


def with_index(frame: Any) -> Any:
    """The frame with texts as names, and with the named levels of its index; a column of the same name takes
    precedence.
    """
    names, levels = [str(name) for name in frame.columns], list(frame.index.names)
    wanted = [place for place, name in enumerate(levels) if name is not None and str(name) not in names]
    if not wanted and all(isinstance(name, str) for name in frame.columns):
        return frame
    frame = frame.copy(deep=False)
    frame.columns = names
    for place in wanted:
        frame.insert(frame.shape[1], str(levels[place]), frame.index.get_level_values(place), allow_duplicates=True)
    return frame


def _without_unused(frame: Any, where: str, unused: set[str], nthreads: int | None) -> pa.Table:
    """The table of a frame; unused columns that cannot be converted become `UNREADABLE`."""
    fields: dict[str, pa.ChunkedArray] = {}
    for place, name in enumerate(frame.columns):
        one = frame.iloc[:, [place]]
        try:
            column = from_pandas(one, where, nthreads=nthreads).column(0)
        except SourceError:
            if name not in unused:
                raise
            column = pa.chunked_array([pa.nulls(len(frame), UNREADABLE)])
        fields[name] = column
    return pa.table(fields)


def _from_mapping(data: Mapping[Any, Any], where: str, only: Collection[str] | None) -> pa.Table:
    """Names to columns, or, where no value has a length, to the values of one row; a single value among columns is
    repeated.
    """
    wanted = {str(name): value for name, value in data.items() if only is None or str(name) in only}
    columns = {name: value for name, value in wanted.items() if not _is_single(value)}
    counts = {name: len(value) for name, value in columns.items()}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{name} {count}" for name, count in list(counts.items())[:5])
        raise SourceError(f"{where}: its columns have different numbers of rows: {said}")
    rows = next(iter(counts.values()), 1)
    return _table({name: value if name in columns else [value] * rows for name, value in wanted.items()}, where)


def _from_rows(data: Sequence[Mapping[Any, Any]], where: str, only: Collection[str] | None) -> pa.Table:
    """Rows as mappings, e.g. from JSON: a key that a row lacks is missing there."""
    names = dict.fromkeys(str(name) for row in data for name in row)
    wanted = [name for name in names if only is None or name in only]
    rows = [{str(name): value for name, value in row.items()} for row in data]
    table = _table({name: [row.get(name) for row in rows] for name in wanted}, where)
    return table if wanted or not data else pa.table({"": pa.nulls(len(data))}).select([])


def _from_arrow(data: Any) -> pa.Table:
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if isinstance(data, pa.RecordBatchReader):
        return data.read_all()
    if _speaks_arrow(data):
        return pa.table(data)
    from pyarrow.interchange import from_dataframe

    return from_dataframe(data)


def _table(columns: Mapping[str, Any], where: str) -> pa.Table:
    arrays = {}
    for name, values in columns.items():
        try:
            arrays[name] = _array(values)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            what = f"its values are of no one type that a column can have ({type(error).__name__})"
            raise SourceError(f"{where}: column {name!r}: {what}: {_WAY_OUT}") from None
    return pa.table(arrays)


def _array(values: Any) -> pa.Array | pa.ChunkedArray:
    """One column; NaN is missing, as in a pandas frame."""
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values
    if isinstance(values, np.ndarray):
        if not values.dtype.isnative:
            values = values.astype(values.dtype.newbyteorder("="))
        if not isinstance(values, np.ma.MaskedArray):
            values = np.ascontiguousarray(values)
    elif _speaks_arrow(values) and not _is_a(values, "pandas", "Series"):
        return pa.chunked_array(values)
    return pa.array(values, from_pandas=True)


def _is_single(value: Any) -> bool:
    """Whether it is one value, not a column of them."""
    if isinstance(value, (str, bytes, Mapping, pa.Scalar)) or not hasattr(value, "__len__"):
        return True
    return isinstance(value, np.ndarray) and value.ndim == 0


def _speaks_arrow(data: Any) -> bool:
    if type(data).__name__ in ("Series", "Index", "ChunkedArray", "Array"):  # columns, not rows
        return False
    return hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__")


def _is_a(data: Any, top: str, name: str) -> bool:
    """Whether a class of this name, from this package, is among the thing's classes."""
    return any(kind.__module__.partition(".")[0] == top and kind.__name__ == name for kind in type(data).__mro__)


def _hint(data: Any) -> str:
    """The advice for objects that resemble an accepted kind."""
    kind = dask_kind(data)
    if kind is not None:
        other = "bag.to_dataframe()" if kind == "Bag" else "a Dask DataFrame or Array"
        return f": give {other} to pipeline.train or pipeline.predict, or what compute() gives"
    if type(data).__name__ in ("Series", "Index"):
        return ": rows are a frame, e.g. frame.iloc[[0]] for one of them, or series.to_frame() for a column"
    hints = {
        "collect": "what collect() gives", "to_table": "what to_table() gives, or the names of its files",
        "toarray": "what toarray() gives", "__fspath__": "what is in the file, or the name to pipeline.predict",
    }  # fmt: skip
    for name, instead in hints.items():
        if hasattr(data, name):
            return f": give {instead}"
    if isinstance(data, str):
        return ": give what is in the file, or its name to pipeline.predict(client, model, name, out=...)"
    return ": give a list of its rows" if isinstance(data, Iterator) else ""
