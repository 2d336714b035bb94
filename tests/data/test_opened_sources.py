"""What a job's [data] section means for the files it names."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config.job import Job
from pipeline.data import fragments
from pipeline.data.opened_sources import Inputs, open_inputs, reader
from pipeline.data.reading import read_fragment
from pipeline.data.rows import RowPlan, load_rows
from pipeline.errors import DataError, JobError, SourceError
from pipeline.events.findings import findings

ROWS = 100


def table_of(**changes: Any) -> pa.Table:
    columns = {
        "x": np.arange(ROWS, dtype=np.float64),
        "name": np.resize(["a", "b"], ROWS),
        "y": np.arange(ROWS) % 2,
        **changes,
    }
    return pa.table({name: values for name, values in columns.items() if values is not None})


@pytest.fixture(autouse=True)
def small_fragments(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fragment for each file, however small."""
    monkeypatch.setattr(fragments, "MIN_FRAGMENT_NBYTES", 1)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Folders train (three files) and held_out (two files)."""
    for name, count in (("train", 3), ("held_out", 2)):
        (tmp_path / name).mkdir()
        for number in range(count):
            pq.write_table(table_of(), tmp_path / name / f"{number}.parquet")
    return tmp_path


def opened(files: Path, *settings: str, source: object = None, allow_code: bool = False) -> Inputs:
    table = {"data": {"source": "train", "target": "y"}}
    return open_inputs(Job.parse(table, settings=settings, folder=files), source, allow_code=allow_code)


def test_one_source(files: Path) -> None:
    inputs = opened(files)
    assert inputs.roles.features == ("x", "name")
    assert (inputs.validation, inputs.sources) == (None, (inputs.training,))
    assert [fragment.index for fragment in inputs.training.fragments] == [0, 1, 2]
    assert inputs.rows == 3 * ROWS
    assert inputs.notes == ()


def test_fragments_of_a_validation_source_are_numbered_after_the_others(files: Path) -> None:
    inputs = opened(files, f"data.validation.source={files / 'held_out'}")
    assert inputs.validation is not None
    assert [fragment.index for source in inputs.sources for fragment in source.fragments] == [0, 1, 2, 3, 4]
    assert inputs.rows == 5 * ROWS
    joined = inputs.with_sources([opened(files, f"data.source={files / 'held_out'}").training, inputs.validation])
    assert [fragment.index for source in joined.sources for fragment in source.fragments] == [0, 1, 2, 3]
    assert inputs.with_sources([inputs.training]).validation is None


def test_a_validation_source_may_hold_less_and_more(files: Path) -> None:
    """What is not read for training may be missing; what is, has the training files' types."""
    others = table_of(x=None, surplus=np.zeros(ROWS)).append_column("x", pa.array(np.arange(ROWS)))
    for number in range(2):
        pq.write_table(others, files / "held_out" / f"{number}.parquet")
    inputs = opened(files, f"data.validation.source={files / 'held_out'}", "data.exclude=['name']")
    assert inputs.validation is not None
    read = read_fragment(inputs.validation, inputs.validation.fragments[0], columns=list(inputs.roles.read))
    assert read.schema.field("x").type == pa.float64()
    assert set(read.column_names) == {"x", "y"}


def test_a_validation_source_without_a_column_that_is_needed(files: Path) -> None:
    for number in range(2):
        pq.write_table(table_of(name=None), files / "held_out" / f"{number}.parquet")
    with pytest.raises(DataError, match="the validation source lacks the column 'name'"):
        opened(files, f"data.validation.source={files / 'held_out'}")


def test_a_validation_source_with_texts_for_numbers(files: Path) -> None:
    for number in range(2):
        pq.write_table(table_of(x=np.resize(["one", "two"], ROWS)), files / "held_out" / f"{number}.parquet")
    with pytest.raises(
        DataError, match="the validation source has string in the column 'x', the training source double"
    ):
        opened(files, f"data.validation.source={files / 'held_out'}")
    assert opened(files, f"data.validation.source={files / 'held_out'}", "data.exclude=['x']").validation is not None


def test_a_validation_source_without_the_zone_of_the_times(files: Path) -> None:
    """Taken as UTC, its hours would be others than those that the model was trained on."""
    zoned, naive = (pa.array(range(ROWS), pa.timestamp("s", zone)) for zone in ("Europe/Berlin", None))
    for folder, times in (("train", zoned), ("held_out", naive)):
        for path in (files / folder).iterdir():
            pq.write_table(table_of().append_column("t", times), path)
    with pytest.raises(
        DataError, match=r"has timestamp\[ms\] in the column .t., the training source timestamp\[ms, tz="
    ):
        opened(files, f"data.validation.source={files / 'held_out'}")


