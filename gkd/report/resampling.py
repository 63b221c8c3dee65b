"""Confusions image by image, and the paired bootstrap over images.

The images of a domain are drawn anew with replacement, the same ones for every row and seed, and mIoU follows from the
summed confusions (a class that a draw has lost from its labels is left out of the mean, of all rows). By how much two
rows differ in 95 % of the draws says how far a lead on a domain hangs on the images that happened to be in it, and
nothing of training anew. Images count as independent: where they are frames of one drive or windows of one tile,
intervals are too narrow.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from gkd.report.tables import ALL

DRAWS = 2000
Key = tuple[str, str, str, str, int]  # setting, method, source, domain, seed


def read_images(folders: Iterable[Path], settings: Sequence[str]) -> dict[Key, np.ndarray]:
    """`parts` of each image, (N, 3, K), from what evaluations wrote; the teacher's stand in every setting.

    Raises ValueError where a file is missing, or two evaluations of a domain did not see the same images.
    """
    found: dict[Key, np.ndarray] = {}
    first: dict[tuple[str, str], tuple[Path, np.ndarray]] = {}
    for folder in folders:
        file, who = folder / "images.npz", pd.read_csv(folder / "scores.csv").iloc[0]
        if not file.is_file():
            raise ValueError(f"{file} is missing: run the evaluation again (`dvc repro`)")
        with np.load(file) as arrays:
            for domain in arrays.files:
                own = parts(arrays[domain])
                other, truth = first.setdefault((who["source"], domain), (file, own[:, 1]))
                if not np.array_equal(truth, own[:, 1]):
                    raise ValueError(f"{file} and {other} have other images of {domain}: evaluate both again")
                for setting in settings if who["setting"] == ALL else [who["setting"]]:
                    found[setting, who["method"], who["source"], domain, int(who["seed"])] = own
    return found


def parts(confusions: np.ndarray) -> np.ndarray:
    """What an IoU is made from: hits, pixels by truth, pixels by prediction. (..., K, K) -> (..., 3, K), floats."""
    hits = np.diagonal(confusions, axis1=-2, axis2=-1)
    return np.stack([hits, confusions.sum(axis=-1), confusions.sum(axis=-2)], axis=-2).astype(np.float64)


def iou(found: np.ndarray) -> np.ndarray:
    """IoU by class in per cent, (..., 3, K) -> (..., K); NaN for a class that neither labels nor predictions have."""
    hits, truth, predicted = np.moveaxis(found, -2, 0)
    union = truth + predicted - hits
    return 100 * np.divide(hits, union, out=np.full_like(union, np.nan), where=union > 0)


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
