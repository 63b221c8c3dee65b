"""Evaluations that were never run: folders with scores.csv and images.npz of noise, one row better than the other."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from gkd.data.catalogue import Catalogue
from gkd.params import Params
from gkd.segmentation.scores import scores

QUALITY = {"teacher": 0.9, "none": 0.4, "none_frozen": 0.45, "kd": 0.42, "mse": 0.6, "gkd": 0.6, "gkd_diag": 0.7}


def confusions(quality: float, seed: int, images: int = 6, classes: int = 19) -> np.ndarray:
    """(images, K, K) with about `quality` of the pixels right; the pixels by truth are the same for all."""
    truth = np.random.default_rng(0).integers(50, 400, (images, classes))
    rng, found = np.random.default_rng(seed), np.zeros((images, classes, classes), np.uint16)
    for image, label in np.ndindex(images, classes):
        hits = rng.binomial(truth[image, label], quality)
        found[image, label] = rng.multinomial(truth[image, label] - hits, np.full(classes, 1 / classes))
        found[image, label, label] += hits
    return found


def write_evaluations(folder: Path, params: Params, known: Catalogue, images: int = 6) -> list[Path]:
    """A folder for each member of `params`, as the evaluate notebook leaves it, without pictures."""
    members = {(s, m) for s in params.settings for m in params.rows} | {("all", "teacher")}
    folders = []
    for number, ((setting, method), source, seed) in enumerate(product(sorted(members), params.sources, params.seeds)):
        who = {"setting": setting, "method": method, "source": source, "seed": seed}
        domains = [known.source(source).validation, *known.targets(source, params.targets[source])]
        found = {
            domain.name: confusions(QUALITY[method], 100 * number + place, images, len(known.source(source).classes))
            for place, domain in enumerate(domains)
        }
        results = {name: scores(own.sum(axis=0)) for name, own in found.items()}
        table = [
            {**who, "domain": n, "miou": r.miou, "macc": r.macc, "aacc": r.aacc, "lr": 0.1} for n, r in results.items()
        ]
        name = f"teacher-{source}-{seed}" if method == "teacher" else f"{setting}-{method}-{source}-{seed}"
        folders.append(folder / name)
        folders[-1].mkdir(parents=True)
        pd.DataFrame(table).to_csv(folders[-1] / "scores.csv", index=False)
        np.savez_compressed(folders[-1] / "images.npz", **found)
    return folders
