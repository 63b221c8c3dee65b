"""The paired bootstrap over images.

The images of a domain are drawn anew with replacement, the same ones for every row and seed, and mIoU follows from the
summed confusions (a class that a draw has lost from its labels is left out of the mean, of all rows). By how much two
rows differ in 95 % of the draws says how far a lead on a domain hangs on the images that happened to be in it, and
nothing of training anew. Images count as independent: where they are frames of one drive or windows of one tile,
intervals are too narrow.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from gkd.segmentation.scores import iou

DRAWS = 2000


def resample(images: Mapping[tuple, np.ndarray], draws: int = DRAWS) -> pd.DataFrame:
    """mIoU of resampled domains: a row a draw, a column a key.

    `images` has `parts` by key, which ends in domain and seed of training: all columns of a domain see the same images
    in each draw, so that their differences are paired.
    """
    found, weights = {}, {}
    for key, own in images.items():
        name, count = key[-2], len(own)
        if name not in weights:  # seeded by the name: domains are drawn independently of each other
            weights[name] = np.random.default_rng([*name.encode()]).multinomial(count, np.full(count, 1 / count), draws)
        sums = np.tensordot(weights[name], own, 1)  # (draws, 3, K)
        lost = (sums[:, 1] == 0) & (own[:, 1].sum(axis=0) > 0)  # from the labels: a row that predicts it would get 0
        found[key] = np.nanmean(np.where(lost, np.nan, iou(sums)), axis=-1)
    return pd.DataFrame(found).sort_index(axis=1)


def resampled(draws: pd.DataFrame, ours: tuple[str, str], other: tuple[str, str]) -> pd.DataFrame:
    """Differences of two rows (setting, method), mean over the seeds that both have: draws x (source, domain).

    Without columns where one of them was not measured.
    """
    if ours not in draws or other not in draws:
        return pd.DataFrame(index=draws.index)
    return (draws[ours] - draws[other]).dropna(axis=1, how="all").T.groupby(level=[0, 1], sort=False).mean().T