@pytest.mark.parametrize(
    ("renamed", "settings", "named"),
    [
        ("y", [], "data.target"),
        ("x", ["data.weight=x"], "data.weight"),
        ("name", ["data.group=name"], "data.group"),
        ("name", ["data.id=['name']"], "data.id name"),
        ("name", ["data.validation={column='name', values=['a']}"], "data.validation"),
    ],
)
def test_a_file_without_a_column_that_has_a_part_is_refused_by_name(
    files: Path, renamed: str, settings: list[str], named: str
) -> None:
    """Its rows would count as missing: half the labels, say, where `late` is called `Late` in one of two files."""
    pq.write_table(table_of().rename_columns({renamed: renamed.upper()}), files / "train/1.parquet")
    message = rf"^{named}: 1 of 3 files lacks the column '{renamed}', e.g. .*/1.parquet; the column '{renamed.upper()}'"
    with pytest.raises(DataError, match=message):
        opened(files, *settings)
    own = f"data.validation.source={files / 'held_out'}"
    if named == "data.target":
        pq.write_table(table_of(y=None), files / "held_out/1.parquet")
        pq.write_table(table_of(), files / "train/1.parquet")
        with pytest.raises(
            DataError, match=r"data\.target: 1 of 2 files lacks the column 'y', e\.g\. .*held_out/1.parquet"
        ):
            opened(files, own)


def test_columns_that_some_files_lack_are_reported_with_counts(files: Path) -> None:
    pq.write_table(table_of().rename_columns({"name": "Name_"}), files / "train/1.parquet")
    inputs = opened(files, "data.derive.big=x > 10 and name = 'a'", "data.target=big", "data.where=x < 99 or name='b'")
    (spelling, absent) = findings(inputs.notes)
    assert (spelling.kind, spelling.column, spelling.count) == ("two_spellings", "Name_", 2)
    assert "'name' (in 2 files) and 'Name_' (in 1 file)" in spelling.message
    assert (absent.kind, absent.column, absent.count, absent.setting) == ("absent_input", "name", 1, "data.derive.big")
    drift = next(note for note in inputs.notes if isinstance(note, str))
    assert drift.startswith("the files differ in name (string in 2 files, absent in 1 file; read as string), Name_ (")


def test_names_of_columns_without_a_value_are_names(files: Path) -> None:
    """A job that ran last month runs this month, when a column that it names holds nothing."""
    for path in (files / "train").iterdir():
        pq.write_table(table_of(z=pa.nulls(ROWS), w=pa.nulls(ROWS), key=pa.nulls(ROWS)), path)
    settings = ["data.derive.ratio=x / z", "data.id=['key']", "data.exclude=['w']", "data.where=z is null"]
    inputs = opened(files, *settings)
    assert inputs.roles.features == ("x", "name", "ratio")
    assert inputs.roles.id == ("key",)
    assert inputs.roles.read == ("x", "name", "y", "z")
    rows = load_rows(inputs.training, inputs.training.fragments[0], RowPlan(inputs.roles, inputs.derivation))
    assert rows.table["ratio"].null_count == ROWS
    assert opened(
        files, *settings, f"data.validation.source={files / 'held_out'}", "data.derive={}", "data.where=x > 0"
    )
    for setting in ("target", "weight", "group"):
        with pytest.raises(DataError, match=f"data.{setting} = 'z': the column has no value in any file"):
            opened(files, f"data.{setting}=z")


def test_names_are_looked_up_before_columns_are_left_out(files: Path) -> None:
    nested = pa.array([[1, 2]] * ROWS)
    for path in (files / "train").iterdir():
        table = table_of(pair=nested, __index_level_0__=np.arange(ROWS)).append_column("tags[0]", nested)
        pq.write_table(table, path)
    settings = ["data.exclude=['pair', '__index_level_0__', 'tags[0]']"]
    assert opened(files, *settings).roles.features == ("x", "name")
    assert opened(files, "data.exclude=['pa?r', 'tags[*]']").roles.features == ("x", "name")
    with pytest.raises(DataError, match=r"data.target = 'pair': the column is nested: list<"):
        opened(files, *settings, "data.target=pair")
    with pytest.raises(SourceError, match="column 'pair' is nested"):
        opened(files, "data.exclude=['tags[0]']")


