"""Sets the training rows' weights from round to round."""

import json
from collections.abc import Callable, Sequence

import numpy as np
import xgboost

from pipeline.errors import TrainingError
from pipeline.training.xgboost.matrix import Side
from pipeline.training.xgboost.sampling import chosen_mask, row_keys

Total = Callable[[np.ndarray], np.ndarray]  # the sum over all workers


class Weights:
    """The training rows' weights from round to round: rows (queries) left out of a round weigh nothing.

    For ranking, XGBoost divides the weights of queries by their mean on this worker alone, taken in the first round
    (`weight_norm_` of its ranking cache).  So for ranking the first round gives all queries the same weight, and this
    class divides the weights of later rounds by the mean over all workers.
    """

    def __init__(self, side: Side, total: Total, *, share: float, seed: int) -> None:
        self._matrix, self._share, self._seed = side.matrix, share, seed
        self.ranking = side.group is not None
        self.needed = share < 1 or (self.ranking and _any(total, side.weight is not None))
        if not self.needed:
            return
        unit = side.query_starts if self.ranking else slice(None)
        self._keys = row_keys(side.row_ids[unit], seed)
        own = np.ones(len(self._keys), np.float32) if side.weight is None else side.weight[unit]
        self._own = own
        if self.ranking:
            weight, count = total(np.array([own.sum(dtype=np.float64), float(len(own))]))
            self._scaled = (own * (count / weight)).astype(np.float32)
        else:
            self._scaled = own

    def draw(self, number: int) -> None:
        """Sets the weights of a round (counted from 1)."""
        if not self.needed:
            return
        if self.ranking and number == 1:
            self._matrix.set_info(weight=np.ones_like(self._own))
        else:
            mask = chosen_mask(self._keys, number, self._seed, self._share)
            self._matrix.set_info(weight=self._scaled * mask)

    def restore(self) -> None:
        """Restores the rows' own weights, for metrics."""
        if self.needed:
            self._matrix.set_info(weight=self._own)


def _any(total: Total, flag: bool) -> bool:
    """Whether the flag is set on any worker."""
    return bool(total(np.array([float(flag)]))[0])


def warm_up_ranking_objective(
    booster: xgboost.Booster, matrix: xgboost.DMatrix, interactions: Sequence[Sequence[str]]
) -> None:
    """Makes XGBoost compute its norm of the queries' weights from the weights set now, as it does in a first round.

    It does so when it first computes gradients, and only `update` triggers that.  So this calls an update that fails
    after the gradients and before the first tree, because its constraints cannot be read.
    """
    places = {name: place for place, name in enumerate(matrix.feature_names or ())}
    wanted = json.dumps([[places[name] for name in group] for group in interactions]) if interactions else ""
    booster.set_param({"interaction_constraints": "["})
    try:
        booster.update(matrix, booster.num_boosted_rounds())
    except xgboost.core.XGBoostError as error:
        if "constraint" not in str(error):
            raise
    else:
        raise TrainingError("XGBoost took constraints that cannot be read: this ranking cannot be resumed")
    booster.set_param({"interaction_constraints": wanted})
