"""Where a dataset is looked for, and what is said when it is not there."""

from pathlib import Path

import pytest
from layout_files import Case, write_case

from gkd.datasets import DATASETS, DatasetError, open_split, problem, root_of
from gkd.params import ROOT


def test_environment_before_roots_before_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert root_of("potsdam-irrg") == ROOT / "data/potsdam"
    roots = {"potsdam": "elsewhere/potsdam"}
    assert root_of("potsdam-irrg", roots) == ROOT / "elsewhere/potsdam"
    monkeypatch.setenv("GKD_POTSDAM_ROOT", str(tmp_path))
    assert root_of("potsdam-rgb", roots) == root_of("potsdam-irrg", roots) == tmp_path


def test_relative_variables_count_from_the_repository_and_empty_ones_do_not_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GKD_CAMVID_ROOT", "sets/camvid")
    assert root_of("camvid") == ROOT / "sets/camvid"
    monkeypatch.setenv("GKD_CAMVID_ROOT", "")
    assert root_of("camvid") == ROOT / "data/camvid"
    assert root_of("camvid", {"camvid": "~/camvid"}) == Path.home() / "camvid"


def test_unknown_key_of_roots_is_named() -> None:
    with pytest.raises(DatasetError, match=r"roots\.gta5: .*gtav"):
        root_of("gtav", {"gta5": "data/gta5"})


def test_no_problem_where_the_files_are(tmp_path: Path, case: Case) -> None:
    write_case(tmp_path, case)
    assert problem(case.name, case.split, {DATASETS[case.name].folder: str(tmp_path)}) is None


@pytest.mark.parametrize("name", DATASETS)
def test_absent_dataset_says_how_to_get_it(name: str, tmp_path: Path) -> None:
    layout, root = DATASETS[name], tmp_path / "nowhere"
    text = problem(name, next(iter(layout.splits)), {layout.folder: str(root)})
    assert text is not None
    about = layout.about
    for fragment in (str(root), about.url, about.licence, about.size, about.tree, f"roots.{layout.folder}"):
        assert fragment in text
    assert f"GKD_{layout.folder.upper()}_ROOT" in text


def test_root_one_level_too_high_or_too_low(tmp_path: Path, case: Case) -> None:
    folder = DATASETS[case.name].folder
    right = tmp_path / "disk" / "right"
    write_case(right, case)
    below = right / case.image.split("/")[0]
    for wrong in (right.parent, below):
        text = problem(case.name, case.split, {folder: str(wrong)})
        assert text is not None and f"did you mean {right} as the root?" in text
        with pytest.raises(DatasetError, match="did you mean"):
            open_split(case.name, case.split, {folder: str(wrong)})


def test_missing_folder_is_named_with_the_expected_tree(tmp_path: Path) -> None:
    (tmp_path / "seg/images/val").mkdir(parents=True)
    text = problem("bdd100k", "val", {"bdd100k": str(tmp_path)})
    assert text is not None
    assert f"{tmp_path}: expected seg/labels/val of bdd100k" in text
    assert DATASETS["bdd100k"].about.tree in text


def test_incomplete_download_is_a_problem(tmp_path: Path, vaihingen) -> None:
    roots = vaihingen(2)
    (tmp_path / "ann_dir/val/area1_0_0_512_512.png").unlink()
    text = problem("vaihingen", "val", roots)
    assert text is not None and "area1_0_0_512_512.png" in text and DATASETS["vaihingen"].about.url in text


def test_mistakes_of_the_caller_are_no_missing_data() -> None:
    with pytest.raises(DatasetError, match="unknown dataset 'gta'"):
        problem("gta", "train")
    with pytest.raises(DatasetError, match="no split 'test'"):
        problem("gtav", "test")
