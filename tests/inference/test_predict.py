"""Predictions: in this process, on a cluster, to the bit the same; and what is refused."""

import dataclasses
import time
from types import SimpleNamespace

import dask.dataframe
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import xgboost
from distributed import Client, LocalCluster

from pipeline.config.job import Cluster
from pipeline.errors import (
    ClusterError,
    DataError,
    ModelError,
    OutputError,
    PipelineError,
    SchedulerLostError,
    SourceError,
)
from pipeline.events.types import FragmentDone, Note, Planned
from pipeline.inference import predict
from pipeline.inference.evaluate import evaluate
from pipeline.model import inference
from pipeline.model.manifest import NamedType
from pipeline.model.schema import check_schema, to_table
from pipeline.planning.memory import processes_nbytes
from pipeline.preprocess.apply import matrix
from pipeline.runtime import membership
from tests.models import TARGETS, flights

NEEDED = ["distance", "minutes", "carrier"]


@pytest.fixture(scope="module")
def new_data(tmp_path_factory):
    """1,000 flights in two files, in another order of columns, without anything of the target."""
    folder = tmp_path_factory.mktemp("new")
    table = flights(1_000, seed=5).select(["carrier", "flight", "minutes", "distance"])
    pq.write_table(table.slice(0, 300), folder / "a.parquet")
    pq.write_table(table.slice(300), folder / "b.parquet")
    return folder


@pytest.fixture
def small_fragments(monkeypatch):
    """Every file a fragment of its own, or several, small as it is."""
    real = predict.open_source
    monkeypatch.setattr(predict, "open_source", lambda data, **told: real(data, **{**told, "fragment_nbytes": 2_000}))


@pytest.mark.parametrize("kind", TARGETS)
def test_the_cluster_predicts_what_this_process_does_to_the_bit(
    make_model, client, new_data, small_fragments, tmp_path, kind
):
    model = make_model(kind)
    heard = []
    done = predict.predict(client, model, str(new_data), out=tmp_path / "out", listen=heard.append)
    assert (done.rows, done.files) == (1_000, 2)
    assert [event.done for event in heard if isinstance(event, FragmentDone)] == [1, 2]
    (planned,) = [event for event in heard if isinstance(event, Planned)]
    assert (planned.rows, planned.workers, planned.fragments) == (1_000, 2, 2)
    assert processes_nbytes(2) < planned.nbytes < processes_nbytes(2) + 2**20  # the processes, and a few small files
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["part-00000.parquet", "part-00001.parquet"]
    made = pa.concat_tables(pq.read_table(path) for path in sorted((tmp_path / "out").iterdir()))
    assert made.column_names[:3] == ["flight", "row", "prediction"]
    assert made["row"].to_pylist() == list(range(1_000))
    assert made.schema.field("row").type == pa.uint64()
    table = flights(1_000, seed=5)
    assert made["flight"].to_pylist() == table["flight"].to_pylist()
    here = model.predict(table)
    if kind == "binary":
        assert np.array_equal(made["probability"].to_numpy(), here)
        assert made["prediction"].to_pylist() == model.predict_class(table).tolist()
    elif kind == "multiclass":
        columns = [made[f"probability_{name}"].to_numpy() for name in model.classes]
        assert np.array_equal(np.column_stack(columns), here)
        assert made["prediction"].to_pylist() == model.predict_class(table).tolist()
    elif kind == "quantiles":
        assert np.array_equal(np.column_stack([made[f"prediction_{q}"].to_numpy() for q in (0.1, 0.5, 0.9)]), here)
        assert made["prediction"].equals(made["prediction_0.5"])
    else:
        assert np.array_equal(made["prediction"].to_numpy(), here)


@pytest.mark.parametrize("kind", TARGETS)
def test_one_row_alone_predicts_as_among_many_and_as_a_dmatrix_would(make_model, kind, monkeypatch):
    model = make_model(kind)
    table = flights(200, seed=2)
    table = table.set_column(table.column_names.index("carrier"), "carrier", pa.array([None, "XX", "AA", "WN"] * 50))
    whole = model.predict(table)
    alone = np.concatenate([model.predict(table.slice(i, 1)) for i in range(0, 200, 7)])
    assert np.array_equal(alone, whole[::7])
    monkeypatch.setattr(inference, "CHUNK_ROWS", 17)
    assert np.array_equal(model.with_threads(2).predict(table), whole)
    block = matrix(model.recipe, inference.features(model, table))
    names, kinds = list(model.recipe.names), list(model.recipe.kinds)
    data = xgboost.DMatrix(block, feature_names=names, feature_types=kinds, enable_categorical=True)
    assert np.array_equal(model.booster.predict(data), whole)
    assert model.predict(table.slice(0, 0)).shape == (0, *whole.shape[1:])


