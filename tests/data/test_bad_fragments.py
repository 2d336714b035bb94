"""A fragment that cannot be read is named; where the job allows it, it is left out, of every pass alike."""

import dataclasses
import gzip
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.job import Job, Preprocess, Training
from pipeline.data import fragments
from pipeline.data.describe import describe
from pipeline.data.formats import parquet as parquet_files
from pipeline.data.fragments import Piece, cut_fragments
from pipeline.data.groups import join_groups
from pipeline.data.opened_sources import Inputs, open_inputs, reader
from pipeline.data.reading import read_fragment
from pipeline.data.rows import RowPlan
from pipeline.data.schema.hints import ColumnHints
from pipeline.data.schema.target import Target
from pipeline.data.schema.target_survey import merge_surveys
from pipeline.data.skipped import SkippedFragment, note
from pipeline.data.source import Source, open_source
from pipeline.errors import AccessError, BadFragment, DataError, SourceError
from pipeline.preprocess import fit as fitting
from pipeline.preprocess.fit import FragmentTask, PassConfig, TableCache, collect_unit, survey_unit
from pipeline.run import finish
from tests.data.flaky import FORMATS, ROWS

SECRET = "s3cret"


@pytest.fixture(autouse=True)
def small_fragments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fragments of as little as a row group."""
    monkeypatch.setattr(fragments, "MIN_FRAGMENT_NBYTES", 1)


def parquet(path: Path) -> None:
    """Damages the feature, not the target, in the second of three row groups."""
    chunk = pq.ParquetFile(path).metadata.row_group(1).column(1)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    overwrite(path, start, start + chunk.total_compressed_size)


def feather(path: Path) -> None:
    content = path.read_bytes()
    middle = content.find(b"\x04\x22\x4d\x18", len(content) // 3)  # where an LZ4 frame begins, in the second batch
    overwrite(path, middle, middle + 8)


def csv(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:150], f"1.0,2.0,{SECRET}\n".encode(), *lines[151:]]))


def gz(path: Path) -> None:
    path.write_bytes(gzip.decompress(path.read_bytes()))
    csv(path)
    path.write_bytes(gzip.compress(path.read_bytes()))


def svm(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:150], f"1 1:{SECRET}\n".encode(), *lines[151:]]))


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "a.parquet": (parquet, r"a\.parquet, row groups? [\d-]*1[\d-]*: damaged Parquet file: "),
    "a.feather": (feather, r"a\.feather, record batch(es)? [\d-]*1[\d-]*: damaged Feather file: "),
    "a.csv": (csv, r"a\.csv, bytes \d+ to \d+: line 151: 3 values where 2 columns are"),
    "a.csv.gz": (gz, r"a\.csv\.gz: line 151: 3 values where 2 columns are"),
    "a.svm": (svm, r"a\.svm, bytes \d+ to \d+: line 151: a value that is no number$"),
}


def overwrite(path: Path, start: int, stop: int) -> None:
    content = bytearray(path.read_bytes())
    content[start:stop] = b"\xff" * (stop - start)
    path.write_bytes(bytes(content))


def job(*sources: Path, target: str = "label", **data: Any) -> Job:
    given = {"source": [str(path) for path in sources], "target": target, "skip_bad_fragments": True, **data}
    return Job.parse({"data": given})


def looked_at(inputs: Inputs) -> list[Any]:
    """What the survey's tasks give, fragment by fragment."""
    plan = RowPlan(inputs.roles, inputs.derivation)
    return [
        survey_unit(FragmentTask(reader(source), fragment, plan), None, TableCache("run", 0))
        for source in inputs.sources
        for fragment in source.fragments
    ]


def bad_of(found: list[Any]) -> list[SkippedFragment]:
    return [item for item in found if isinstance(item, SkippedFragment)]


def whole(source: Source) -> int:
    return sum(read_fragment(source, fragment).num_rows for fragment in source.fragments)


@pytest.mark.parametrize("name", DAMAGE)
def test_named(tmp_path: Path, name: str) -> None:
    damage, message = DAMAGE[name]
    FORMATS[name](tmp_path / name)
    damage(tmp_path / name)
    with pytest.raises(SourceError, match=message.replace(", bytes \\d+ to \\d+", ".*")) as caught:
        whole(open_source(str(tmp_path / name), fragment_nbytes=2000))
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", DAMAGE)
def test_left_out(tmp_path: Path, name: str) -> None:
    damage, message = DAMAGE[name]
    good, ill = tmp_path / "good" / name, tmp_path / "ill" / name
    for path in (good, ill):
        path.parent.mkdir()
        FORMATS[name](path)
    damage(ill)
    inputs = open_inputs(job(good, ill))
    found = looked_at(inputs)
    (bad,) = bad_of(found)
    assert re.search(message, bad.reason), bad.reason
    assert SECRET not in bad.reason
    left = inputs.without([bad])
    assert [f.index for f in left.training.fragments] == [i for i in range(len(found)) if i != bad.fragment]
    assert left.skipped == (bad,)
    rows = merge_surveys([item for item in found if not isinstance(item, SkippedFragment)]).rows
    assert rows == whole(left.training)
    assert ROWS <= rows < 2 * ROWS
    if bad.rows is not None:
        assert rows + bad.rows == 2 * ROWS
    # without the setting the error is raised
    with pytest.raises(SourceError):
        whole(open_source([str(good), str(ill)]))


