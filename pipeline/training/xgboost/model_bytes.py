"""A model's bytes: the same for the same trees, whatever its booster has been through."""

import xgboost


def model_bytes(booster: xgboost.Booster) -> bytes:
    """UBJSON of a trained booster.

    XGBoost writes a multi-class model's `base_score` as one value per class, or as a single value where the booster was
    loaded from a checkpoint.  A second load has it written in one way, which is that of a training without interruption.
    """
    loaded = xgboost.Booster()
    loaded.load_model(booster.save_raw("ubj"))
    return bytes(loaded.save_raw("ubj"))
