"""The documents of a model folder, from what a training leaves behind."""

import numpy as np
import pytest

from pipeline.config.job import Preprocess
from pipeline.data.rows import RowPlan, Split, load_rows
from pipeline.data.schema.derive import Derivation
from pipeline.inference.predict import open_for
from pipeline.metrics.curves import curves
from pipeline.metrics.exact import evaluate
from pipeline.model.artifact import Model, ModelParts, add_report, save
from pipeline.preprocess.apply import matrix
from pipeline.preprocess.statistics.collect import collect, merge
from pipeline.reports.training_report import ReportInput, draw_report
from pipeline.runtime.timing import Span
from tests.models import TARGETS


def record(model: Model, files) -> ReportInput:
    """What a training of the model would have known."""
    target, manifest = model.manifest.target, model.manifest
    source = open_for(model, str(files))
    derivation = Derivation(**manifest.derivation.__dict__)
    plan = RowPlan(manifest.roles, derivation, target, Split())
    rows = [load_rows(source, fragment, plan) for fragment in source.fragments]
    found = [collect(part, Preprocess(), target) for part in rows]
    statistics = found[0]
    for right in found[1:]:
        statistics = merge(statistics, right)
    block = np.concatenate([matrix(model.recipe, part.table) for part in rows])
    label = np.concatenate([part.label for part in rows])
    group = None if rows[0].group is None else np.concatenate([part.group for part in rows])
    scores = model.booster.inplace_predict(block, validate_features=False)
    told = {"quantiles": manifest.quantiles}
    return ReportInput(
        name="flights",
        manifest=manifest,
        recipe=model.recipe,
        booster=model.booster,
        metrics={"train": evaluate(target.kind, target.objective, scores, label, None, group, **told)},
        curves={"train": curves(target.kind, target.objective, scores, label, None, group, **told)},
        history={"train.loss": [0.5, 0.4]},
        statistics=statistics.without_sample(),
        preview=block[:500],
        preview_label=label[:500],
        workers=1,
        seconds={"rounds": 2.0, "other": 1.0},
        spans=[Span("worker 0", "rounds", 100.5, 102.5)],
        begin=100.0,
    )


@pytest.mark.parametrize("kind", TARGETS)
def test_every_kind_of_training_gets_its_documents(make_model, files, tmp_path, kind):
    model = make_model(kind)
    made = draw_report(record(model, files))
    for piece in ("<h1>flights</h1>", "2 January 2026, 00:00 UTC", "1 worker", "distance", "3.0 seconds by stage"):
        assert piece in made.html
    assert len(made.html) < 2.4 * 2**20
    assert set(made.pictures) == {"learning", "importance", "quality"}
    parts = ModelParts(model.booster_bytes, model.recipe, model.manifest, {}, "# card\n")
    saved = add_report(save(tmp_path / "model", parts), made.html, made.pictures)
    assert (tmp_path / "model" / "report.html").stat().st_size == saved.manifest.files["report.html"].size
    assert (tmp_path / "model" / "pictures" / "learning.png").exists()
    assert Model.load(tmp_path / "model").manifest == saved.manifest