TRUNCATED = {
    "a.parquet": "truncated Parquet file: it ends after",
    "a.feather": "not a whole Feather file",
    "a.csv.gz": "damaged file: Truncated compressed stream",
    "a.svm": "line 141: expected `label index:value",
}


@pytest.mark.parametrize("name", TRUNCATED)
def test_files_that_say_nothing_sensible_about_themselves(tmp_path: Path, name: str) -> None:
    good, ill = tmp_path / "good" / name, tmp_path / "ill" / name
    for path in (good, ill):
        path.parent.mkdir()
        FORMATS[name](path)
    content = ill.read_bytes()
    if name == "a.svm":
        content = b"".join([*content.splitlines(keepends=True)[:140], b"1 1:2 3\n"])
    ill.write_bytes(content[: len(content) // 2] if name != "a.svm" else content)
    with pytest.raises(SourceError, match=TRUNCATED[name]):
        open_source([str(good), str(ill)])
    source = open_source([str(good), str(ill)], skip_bad=True)
    assert [bool(piece.bad) for f in source.fragments for piece in f.pieces].count(True) == 1
    assert source.fragments[-1].pieces[0].path == str(ill)
    with pytest.raises(BadFragment, match=f"{name}: {TRUNCATED[name]}"):
        read_fragment(source, source.fragments[-1])
    assert sum(read_fragment(source, f).num_rows for f in source.fragments[:-1]) == ROWS
    assert source.drift == ()
    assert source.schema == open_source(str(good)).schema
    found = looked_at(open_inputs(job(good, ill)))
    assert [item.rows for item in bad_of(found)] == [None]
    with pytest.raises(DataError, match=rf"^nothing of the source can be read; the first reason: .*{TRUNCATED[name]}"):
        open_inputs(job(ill))


def test_files_of_which_nothing_can_be_read_have_no_types(tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text("a,b\n1,2\n")
    (tmp_path / "ill.csv").write_text("a,b\n1,2,3\n")
    source = open_source(str(tmp_path), skip_bad=True)
    assert source.drift == source.notes == ()
    assert source.schema.names == ["a", "b"]


def test_what_may_not_be_read_is_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing permission, or a file that is gone: nothing is wrong with the data."""
    FORMATS["a.parquet"](tmp_path / "a.parquet")

    def refused(path: str, start: int, stop: int) -> bytes:
        raise AccessError(f"{path}: not readable: permission denied")

    monkeypatch.setattr(parquet_files, "read_range", refused)
    with pytest.raises(AccessError):
        open_source(str(tmp_path), skip_bad=True)


def test_damaged_features_show_in_the_survey(tmp_path: Path) -> None:
    """It looks at the target alone, unless bad fragments are left out: else the passes would not agree."""
    path = tmp_path / "a.parquet"
    FORMATS["a.parquet"](path)
    parquet(path)
    assert bad_of(looked_at(open_inputs(job(path))))
    found = looked_at(open_inputs(job(path, skip_bad_fragments=False)))
    assert sum(item.rows for item in found) == ROWS


def test_a_bad_fragment_is_an_error_unless_it_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    FORMATS["a.parquet"](path)
    parquet(path)
    inputs = open_inputs(job(path, target="f1", skip_bad_fragments=False))
    with pytest.raises(BadFragment, match=r"a\.parquet, row group"):
        looked_at(inputs)


def test_later_passes_skip_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    FORMATS["a.parquet"](path)
    inputs = open_inputs(job(path))
    assert not bad_of(looked_at(inputs))

    def turned(*_: Any) -> None:
        raise BadFragment(f"{path}, row group 0", "damaged Parquet file: Unexpected end of stream")

    monkeypatch.setattr(fitting, "load_rows", turned)
    target = Target("label", "regression", "reg:squarederror")
    shared = PassConfig("run", Preprocess(), Training(), target, None, 0)
    unit = FragmentTask(reader(inputs.training), inputs.training.fragments[0], RowPlan(inputs.roles, target=target))
    with pytest.raises(
        AccessError, match=r"row group 0: changed during the run: it could be read when the run began, now"
    ):
        collect_unit(unit, None, shared)
    plain = dataclasses.replace(unit, source=dataclasses.replace(unit.source, skip_bad=False))
    with pytest.raises(BadFragment, match=r"row group 0: damaged Parquet file"):
        collect_unit(plain, None, shared)


def test_nothing_left(tmp_path: Path) -> None:
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for path in paths:
        FORMATS["a.parquet"](path)
    inputs = open_inputs(job(paths[0], validation={"source": str(paths[1])}))
    first = len(inputs.training.fragments)
    assert first > 1
    bad = [SkippedFragment(i, 100, f"/{i}: damaged") for i in range(first + len(inputs.sources[1].fragments))]
    with pytest.raises(
        DataError, match=rf"^none of the {first} fragments of the source can be read; the first: /0: damaged"
    ):
        inputs.without(bad[:first])
    with pytest.raises(DataError, match=rf"of the validation source can be read; the first: /{first}: damaged"):
        inputs.without(bad[first:])
    left = inputs.without([bad[0], bad[first]])
    assert [f.index for f in left.training.fragments] == list(range(1, first))
    assert left.validation is not None
    assert left.validation.fragments[0].index == first + 1
    again = left.with_sources(left.sources)
    numbers = [f.index for source in again.sources for f in source.fragments]
    assert len(set(numbers)) == len(numbers)


def test_queries_continue_behind_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "a.svm"
    path.write_text("".join(f"{i % 3} qid:{i // 100} 1:{i}\n" for i in range(ROWS)))
    runs_of = lambda keys: [SimpleNamespace(fragment=i, keys=np.array(k)) for i, k in keys]  # noqa: E731
    source = open_source(str(path))
    pieces = [Piece(str(path), None, (i, i + 1), 10, 1) for i in range(4)]
    source = dataclasses.replace(source, fragments=tuple(fragments.Fragment(i, (pieces[i],)) for i in (0, 1, 3)))
    joined = join_groups(source, "query", runs_of([(0, [1, 2]), (1, [3]), (3, [3, 4])]))
    assert [[p.byte_range for p in f.pieces] for f in joined.fragments] == [[(0, 1)], [(1, 2), (3, 4)]]


def test_what_the_manifest_says() -> None:
    statistics = SimpleNamespace(rows=900, validation_rows=50, dropped={"where": 5})
    rows = finish.row_counts(statistics, [SkippedFragment(1, 30, "x"), SkippedFragment(2, None, "y")])  # type: ignore[arg-type]
    assert rows == {
        "train": 900,
        "validation": 50,
        "dropped": {"where": 5, "in bad fragments": 30},
        "bad_fragments": 2,
    }
    assert finish.row_counts(statistics, []) == {"train": 900, "validation": 50, "dropped": {"where": 5}}  # type: ignore[arg-type]


def test_a_note_of_many() -> None:
    bad = [SkippedFragment(i, None, f"/{i}.csv: damaged") for i in range(9)]
    assert note(bad, 20).startswith("9 of 20 fragments left out (rows not known): /0.csv: damaged; ")
    assert note(bad, 20).endswith("/2.csv: damaged; and 6 more")


def test_described_without(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    FORMATS["a.parquet"](path)
    parquet(path)
    found = describe(open_source(str(path), fragment_nbytes=2000, skip_bad=True))
    assert 0 < found.rows < ROWS
    assert "fragments left out" in found.notes[-1]
    with pytest.raises(BadFragment):
        describe(open_source(str(path)))


def test_errors_travel() -> None:
    error = pickle.loads(pickle.dumps(BadFragment("/a, row group 1", "damaged")))
    assert (error.where, error.reason, str(error)) == ("/a, row group 1", "damaged", "/a, row group 1: damaged")


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=30), st.integers(1, 40))
def test_bad_pieces_are_separate(made: list[tuple[int, bool]], target: int) -> None:
    pieces = [
        Piece("/f", (i,), None, None if bad else 1, nbytes, bad="damaged" * bad) for i, (nbytes, bad) in enumerate(made)
    ]
    cut = cut_fragments(pieces, target)
    assert [group for f in cut for piece in f.pieces for group in piece.row_groups or ()] == list(range(len(made)))
    for fragment in cut:
        groups = [group for piece in fragment.pieces for group in piece.row_groups or ()]
        assert len(groups) == 1 or not any(made[group][1] for group in groups)


def test_a_known_type_that_a_value_does_not_have(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"a,b\n1,2\n1,{SECRET}\n")
    source = open_source(
        str(tmp_path), hints=ColumnHints(types=pa.schema([("a", pa.int64()), ("b", pa.float64())])), skip_bad=True
    )
    with pytest.raises(
        BadFragment, match=r"t\.csv, bytes \d+ to 17: line 3: column 'b' holds values that are not double$"
    ):
        whole(source)


def test_rows_that_were_counted_otherwise(tmp_path: Path) -> None:
    FORMATS["a.csv"](tmp_path / "a.csv")
    source = open_source(str(tmp_path))
    (piece,) = source.fragments[0].pieces
    assert piece.rows is not None
    fragment = fragments.Fragment(0, (dataclasses.replace(piece, rows=piece.rows + 1),))
    with pytest.raises(BadFragment, match=f"a.csv, bytes .*: {piece.rows} rows where {piece.rows + 1} were counted"):
        read_fragment(source, fragment)
