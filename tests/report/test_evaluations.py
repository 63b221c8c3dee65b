"""What is read together from the folders of evaluations."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from evaluations import confusions, write_evaluations

from gkd.datasets import official
from gkd.params import load
from gkd.report.evaluations import budgets, read_histories, read_images, read_pictures

DRIVING = ["cityscapes", "bdd100k", "mapillary"]


def test_evaluations_of_other_images_and_missing_files_are_refused(tmp_path: Path) -> None:
    params = load().model_copy(update={"sources": ["gtav"], "rows": ["none"]})
    folders = write_evaluations(tmp_path, params, official())
    found = read_images(folders, ["f2l", "f2f"])
    assert {k[:2] for k in found} == {("f2l", "none"), ("f2l", "teacher"), ("f2f", "teacher")}
    np.savez(folders[1] / "images.npz", bdd100k=confusions(0.5, 0, images=5))
    with pytest.raises(ValueError, match="have other images of bdd100k: evaluate both again"):
        read_images(folders, ["f2l"])
    (folders[0] / "images.npz").unlink()
    with pytest.raises(ValueError, match="images.npz is missing: run the evaluation again"):
        read_images(folders, ["f2l"])


def test_curves_are_of_the_members_that_have_one(tmp_path: Path) -> None:
    folders = [
        tmp_path / name for name in ("teacher-gtav-0", "f2l-gkd-gtav-0", "f2l-gkd-cityscapes-0", "f2l-mse-gtav-1")
    ]
    for number, folder in enumerate(folders[1:]):
        (folder / "history").mkdir(parents=True)
        history = pd.DataFrame({"step": [0, 1], "loss": [2.0 + number, 1.0]})
        history.to_csv(folder / "history/domain_agnostic.csv", index=False)
        method, source, seed = folder.name.split("-")[1:]
        who = pd.DataFrame([{"setting": "f2l", "method": method, "source": source, "seed": seed}])
        who.to_csv(folder / "scores.csv", index=False)
    found = read_histories(folders, "domain_agnostic")
    first = found.groupby(["member", "seed"])["loss"].first().to_dict()
    assert first == {("f2l-gkd-gtav", 0): 2.0, ("f2l-gkd-cityscapes", 0): 3.0, ("f2l-mse-gtav", 1): 4.0}
    assert read_histories(folders, "task_agnostic").empty and "member" in read_histories([], "task_agnostic")
    for folder in folders[1:]:  # a student that serves all sources has one curve
        (folder / "history/domain_agnostic.csv").rename(folder / "history/task_agnostic.csv")
    shared = read_histories(folders, "task_agnostic")
    assert shared.groupby(["member", "seed"]).size().to_dict() == {("f2l-gkd", 0): 2, ("f2l-mse", 1): 2}


def test_budgets_are_steps_by_stage_and_rates_and_seeds_that_agree_are_one_row(tmp_path: Path) -> None:
    given = {"gkd-0": (7, 5, 4, 3), "gkd-1": (7, 5, 4, 3), "none-0": (0, 0, 9, 3), "none-1": (0, 0, 8, 3)}
    for name, (*steps, rates) in given.items():
        folder = tmp_path / name
        (folder / "history").mkdir(parents=True)
        method, seed = name.split("-")
        who = {"setting": "f2l", "method": method, "source": "gtav", "seed": int(seed)}
        pd.DataFrame([{**who, "domain": domain} for domain in DRIVING]).to_csv(folder / "scores.csv", index=False)
        pd.DataFrame({"lr": range(rates)}).to_csv(folder / "choice.csv", index=False)
        for stage, count in zip(("task_agnostic", "domain_agnostic", "task_learning"), steps, strict=True):
            if count:
                pd.DataFrame({"step": range(count)}).to_csv(folder / "history" / f"{stage}.csv", index=False)
    found = budgets(sorted(tmp_path.iterdir())).set_index("method").drop(columns=["setting", "source"])
    assert [(name, *row) for name, row in zip(found.index, found.to_numpy().tolist(), strict=True)] == [
        ("gkd", 7, 5, 4, 3), ("none", 0, 0, 9, 3), ("none", 0, 0, 8, 3)
    ]  # fmt: skip


def test_pictures_of_all_models_stand_under_the_photos_of_the_first(tmp_path: Path) -> None:
    order, folders = list(product(("gtav_val", "cityscapes"), range(12))), []  # past ten photos
    for number, method in enumerate(("teacher", "gkd_diag")):
        folders.append(tmp_path / method)
        folders[-1].mkdir()
        kinds = {"photo": 0, "label": 1, method: 2 + number}
        values = {f"{d}/{kind}/{i}": np.array([i, kinds[kind], d == "cityscapes"]) for d, i in order for kind in kinds}
        np.savez(folders[-1] / "predictions.npz", **values)
    pictures = read_pictures(folders)
    assert list(pictures) == ["gtav_val", "cityscapes"]
    for domain, (photos, labels, predictions) in pictures.items():
        assert list(predictions) == ["Teacher", "GKD-diag (ours)"]
        for kind, found in enumerate((photos, labels, *predictions.values())):
            np.testing.assert_array_equal(found, [[i, kind, domain == "cityscapes"] for i in range(12)])
