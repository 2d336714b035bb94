"""Checks a job's constraints, training.monotone and training.interactions, against the existing features."""

from pipeline.config.job import Training
from pipeline.config.xgboost import check_features
from pipeline.errors import JobError
from pipeline.preprocess.recipe import Recipe


def without_absent(training: Training, recipe: Recipe) -> Training:
    """The training section without constraints on features whose columns carry no information in these rows: other
    rows may have them.
    """
    monotone = {name: sign for name, sign in training.monotone.items() if not recipe.lacks(name)}
    groups = [
        [name for name in group if not recipe.lacks(name)]
        for group in training.interactions
        if not group or not all(map(recipe.lacks, group))
    ]
    return training.model_copy(update={"monotone": monotone, "interactions": groups})


def check_constraints(training: Training, recipe: Recipe, kind: str) -> None:
    """JobError for a constraint that names no feature, or that means nothing; `kind`: of the target."""
    training, features = without_absent(training, recipe), recipe.names
    check_features(training.monotone, features, "training.monotone")
    wanted = [name for name, direction in training.monotone.items() if direction]
    if wanted and kind == "multiclass":
        raise JobError(
            f"training.monotone: {', '.join(wanted)}: a target of several classes has no direction in which a feature could "
            "raise it; leave training.monotone out"
        )
    categorical = {name for name, count in zip(features, recipe.levels, strict=True) if count is not None}
    if unordered := [name for name in wanted if name in categorical]:
        raise JobError(
            f"training.monotone: {', '.join(unordered)}: the levels of a category have no order; leave it out, or choose "
            'encoding = "target" for the column'
        )
    for place, group in enumerate(training.interactions):
        check_features(group, features, f"training.interactions[{place}]")
        if not group:
            raise JobError(f"training.interactions[{place}] is an empty group: name the features that may meet")
        if len(set(group)) < len(group):
            raise JobError(f"training.interactions[{place}] names a feature twice")