def test_a_validation_source_must_be_of_other_files(files: Path) -> None:
    (files / "link").symlink_to("train")
    (files / "both").mkdir()
    pq.write_table(table_of(), files / "both/own.parquet")
    (files / "both/hard.parquet").hardlink_to(files / "train/1.parquet")
    for source, counts in (
        ("train", "3 of its 3 files"),
        ("train/1.parquet", "1 of its 1 files"),
        ("link", "3 of its 3 files"),
        ("both", "1 of its 2 files"),
    ):
        with pytest.raises(DataError, match=rf"{counts} are among the 3 of data\.source, e\.g\. .*/[01hard]+\.parquet"):
            opened(files, f"data.validation.source={files / source}")


def test_validation_files_that_look_like_copies_are_a_finding(files: Path) -> None:
    inputs = opened(files, f"data.validation.source={files / 'held_out'}")
    assert [(note.kind, note.count) for note in findings(inputs.notes)] == [("validation_copy", 2)]
    for name in ("0", "1"):
        pq.write_table(table_of(x=np.arange(ROWS) + 0.5), files / "held_out" / f"{name}.parquet")
    assert not findings(opened(files, f"data.validation.source={files / 'held_out'}").notes)


def test_a_validation_source_that_is_not_there(files: Path) -> None:
    with pytest.raises(SourceError, match="nowhere"):
        opened(files, "data.validation.source=nowhere")


def test_derived_columns(files: Path) -> None:
    inputs = opened(files, "data.derive.big=x > 10", "data.target=big", "data.where=name = 'a'")
    assert inputs.schema.names == ["x", "name", "y", "big"]
    assert inputs.roles.features == ("name", "y")
    assert inputs.notes == ("x is left out: the target big is made from it",)


def test_tables_and_frames_replace_the_source(files: Path) -> None:
    from dask.dataframe import from_pandas

    table = table_of()
    assert opened(files, source=table).rows == ROWS
    frame = opened(files, source=from_pandas(table.to_pandas(), npartitions=4))
    assert (frame.rows, len(frame.training.fragments)) == (None, 4)


def test_a_table_may_have_a_validation_source(files: Path) -> None:
    inputs = opened(files, f"data.validation.source={files / 'held_out'}", source=table_of())
    first = len(inputs.training.fragments)
    assert inputs.validation is not None
    assert [fragment.index for fragment in inputs.validation.fragments] == [first, first + 1]


def test_what_is_built_into_libsvm_files(tmp_path: Path) -> None:
    (tmp_path / "train").write_text("1 1:0.5 2:1\n0 1:0.25\n2 2:3\n" * 10)
    (tmp_path / "train.query").write_text("3\n" * 10)
    job = Job.parse({"data": {"source": str(tmp_path / "train"), "format": "libsvm"}})
    inputs = open_inputs(job)
    assert (inputs.job.data.target, inputs.job.data.group) == (inputs.roles.target, inputs.roles.group)
    assert inputs.roles.group is not None
    assert len(inputs.roles.features) == 2
    assert job.data.target is None


def test_code_runs_only_with_leave(files: Path) -> None:
    with pytest.raises(JobError, match="--allow-code"):
        opened(files, "data.function=json:loads")


def test_a_reader_is_small_and_reads(files: Path) -> None:
    inputs = opened(files)
    small = reader(inputs.training)
    assert (small.fragments, small.files) == ((), ())
    fragment = inputs.training.fragments[1]
    assert read_fragment(small, fragment).equals(read_fragment(inputs.training, fragment))
    assert len(pickle.dumps(small)) < 5_000


def test_a_reader_of_a_table_leaves_the_rows_behind(files: Path) -> None:
    table = pa.table({"x": np.zeros(1_000_000), "y": np.arange(1_000_000) % 2})
    assert len(pickle.dumps(reader(opened(files, source=table).training))) < 5_000


@pytest.mark.parametrize("values", [np.full(ROWS, np.nan), pa.nulls(ROWS, pa.float64())], ids=["NaN", "null"])
def test_a_validation_column_without_any_value_fits_whatever_its_type(files: Path, values: Any) -> None:
    for number in range(2):
        pq.write_table(table_of(name=values), files / "held_out" / f"{number}.parquet")
    inputs = opened(files, f"data.validation.source={files / 'held_out'}")
    assert inputs.validation is not None
    read = read_fragment(inputs.validation, inputs.validation.fragments[1], ["name"])["name"]
    assert read.type == inputs.training.schema.field("name").type
    assert read.null_count == ROWS
    pq.write_table(table_of(name=np.append(np.full(ROWS - 1, np.nan), 1.0)), files / "held_out" / "1.parquet")
    with pytest.raises(DataError, match="the validation source has double in the column 'name'"):
        opened(files, f"data.validation.source={files / 'held_out'}")
