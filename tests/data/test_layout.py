"""Bad data ends in one DatasetError that names the file, what was expected and what was found."""

from pathlib import Path

import numpy as np
from layout_files import (
    SIZE,
    Case,
    every_case,
    image_array,
    open_split,
    problem,
    refused,
    save,
    write_case,
)


def test_no_label_at_all_names_the_official_file(tmp_path: Path) -> None:
    save(tmp_path / "leftImg8bit/val/ulm/ulm_0_1_leftImg8bit.png", image_array(0))
    (tmp_path / "gtFine/val").mkdir(parents=True)
    with refused("ulm_0_1_leftImg8bit.png", "*_gtFine_labelIds.png"):
        open_split("cityscapes", "val", tmp_path)


@every_case
def test_ids_outside_the_table_and_differing_sizes(tmp_path: Path, case: Case) -> None:
    raw, _ = write_case(tmp_path, case)
    raw[1, 2], raw[3, 4] = 101, 77
    path = save(tmp_path / case.label, raw, case.mode)
    with refused(path, "expected ids", "0-", "found 77, 101"):
        open_split(case.name, case.split, tmp_path)[0]
    # One pixel, which halving (Mapillary) would hide.
    save(path, np.full((SIZE[0] + 1, SIZE[1]), case.ids[0], dtype=np.uint8), case.mode)
    with refused(path, "8x6", "found 8x7"):
        open_split(case.name, case.split, tmp_path)[0]


def test_empty_splits_and_two_files_of_one_name(tmp_path: Path) -> None:
    for folder in ("img_dir/val", "ann_dir/val"):
        (tmp_path / folder).mkdir(parents=True)
    with refused(tmp_path / "img_dir/val", "*.png", "empty"):
        open_split("vaihingen", "val", tmp_path)
    with refused(tmp_path / "img_dir", "jpeg", "empty"):
        open_split("proxy", "train", tmp_path / "img_dir")
    save(tmp_path / "train/images/0006R0_1.jpg", image_array(0))
    save(tmp_path / "train/labels/0006R0_1.png", np.zeros(SIZE, dtype=np.uint8))
    with refused(tmp_path / "train/images", "'dusk'", "empty"):
        open_split("camvid", "dusk", tmp_path)
    save(tmp_path / "train/images/0006R0_1.png", image_array(0))
    with refused("0006R0_1.png", "expected one file a name", "0006R0_1.jpg"):
        open_split("camvid", "day", tmp_path)


@every_case
def test_root_one_level_too_high_or_too_low(tmp_path: Path, case: Case) -> None:
    right = tmp_path / "disk" / "right"
    write_case(right, case)
    assert problem(case.name, case.split, right) is None
    for wrong in (right.parent, right / case.image.split("/")[0]):
        assert f"did you mean {right} as the root?" in problem(case.name, case.split, wrong)
        with refused(f"did you mean {right} as the root?"):
            open_split(case.name, case.split, wrong)


def test_missing_folders_are_named(tmp_path: Path) -> None:
    (tmp_path / "seg/images/val").mkdir(parents=True)
    text = problem("bdd100k", "val", tmp_path)
    assert f"{tmp_path}: expected seg/labels/val of bdd100k" in text
    assert "seg/images/{train,val}/*.jpg and seg/labels/{train,val}/*_train_id.png" in text
