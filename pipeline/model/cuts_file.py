"""Writes and reads cuts.json: with which borders each feature's values became the codes that the model was trained on.

    {"format_version": 1, "features": [
    {"name": "distance", "cuts": [50.5, 120.25]},
    {"name": "carrier", "levels": 16}
    ]}

A numeric feature with k cuts has the codes 0 to k: code i holds the values from cut i - 1 on, and below cut i.  A
categorical one has the codes of its levels, in the recipe's order.  Cuts are float32, in their shortest decimal form.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.config.encoding import ENCODING
from pipeline.errors import ModelError
from pipeline.model.manifest import NamedType
from pipeline.preprocess.bins import Cuts

VERSION = 1


def render(cuts: Cuts, names: Sequence[str]) -> bytes:
    """The bytes of the file; `names`: of the features.  The same bytes for equal cuts."""
    features = [
        {"name": name, "cuts": [float(text) for text in points.astype(np.float32).astype(str)]}
        if levels is None
        else {"name": name, "levels": levels}
        for name, points, levels in zip(names, cuts.points, cuts.levels, strict=True)
    ]
    lines = ",\n".join(json.dumps(feature, ensure_ascii=False, allow_nan=False) for feature in features)
    return f'{{"format_version": {VERSION}, "features": [\n{lines}\n]}}\n'.encode()


def parse(content: bytes, features: Sequence[NamedType]) -> Cuts:
    """The cuts of these features in the bytes of a file; ModelError where they are not a model's."""
    try:
        document = json.loads(content.decode("utf-8"))
        version, found = document["format_version"], document["features"]
        if version != VERSION:
            raise ModelError(
                f"cuts.json: format version {version}, this program reads {VERSION}: install a newer release"
            )
        if [item["name"] for item in found] != [feature.name for feature in features]:
            raise ValueError("other features")
        parts = [_feature(item, feature.type) for item, feature in zip(found, features, strict=True)]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise ModelError("cuts.json: damaged: it does not hold the cuts of this model's features") from None
    return Cuts(points=tuple(points for points, _ in parts), levels=tuple(levels for _, levels in parts))


def _feature(item: dict[str, Any], kind: str) -> tuple[np.ndarray, int | None]:
    """The cut points and the levels of one feature of XGBoost's type `kind`; ValueError where they are none."""
    if kind == "c":
        levels = item["levels"]
        if type(levels) is not int or not 0 <= levels <= ENCODING.most_levels:
            raise ValueError("levels")
        return np.empty(0, np.float32), levels
    if not all(type(cut) in (int, float) for cut in item["cuts"]):
        raise ValueError("cuts")
    with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite
        points = np.array(item["cuts"], dtype=np.float32)
    if len(points) >= ENCODING.most_bins or not np.isfinite(points).all() or (points[1:] <= points[:-1]).any():
        raise ValueError("cuts")
    return points, None
