"""Damaged files of each format, and files that are something else: rows, or one line that says what is wrong."""

import gzip
import io
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.job import CsvOptions
from pipeline.data.describe import describe
from pipeline.data.reading import count_rows, read_fragment
from pipeline.data.schema.hints import ColumnHints
from pipeline.data.source import Source, open_source
from pipeline.errors import SourceError, UserError
from tests.any_input.documents import damaged
from tests.any_input.effort import Tally, outcome, trying

TABLE = pa.table(
    {
        "x": np.linspace(0, 1, 40),
        "c": ["a", "b", None, "d,e"] * 10,
        "t": pa.array(range(40), pa.timestamp("s")),
        "n": pa.array([1, None] * 20),
        "d": pa.array(["u", "v"] * 20).dictionary_encode(),
        "m": pa.array([1] * 40, pa.decimal128(10, 2)),
    }
)


def written(ending: str) -> bytes:
    sink = io.BytesIO()
    if ending == "parquet":
        pq.write_table(TABLE, sink, row_group_size=15)
    elif ending == "feather":
        feather.write_feather(TABLE, sink, chunksize=15, compression="uncompressed")
    elif ending == "csv.gz":
        return gzip.compress(written("csv"))
    elif ending == "csv":
        pacsv.write_csv(TABLE.drop(["d", "m"]), sink)
    else:
        lines = (f"{row % 2} qid:{row // 5} 1:{row / 7:.3f} 3:{row}\n" for row in range(40))
        sink.write("".join(lines).encode())
    return sink.getvalue()


KNOWN = pa.schema(
    [("x", pa.int64()), ("n", pa.int8()), ("c", pa.string()), ("t", pa.timestamp("s")), ("f1", pa.float32())]
)


def rows_of(path: Path, options: CsvOptions, types: pa.Schema | None) -> tuple[Source, int]:
    """The source, and the rows that its fragments are read to; they can be described."""
    source = count_rows(open_source(str(path), csv=options, hints=ColumnHints(types=types)))
    describe(source)
    return source, sum(read_fragment(source, fragment).num_rows for fragment in source.fragments)


@pytest.mark.parametrize("ending", ["parquet", "feather", "csv", "csv.gz", "libsvm"])
def test_damaged_files_are_rows_or_one_line(ending: str) -> None:
    tally = Tally()

    @trying(150)
    @given(
        content=damaged(written(ending)) | st.binary(max_size=200) | st.just(written(ending)),
        options=st.builds(
            CsvOptions,
            newlines_in_quotes=st.booleans(),
            separator=st.sampled_from([",", ",", ";", "\t"]),
            header=st.sampled_from([True, True, False]),
            decimal=st.sampled_from([".", ","]),
            encoding=st.sampled_from(["utf-8", "utf-8", "latin-1", "gb18030"]),
            comment=st.sampled_from(["", "", "#", "0"]),
        ),
        types=st.sampled_from([None, KNOWN]),
    )
    def check(content: bytes, options: CsvOptions, types: pa.Schema | None) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"some.{ending}"
            path.write_bytes(content)
            found = outcome(lambda: rows_of(path, options, types), 20)
        tally.note(found)
        if isinstance(found, UserError):
            assert isinstance(found, SourceError)
        else:
            source, rows = found
            assert source.rows == rows > 0

    check()
    tally.check(good=0.05, refused=0.2)
