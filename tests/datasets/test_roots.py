"""Where a dataset is looked for, and what is said when it is not there."""

from pathlib import Path

import pytest
from layout_files import Case, open_split, write_case

from gkd.datasets import DatasetError, official, variable
from gkd.params import ROOT


def problem(name: str, split: str, root: Path) -> str | None:
    return official({official().layout(name).folder: str(root)}).problem(name, split)


def test_environment_before_roots_before_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert official().root_of("potsdam_irrg") == ROOT / "data/potsdam"
    known = official({"potsdam": "elsewhere/potsdam", "camvid": "~/camvid"})
    assert known.root_of("potsdam_irrg") == ROOT / "elsewhere/potsdam"
    assert known.root_of("camvid") == Path.home() / "camvid"
    monkeypatch.setenv("GKD_POTSDAM_ROOT", str(tmp_path))
    assert known.root_of("potsdam_rgb") == known.root_of("potsdam_irrg") == tmp_path
    monkeypatch.chdir(tmp_path)  # relative ones count from the repository, empty ones do not count
    monkeypatch.setenv("GKD_CAMVID_ROOT", "sets/camvid")
    assert known.root_of("camvid") == ROOT / "sets/camvid"
    monkeypatch.setenv("GKD_CAMVID_ROOT", "")
    assert official().root_of("camvid") == ROOT / "data/camvid"
    assert variable("my-set") == "GKD_MY_SET_ROOT"


def test_mistakes_of_the_caller_are_no_missing_data() -> None:
    with pytest.raises(DatasetError, match=r"roots\.gta5: .*gtav"):
        official({"gta5": "data/gta5"}).root_of("gtav")
    for ask in (official().problem, official().open_split):
        with pytest.raises(DatasetError, match=r"unknown dataset 'gta', expected one of .*gtav"):
            ask("gta", "train")
        with pytest.raises(DatasetError, match="cityscapes has no split 'test', expected one of train, val"):
            ask("cityscapes", "test")


@pytest.mark.parametrize("name", official().layouts)
def test_absent_dataset_says_how_to_get_it(name: str, tmp_path: Path) -> None:
    layout, root = official().layout(name), tmp_path / "nowhere"
    text = problem(name, next(iter(layout.splits)), root)
    about = layout.about
    for fragment in (str(root), about.url, about.licence, about.size, layout.tree, f"roots.{layout.folder}"):
        assert fragment in text
    assert f"GKD_{layout.folder.upper()}_ROOT" in text


def test_root_one_level_too_high_or_too_low(tmp_path: Path, case: Case) -> None:
    right = tmp_path / "disk" / "right"
    write_case(right, case)
    assert problem(case.name, case.split, right) is None
    below = right / case.image.split("/")[0]
    for wrong in (right.parent, below):
        assert f"did you mean {right} as the root?" in problem(case.name, case.split, wrong)
        with pytest.raises(DatasetError, match="did you mean"):
            open_split(case.name, case.split, wrong)


def test_missing_folders_and_incomplete_downloads_are_named(tmp_path: Path, vaihingen) -> None:
    (tmp_path / "seg/images/val").mkdir(parents=True)
    text = problem("bdd100k", "val", tmp_path)
    assert f"{tmp_path}: expected seg/labels/val of bdd100k" in text
    assert "seg/images/{train,val}/*.jpg and seg/labels/{train,val}/*_train_id.png" in text
    vaihingen(2)
    (tmp_path / "ann_dir/val/area1_0_0_512_512.png").unlink()
    text = problem("vaihingen", "val", tmp_path)
    assert "area1_0_0_512_512.png" in text and official().layout("vaihingen").about.url in text