def test_frames_mappings_and_arrays_are_tables_too(make_model):
    model = make_model("binary")
    table = flights(50, seed=3)
    expected = model.predict(table)
    assert np.array_equal(model.predict(table.to_pandas()), expected)
    assert np.array_equal(model.predict({name: table[name].to_pylist() for name in NEEDED}), expected)
    assert np.array_equal(model.predict(table.to_batches()[0]), expected)
    encoded = table.set_column(4, "carrier", table["carrier"].dictionary_encode())
    assert np.array_equal(model.predict(encoded), expected)
    assert [column.name for column in model.manifest.needed] == NEEDED
    with pytest.raises(DataError, match=r"needs \(rows, 3\)"):
        model.predict(np.zeros((5, 2)))
    with pytest.raises(DataError, match="no rows can be read from"):
        model.predict(7)
    frame = pd.DataFrame({"distance": [900.0], "minutes": [100], "carrier": [None]})
    assert model.predict(frame).shape == (1,)  # a column without any value fits


def test_a_model_may_be_named_by_its_folder(make_model, client, new_data, tmp_path):
    model = make_model("binary")
    assert predict.predict(client, str(model.path), str(new_data), out=tmp_path / "out").rows == 1_000
    assert evaluate(None, model.path, flights(100)) == evaluate(None, model, flights(100))
    with pytest.raises(ModelError, match="x: no such model folder"):
        predict.predict(client, "x", str(new_data), out=tmp_path / "other")
    line = "expected a Model or the path of a model folder, got SimpleNamespace: pass its .model"
    with pytest.raises(ModelError, match=line):  # what training gives
        predict.predict(client, SimpleNamespace(model=model), str(new_data), out=tmp_path / "other")
    with pytest.raises(ModelError, match=r"a model folder, got NoneType$"):
        evaluate(None, None, flights(100))
    assert not (tmp_path / "other").exists()


def test_files_that_lack_a_column(make_model, client, tmp_path):
    """The ids are needed of every row; a feature counts as missing, with a note."""
    model = make_model("binary")
    (tmp_path / "data").mkdir()
    table = flights(40, seed=3)
    pq.write_table(table, tmp_path / "data/a.parquet")
    pq.write_table(table.drop_columns("flight"), tmp_path / "data/b.parquet")
    with pytest.raises(DataError, match=r"data\.id flight: 1 of 2 files lacks the column 'flight', e\.g\. .*b.parquet"):
        predict.predict(client, model, str(tmp_path / "data"), out=tmp_path / "out")
    pq.write_table(table.drop_columns("minutes"), tmp_path / "data/b.parquet")
    said = []
    predict.predict(client, model, str(tmp_path / "data"), out=tmp_path / "out", listen=said.append)
    (note,) = (event.message for event in said if isinstance(event, Note))
    assert note.startswith("1 of 2 files lacks the column 'minutes', e.g. ")
    regression = make_model("regression")
    pq.write_table(table.drop_columns("delay"), tmp_path / "data/b.parquet")
    with pytest.raises(DataError, match=r"data\.target: 1 of 2 files lacks the column 'delay'"):
        evaluate(None, regression, str(tmp_path / "data"))


def test_ids_without_a_value_are_ids(make_model, client, tmp_path):
    model = make_model("binary")
    table = flights(20, seed=3)
    empty = table.set_column(table.schema.get_field_index("flight"), "flight", pa.nulls(20))
    pq.write_table(empty, tmp_path / "d.parquet")
    predict.predict(client, model, str(tmp_path / "d.parquet"), out=tmp_path / "out")
    assert pq.read_table(tmp_path / "out")["flight"].to_pylist() == [None] * 20


