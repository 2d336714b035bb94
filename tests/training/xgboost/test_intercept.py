"""The intercept of each objective."""

import numpy as np

from pipeline.training.xgboost.intercept import LabelSummary, base_score, quantile


def test_intercepts() -> None:
    sample = np.arange(1, 101, dtype=np.float32)
    labels = LabelSummary(mean=0.25, values=sample)
    assert base_score("binary:logistic", labels) == 0.25
    assert base_score("reg:absoluteerror", labels) == 50
    assert base_score("reg:quantileerror", labels, [0.1, 0.9]) == (10, 90)
    assert base_score("rank:ndcg", labels) == 0.5
    assert quantile(np.float32([1, 2, 3]), np.float32([0, 0, 5]), 0.1) == 3
