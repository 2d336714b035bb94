"""Serialises boosters: the model, so that the same trees always give the same bytes, and the state between rounds."""

import xgboost

from pipeline.errors import ModelError


def model_bytes(booster: xgboost.Booster) -> bytes:
    """Returns a trained booster as UBJSON.

    XGBoost writes a multi-class model's `base_score` as one value per class, or as a single value if the booster was
    loaded from a checkpoint.  A second load makes the form the same as after a training without interruption.
    """
    loaded = xgboost.Booster()
    loaded.load_model(booster.save_raw("ubj"))
    return bytes(loaded.save_raw("ubj"))


def pack(booster: bytes, best_booster: bytes = b"") -> bytes:
    """Returns the content of a state: the length of the booster (8 bytes, big-endian), and both boosters (UBJSON).

    `best_booster`: of the best round, if `booster` does not contain it (dart).
    """
    return len(booster).to_bytes(8, "big") + booster + best_booster


def unpack(content: bytes) -> tuple[bytes, bytes]:
    """Returns what `pack` was given.  ModelError for any other content."""
    nbytes, boosters = int.from_bytes(content[:8], "big"), content[8:]
    if not 0 < nbytes <= len(boosters):
        raise ModelError("the state of the training is damaged: it is shorter than its boosters")
    return boosters[:nbytes], boosters[nbytes:]
