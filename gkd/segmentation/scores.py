"""Scores from confusions, with numpy alone.

scores(confusion).miou                              # (K, K), rows = truth
iou(parts(confusions).sum(axis=0))                  # of a sum over images, which needs no K x K of each
"""

from typing import Any, NamedTuple

import numpy as np


class Scores(NamedTuple):
    """Scores in per cent, at full precision; NaN marks a class that the score does not count."""

    iou: np.ndarray  # (K,)
    miou: float
    macc: float
    aacc: float
    acc: np.ndarray  # (K,)


def parts(confusions: np.ndarray) -> np.ndarray:
    """What scores are made from: hits, pixels by truth, pixels by prediction. (..., K, K) -> (..., 3, K), floats."""
    hits = np.diagonal(confusions, axis1=-2, axis2=-1)
    return np.stack([hits, confusions.sum(axis=-1), confusions.sum(axis=-2)], axis=-2).astype(np.float64)


def iou(found: np.ndarray) -> np.ndarray:
    """IoU by class in per cent, from `parts` (..., 3, K) -> (..., K); NaN where no label and no prediction has it."""
    return 100 * _overlap(found)


def scores(confusion: np.ndarray) -> Scores:
    """Scores of one domain from its confusion matrix (K, K), rows = truth.

    By class, IoU = I / (P + G - I) and accuracy = I / G; the means leave out classes with a denominator of 0.
    """
    found = parts(confusion)
    hits, truth, _ = found
    if not truth.sum():
        raise ValueError("the confusion matrix is empty: no pixel of the domain carries a label other than 255")
    shares, acc = _overlap(found), _ratio(hits, truth)
    means = (100 * float(value) for value in (np.nanmean(shares), np.nanmean(acc), hits.sum() / truth.sum()))
    return Scores(100 * shares, *means, 100 * acc)


def score_row(who: dict[str, Any], domain: str, confusion: np.ndarray, lr: float) -> dict[str, Any]:
    """One row of scores.csv (gkd.report.tables): `who` has setting, method, source and seed; `lr` is the chosen one."""
    result = scores(confusion)
    return {**who, "domain": domain, "miou": result.miou, "macc": result.macc, "aacc": result.aacc, "lr": lr}


def _overlap(found: np.ndarray) -> np.ndarray:
    """I / (P + G - I) of `parts`, by class."""
    hits, truth, predicted = np.moveaxis(found, -2, 0)
    return _ratio(hits, truth + predicted - hits)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)
