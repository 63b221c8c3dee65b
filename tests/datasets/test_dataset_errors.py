"""Bad data ends in one DatasetError that names the file, what was expected and what was found."""

import re
from pathlib import Path

import numpy as np
import pytest
from layout_files import SIZE, Case, image_array, open_split, save, write_case

from gkd.datasets import DatasetError

IMAGE, LABEL = "img_dir/val/area{}_0_0_512_512.png", "ann_dir/val/area{}_0_0_512_512.png"


def refused(*fragments: object):
    """Expects a DatasetError whose message holds the fragments in this order."""
    return pytest.raises(DatasetError, match="(?s)" + ".*".join(re.escape(str(fragment)) for fragment in fragments))


@pytest.mark.parametrize(("gone", "kept"), [(LABEL, IMAGE), (IMAGE, LABEL)])
def test_image_without_label_and_label_without_image(tmp_path: Path, vaihingen, gone: str, kept: str) -> None:
    vaihingen(3)
    (tmp_path / gone.format(1)).unlink()
    what = "its label *.png in" if gone == LABEL else "the image of this label in"
    with refused(tmp_path / kept.format(1), f"expected {what}", tmp_path / Path(gone).parent, "1 of 3"):
        open_split("vaihingen", "val", tmp_path)


def test_no_label_at_all_names_the_official_file(tmp_path: Path) -> None:
    save(tmp_path / "leftImg8bit/val/ulm/ulm_0_1_leftImg8bit.png", image_array(0))
    (tmp_path / "gtFine/val").mkdir(parents=True)
    with refused("ulm_0_1_leftImg8bit.png", "*_gtFine_labelIds.png"):
        open_split("cityscapes", "val", tmp_path)


def test_ids_outside_the_table(tmp_path: Path, case: Case) -> None:
    raw, _ = write_case(tmp_path, case)
    raw[1, 2], raw[3, 4] = 101, 77
    path = save(tmp_path / case.label, raw, case.mode)
    with refused(path, "expected ids", "0-", "found 77, 101"):
        open_split(case.name, case.split, tmp_path)[0]


def test_differing_sizes(tmp_path: Path, case: Case) -> None:
    write_case(tmp_path, case)
    # One pixel, which halving (Mapillary) would hide.
    path = save(tmp_path / case.label, np.full((SIZE[0] + 1, SIZE[1]), case.ids[0], dtype=np.uint8), case.mode)
    with refused(path, "8x6", "found 8x7"):
        open_split(case.name, case.split, tmp_path)[0]


@pytest.mark.parametrize("which", [IMAGE, LABEL])
def test_a_file_of_a_pair_that_is_torn_or_vanished(tmp_path: Path, vaihingen, which: str) -> None:
    vaihingen(1)
    data, path = open_split("vaihingen", "val", tmp_path), tmp_path / which.format(0)
    path.write_bytes(path.read_bytes()[:40])
    with refused(path, "expected a complete image", "damaged"):
        data[0]
    path.unlink()
    with refused(path, "no such file"):
        data[0]


def test_empty_splits(tmp_path: Path) -> None:
    (tmp_path / "img_dir/val").mkdir(parents=True)
    (tmp_path / "ann_dir/val").mkdir(parents=True)
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
