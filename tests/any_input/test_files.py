"""Damaged files of each format, and files that are something else: rows, or one line that says what is wrong."""

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

from pipeline.data.reading import count_rows, read_fragment
from pipeline.data.source import Source, open_source
from pipeline.errors import SourceError, UserError
from pipeline.job import CsvOptions
from tests.any_input.documents import damaged
from tests.any_input.effort import Tally, outcome, trying

TABLE = pa.table(
    {
        "x": np.linspace(0, 1, 40),
        "c": ["a", "b", None, "d,e"] * 10,
        "t": pa.array(range(40), pa.timestamp("s")),
        "n": pa.array([1, None] * 20),
    }
)


def written(ending: str) -> bytes:
    sink = io.BytesIO()
    if ending == "parquet":
        pq.write_table(TABLE, sink, row_group_size=15)
    elif ending == "feather":
        feather.write_feather(TABLE, sink, chunksize=15)
    elif ending == "csv":
        pacsv.write_csv(TABLE, sink)
    else:
        lines = (f"{row % 2} qid:{row // 5} 1:{row / 7:.3f} 3:{row}\n" for row in range(40))
        sink.write("".join(lines).encode())
    return sink.getvalue()


def rows_of(path: Path, options: CsvOptions) -> tuple[Source, int]:
    """The source, and the rows that its fragments are read to."""
    source = count_rows(open_source(str(path), csv=options))
    return source, sum(read_fragment(source, fragment).num_rows for fragment in source.fragments)


@pytest.mark.parametrize("ending", ["parquet", "feather", "csv", "libsvm"])
def test_damaged_files_are_rows_or_one_line(ending: str) -> None:
    tally = Tally()

    @trying(150)
    @given(
        content=damaged(written(ending)) | st.binary(max_size=200) | st.just(written(ending)),
        quoted=st.booleans(),
        separator=st.sampled_from([",", ";", "\t"]),
    )
    def check(content: bytes, quoted: bool, separator: str) -> None:
        options = CsvOptions(newlines_in_quotes=quoted, separator=separator)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"some.{ending}"
            path.write_bytes(content)
            found = outcome(lambda: rows_of(path, options), 20)
        tally.note(found)
        if isinstance(found, UserError):
            assert isinstance(found, SourceError)
        else:
            source, rows = found
            assert source.rows == rows > 0

    check()
    tally.check(good=0.05, refused=0.2)