def test_times_need_the_zone_that_training_had():
    zoned, naive = (pa.schema([("t", pa.timestamp("us", zone))]) for zone in ("UTC", None))
    for trained, found in ((zoned, naive), (naive, zoned), (zoned, pa.schema([("t", pa.date32())]))):
        needed = [NamedType("t", str(trained.field("t").type))]
        with pytest.raises(DataError, match=r"column 't' is .*, the model was trained on .* without a zone"):
            check_schema(needed, found)
        with pytest.raises(DataError, match="column 't'"):
            to_table(found.empty_table(), needed)
    check_schema([NamedType("t", str(zoned.field("t").type))], pa.schema([("t", pa.timestamp("ns", "Asia/Tokyo"))]))
    check_schema([NamedType("t", "timestamp[ns]")], pa.schema([("t", pa.date32())]))


def test_what_does_not_fit_is_named(make_model, client, tmp_path):
    model = make_model("binary")
    table = flights(20, seed=3)
    with pytest.raises(DataError, match=r"lack the column 'minutes' \(double\)"):
        model.predict(table.drop_columns("minutes"))
    with pytest.raises(DataError, match="did you mean 'Carrier'"):
        model.predict(table.rename_columns({"carrier": "Carrier"}))
    wrong = table.set_column(3, "minutes", table["minutes"].cast(pa.string()))
    with pytest.raises(DataError, match="column 'minutes' is string, the model was trained on double"):
        model.predict(wrong)
    pq.write_table(table.drop_columns("flight"), tmp_path / "d.parquet")
    with pytest.raises(DataError, match="lack the column 'flight'"):
        predict.predict(client, model, str(tmp_path / "d.parquet"), out=tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["d.parquet"]
    with pytest.raises(ModelError, match="no classes"):
        make_model("regression").predict_class(table)


def test_further_columns_of_any_type_are_ignored(make_model, client, tmp_path):
    model = make_model("binary")
    table = (
        flights(20, seed=3).append_column("legs", pa.array([[1, 2]] * 20)).append_column("raw", pa.array([b"x"] * 20))
    )
    pq.write_table(table, tmp_path / "d.parquet")
    assert predict.predict(client, model, str(tmp_path / "d.parquet"), out=tmp_path / "out").rows == 20
    assert predict.predict(client, model, table, out=tmp_path / "again").rows == 20


def test_infinite_features_are_refused_by_column(make_model, client, tmp_path):
    model = make_model("binary")
    table = flights(20, seed=3)
    infinite = table.set_column(2, "distance", pa.array([1.0] * 19 + [float("inf")]))
    with pytest.raises(DataError, match="column 'distance' holds an infinite value"):
        model.predict(infinite)
    pq.write_table(infinite, tmp_path / "d.parquet")
    with pytest.raises(DataError, match="column 'distance' holds an infinite value"):
        predict.predict(client, model, str(tmp_path / "d.parquet"), out=tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["d.parquet"]  # nothing half-written


@pytest.mark.parametrize("kind", TARGETS)
def test_contributions_add_up_to_the_margin(make_model, client, new_data, tmp_path, kind):
    model = make_model(kind)
    table = flights(1_000, seed=5)
    values = model.contributions(table)
    outputs = {"multiclass": 3, "quantiles": 3}.get(kind)
    assert values.shape == ((1_000, 4) if outputs is None else (1_000, outputs, 4))
    block = matrix(model.recipe, inference.features(model, table))
    margin = model.booster.inplace_predict(block, predict_type="margin", validate_features=False)
    assert np.allclose(values.sum(axis=-1), margin, atol=1e-4)
    predict.predict(client, model, str(new_data), out=tmp_path / "out", contributions=True)
    made = pq.read_table(tmp_path / "out")
    names = [name for name in made.column_names if name.startswith("contribution_")]
    assert len(names) == 4 * (outputs or 1)
    last = {"multiclass": "contribution_on time_bias", "quantiles": "contribution_0.9_bias"}
    assert names[-1] == last.get(kind, "contribution_bias")
    written = np.column_stack([made[name].to_numpy() for name in names])
    assert np.array_equal(written, values.reshape(1_000, -1))


def test_csv_rows_get_global_numbers(make_model, client, small_fragments, tmp_path):
    model = make_model("binary")
    table = flights(600, seed=6)
    folder = tmp_path / "csv"
    folder.mkdir()
    for name, part in (("a.csv", table.slice(0, 200)), ("b.csv", table.slice(200))):
        pyarrow.csv.write_csv(part, folder / name)
    done = predict.predict(client, model, str(folder), out=tmp_path / "out")
    made = pa.concat_tables(pq.read_table(path) for path in sorted((tmp_path / "out").iterdir()))
    assert done.files >= 2
    assert made["row"].to_pylist() == list(range(600))
    assert made["flight"].to_pylist() == table["flight"].to_pylist()
    assert np.allclose(made["probability"].to_numpy(), model.predict(table), atol=1e-6)


def test_existing_predictions_are_replaced_only_when_asked(make_model, client, new_data, tmp_path):
    model = make_model("binary")
    out = tmp_path / "out"
    predict.predict(client, model, str(new_data), out=out)
    with pytest.raises(OutputError, match="--overwrite"):
        predict.predict(client, model, str(new_data), out=out)
    (out / "part-99999.parquet").write_text("old")
    predict.predict(client, model, str(new_data), out=out, overwrite=True)
    assert not (out / "part-99999.parquet").exists()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds something else"):
        predict.predict(client, model, str(new_data), out=out, overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_only_a_few_fragments_are_under_way(client):
    submitted = []

    def submit(item):
        submitted.append(item)
        return client.submit(lambda value: value, item, pure=False)

    seen = 0
    for _ in predict.in_flight(client, range(40), submit):
        seen += 1
        assert len(submitted) <= seen + predict.IN_FLIGHT * 2
    assert seen == 40


def test_a_task_that_cannot_write_says_so(make_model, new_data, tmp_path):
    model = make_model("binary")
    source = predict.open_for(model, str(new_data))
    task = predict._Task(source, predict.RowPlan(model.manifest.roles, model.manifest.derivation, purpose="prediction"),
                         str(tmp_path / "gone" / "deeper"), False)  # fmt: skip
    with pytest.raises(OutputError, match="cannot be written"):
        predict._write(task, model, source.fragments[0], 0, None)


@pytest.mark.parametrize("kind", TARGETS)
def test_evaluation_is_the_same_here_and_on_the_cluster(make_model, client, files, small_fragments, kind):
    model = make_model(kind)
    here = evaluate(None, model, str(files))
    there = evaluate(client, model, str(files))
    assert here == there
    name = {"binary": "auc", "multiclass": "auc", "ranking": "ndcg@5"}.get(kind, "r2")
    assert here[name] > 0.6
    table = flights(2_500)
    rows = table.filter(pa.compute.greater(table["minutes"], 25))  # the job's where
    if kind == "binary":
        late = rows["delay"].to_numpy() > 8
        assert here["accuracy"] == pytest.approx(np.mean(model.predict_class(rows) == late), abs=1e-12)


def test_evaluation_needs_labels(make_model, tmp_path):
    table = flights(30).set_column(5, "delay", pa.nulls(30, pa.float64()))
    pq.write_table(table, tmp_path / "d.parquet")
    with pytest.raises(DataError, match="no row to evaluate on"):
        evaluate(None, make_model("binary"), str(tmp_path / "d.parquet"))
    pq.write_table(table.drop_columns("delay"), tmp_path / "d.parquet")
    with pytest.raises(DataError, match="lack the column 'delay'"):
        evaluate(None, make_model("binary"), str(tmp_path / "d.parquet"))


def test_an_arrow_table_can_be_predicted_and_evaluated(make_model, client, tmp_path):
    model = make_model("binary")
    table = flights(300, seed=8)
    done = predict.predict(client, model, table, out=tmp_path / "out")
    assert done.rows == 300
    assert np.array_equal(pq.read_table(tmp_path / "out")["probability"].to_numpy(), model.predict(table))
    assert evaluate(client, model, table)["auc"] > 0.6


def test_a_dask_frame_can_be_predicted(make_model, client, tmp_path):
    dask_frame = pytest.importorskip("dask.dataframe")
    model = make_model("binary")
    table = flights(300, seed=9)
    frame = dask_frame.from_pandas(table.to_pandas(), npartitions=3)
    done = predict.predict(client, model, frame, out=tmp_path / "out")
    assert (done.rows, done.files) == (300, 3)
    assert evaluate(client, model, frame) == evaluate(client, model, table)
    assert np.array_equal(pq.read_table(tmp_path / "out")["probability"].to_numpy(), model.predict(table))


def test_files_that_do_not_show_their_format_have_the_job_s(make_model, tmp_path):
    model = make_model("binary")
    path = tmp_path / "flights.data"
    pyarrow.csv.write_csv(flights(50, seed=9), path)
    with pytest.raises(SourceError, match="by their endings"):
        predict.open_for(model, str(path))
    data = {**model.manifest.job["data"], "format": "csv"}
    manifest = dataclasses.replace(model.manifest, job={**model.manifest.job, "data": data})
    assert predict.open_for(dataclasses.replace(model, manifest=manifest), str(path)).format == "csv"


def test_what_another_client_cancels_is_predicted_again(client):
    """As `client.restart()` does: with a copy of the model that is sent again."""
    model = predict.broadcast(client, "trees")
    first, done = model.future(), []

    def submit(item):
        future = client.submit(lambda sent, number: (sent, number), model.future(), item, pure=False)
        if item == 2 and not done:
            done.append(future)
            client.cancel([future, first], force=True)
        return future

    assert sorted(predict.in_flight(client, range(6), submit)) == [("trees", number) for number in range(6)]
    assert model.future() is not first

    def submit_in_vain(item):
        future = client.submit(abs, item, pure=False)
        client.cancel([future], force=True)
        return future

    with pytest.raises(PipelineError, match="cancelled 4 times by another client"):
        list(predict.in_flight(client, [1], submit_in_vain))


def test_a_scheduler_that_answers_no_more_ends_a_prediction(client, monkeypatch):
    """Its connection is open, so that Dask would wait for ever for the tasks' results."""
    asked = []

    def scheduler_info(client, seconds):
        asked.append(seconds)
        if len(asked) == 1:
            return {"workers": {}}
        raise TimeoutError

    monkeypatch.setattr(membership, "scheduler_info", scheduler_info)
    monkeypatch.setattr(membership, "SCHEDULER_SECONDS", 0.2)
    with pytest.raises(SchedulerLostError, match="it has not answered for"):
        list(predict.in_flight(client, [3.0], lambda seconds: client.submit(time.sleep, seconds, pure=False)))


@pytest.fixture(scope="module")
def empty_cluster():
    """A cluster without workers, and a client of it."""
    with (
        LocalCluster(n_workers=0, dashboard_address=":0", processes=False, protocol="tcp", host="127.0.0.1") as cluster,
        Client(cluster) as client,
    ):
        yield cluster, client


@pytest.mark.parametrize("kind", ["memory", "files", "dask"])
def test_a_cluster_without_workers_is_waited_for_and_refused(
    make_model, empty_cluster, new_data, tmp_path, monkeypatch, kind
):
    _, client = empty_cluster
    monkeypatch.setattr(predict, "CLUSTER", Cluster(patience="0.5s"))
    model, table = make_model("binary"), flights(30, seed=1)
    pq.write_table(table, tmp_path / "labelled.parquet")
    data = {
        "memory": table.to_pandas(),
        "files": str(tmp_path / "labelled.parquet"),
        "dask": dask.dataframe.from_pandas(table.to_pandas(), npartitions=2),
    }[kind]
    verbs = (
        lambda listen: evaluate(client, model, data, listen=listen),
        lambda listen: predict.predict(client, model, data, out=tmp_path / "out", listen=listen),
    )
    for verb in verbs:
        heard = []
        with pytest.raises(
            ClusterError, match=r"the cluster has 0: no worker was available for .* \(cluster\.patience = 0 s\)"
        ):
            verb(heard.append)
        (note,) = [event.message for event in heard if isinstance(event, Note)]
        assert note == "no worker is available yet: waiting for one, up to 0.5s (cluster.patience)"
    assert not (tmp_path / "out").exists()


def test_a_worker_that_comes_late_evaluates(make_model, empty_cluster):
    cluster, client = empty_cluster
    table, heard = flights(300, seed=8), []

    def listen(event):
        heard.append(event)
        if isinstance(event, Note):
            cluster.scale(1)

    assert evaluate(client, make_model("binary"), table, listen=listen)["auc"] > 0.6
    assert [event for event in heard if isinstance(event, Note)]


def test_evaluation_takes_the_rows_of_queries_in_any_order(make_model):
    model, table = make_model("ranking"), flights(500, seed=8)
    shuffled = table.take(np.random.default_rng(0).permutation(500))
    assert evaluate(None, model, shuffled) == pytest.approx(evaluate(None, model, table))
