"""What evaluations left in their folders, read together: scores, confusions by image, loss curves, budgets, pictures.

folders = [ROOT / "results/evaluate" / params.profile / name for name in members(params)]
rows, images = read_scores(folders, params.settings), read_images(folders, params.settings)
"""

from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from gkd.methods import TEACHER, row
from gkd.params import STAGES, Params
from gkd.report.tables import ALL
from gkd.segmentation.scores import parts
from gkd.workspace.members import evaluated, member

Key = tuple[str, str, str, str, int]  # setting, method, source, domain, seed


def members(params: Params) -> list[str]:
    """The folders of results/evaluate/<profile>/ that a report of `params` shows; others may lie beside them."""
    rows = product(params.settings, [TEACHER, *params.rows], params.sources, params.seeds)
    return list(dict.fromkeys(evaluated(*fields) for fields in rows))


def read_scores(folders: Iterable[Path], settings: Sequence[str]) -> pd.DataFrame:
    """All score rows of these evaluations in one frame; the teacher's stand in every setting."""
    if not (frames := [pd.read_csv(folder / "scores.csv") for folder in folders]):
        raise FileNotFoundError("no scores.csv to report: run the evaluate stage first (`dvc repro`)")
    rows = pd.concat(frames, ignore_index=True)
    own, shared = rows[rows["setting"] != ALL], rows[rows["setting"] == ALL]
    return pd.concat([*(shared.assign(setting=setting) for setting in settings), own], ignore_index=True)


def read_images(folders: Iterable[Path], settings: Sequence[str]) -> dict[Key, np.ndarray]:
    """`parts` of each image, (N, 3, K), from what evaluations wrote; the teacher's stand in every setting.

    Raises ValueError where a file is missing, or two evaluations of a domain did not see the same images.
    """
    found: dict[Key, np.ndarray] = {}
    first: dict[tuple[str, str], tuple[Path, np.ndarray]] = {}
    for folder in folders:
        file, who = folder / "images.npz", _who(folder)
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


def read_histories(folders: Iterable[Path], stage: str) -> pd.DataFrame:
    """The loss curves of a distillation stage, as the evaluations of its students hold them; empty where none has any.

    A row a step, with `seed` and `member`: SETTING-METHOD, and -SOURCE but for task_agnostic, whose student serves all.
    """
    found: dict[tuple[str, int], pd.DataFrame] = {}
    for folder in folders:
        if (file := folder / "history" / f"{stage}.csv").is_file():
            who = _who(folder)
            name = member(*who[["setting", "method", *(["source"] if stage != "task_agnostic" else [])]])
            found.setdefault((name, int(who["seed"])), pd.read_csv(file))
    frames = [curve.assign(member=name, seed=seed) for (name, seed), curve in found.items()]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["step", "loss", "member", "seed"])


def budgets(folders: Iterable[Path]) -> pd.DataFrame:
    """What rows were given: steps of each stage, and how many rates task learning tried, by setting, method and source.

    Seeds that were given the same are one row.
    """
    found = []
    for folder in folders:
        who = _who(folder)[["setting", "method", "source"]]
        files = {stage: folder / "history" / f"{stage}.csv" for stage in (*STAGES, "task_learning")}
        steps = {stage: len(pd.read_csv(file)) if file.is_file() else 0 for stage, file in files.items()}
        found.append({**who, **steps, "rates": len(pd.read_csv(folder / "choice.csv"))})
    return pd.DataFrame(found).drop_duplicates(ignore_index=True)


def read_pictures(folders: Iterable[Path]) -> dict[str, tuple[list, list, dict[str, list]]]:
    """predictions.npz of models of one source, as {domain: (photos, labels, {method label: predicted maps})}."""
    domains: dict[str, dict[str, list[np.ndarray]]] = {}
    for number, folder in enumerate(folders):
        with np.load(folder / "predictions.npz") as arrays:
            for key in arrays.files:
                domain, what, _ = key.split("/")
                if number == 0 or what not in ("photo", "label"):  # which are the same in all
                    domains.setdefault(domain, {}).setdefault(what, []).append(arrays[key])
    return {
        domain: (parts.pop("photo"), parts.pop("label"), {row(name).label: maps for name, maps in parts.items()})
        for domain, parts in domains.items()
    }


def _who(folder: Path) -> pd.Series:
    """Setting, method, source and seed of an evaluation."""
    return pd.read_csv(folder / "scores.csv").iloc[0]
