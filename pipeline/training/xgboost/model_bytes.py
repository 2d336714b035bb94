"""Serialises a booster so that the same trees always give the same bytes, also after a resume."""

import xgboost


def model_bytes(booster: xgboost.Booster) -> bytes:
    """Returns a trained booster as UBJSON.

    XGBoost writes a multi-class model's `base_score` as one value per class, or as a single value if the booster was
    loaded from a checkpoint.  A second load makes the form the same as after a training without interruption.
    """
    loaded = xgboost.Booster()
    loaded.load_model(booster.save_raw("ubj"))
    return bytes(loaded.save_raw("ubj"))
