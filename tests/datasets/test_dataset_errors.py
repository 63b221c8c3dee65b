"""Bad data ends in one DatasetError that names the file, what was expected and what was found."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layout_files import SIZE, Case, image_array, save, write_case
from PIL import Image

from gkd.data.reading import read_ids
from gkd.datasets import DATASETS, DatasetError, open_split

IMAGE, LABEL = "img_dir/val/area{}_0_0_512_512.png", "ann_dir/val/area{}_0_0_512_512.png"


def refused(*fragments: object):
    """Expects a DatasetError whose message holds the fragments in this order."""
    return pytest.raises(DatasetError, match="(?s)" + ".*".join(re.escape(str(fragment)) for fragment in fragments))


def test_image_without_label(tmp_path: Path, vaihingen) -> None:
    roots = vaihingen(3)
    (tmp_path / LABEL.format(1)).unlink()
    with refused(tmp_path / IMAGE.format(1), "expected its label", tmp_path / "ann_dir/val", "1 of 3"):
        open_split("vaihingen", "val", roots)


def test_label_without_image(tmp_path: Path, vaihingen) -> None:
    roots = vaihingen(3)
    (tmp_path / IMAGE.format(2)).unlink()
    with refused(tmp_path / LABEL.format(2), "expected the image", tmp_path / "img_dir/val", "1 of 3"):
        open_split("vaihingen", "val", roots)


def test_no_label_at_all_names_the_official_file(tmp_path: Path) -> None:
    save(tmp_path / "leftImg8bit/val/ulm/ulm_0_1_leftImg8bit.png", image_array(0))
    (tmp_path / "gtFine/val").mkdir(parents=True)
    with refused("ulm_0_1_leftImg8bit.png", "*_gtFine_labelIds.png"):
        open_split("cityscapes", "val", {"cityscapes": str(tmp_path)})


def test_ids_outside_the_table(tmp_path: Path, case: Case) -> None:
    raw, _ = write_case(tmp_path, case)
    raw[1, 2], raw[3, 4] = 101, 77
    path = save(tmp_path / case.label, raw, case.mode)
    data = open_split(case.name, case.split, {DATASETS[case.name].folder: str(tmp_path)})
    with refused(path, "expected ids", "0-", "found 77, 101"):
        data[0]


def test_expected_ids_are_spelt_as_ranges(tmp_path: Path) -> None:
    save(tmp_path / "seg/images/val/a.jpg", image_array(0))
    path = save(tmp_path / "seg/labels/val/a_train_id.png", np.full(SIZE, 19, dtype=np.uint8))
    with refused(path, "(0-18, 255)", "found 19"):
        open_split("bdd100k", "val", {"bdd100k": str(tmp_path)})[0]


def test_differing_sizes(tmp_path: Path, case: Case) -> None:
    write_case(tmp_path, case)
    # One pixel, which halving (Mapillary) would hide.
    path = save(tmp_path / case.label, np.full((SIZE[0] + 1, SIZE[1]), case.ids[0], dtype=np.uint8), case.mode)
    data = open_split(case.name, case.split, {DATASETS[case.name].folder: str(tmp_path)})
    with refused(path, "8x6", "found 8x7"):
        data[0]


@pytest.mark.parametrize("transparent", [False, True])
def test_colour_coded_label(tmp_path: Path, vaihingen, transparent: bool) -> None:
    roots = vaihingen(1)
    colours = Image.fromarray(image_array(0)).convert("RGBA" if transparent else "RGB")
    colours.save(tmp_path / LABEL.format(0))
    with refused(tmp_path / LABEL.format(0), "expected class ids", "colour-coded"):
        open_split("vaihingen", "val", roots)[0]


def test_sixteen_bit_files(tmp_path: Path, vaihingen) -> None:
    roots = vaihingen(1)
    save(tmp_path / LABEL.format(0), np.zeros(SIZE, dtype=np.uint16))
    with refused(tmp_path / LABEL.format(0), "8-bit"):
        open_split("vaihingen", "val", roots)[0]
    save(tmp_path / IMAGE.format(0), np.zeros(SIZE, dtype=np.uint16))
    with refused(tmp_path / IMAGE.format(0), "8 bits a channel"):
        open_split("vaihingen", "val", roots)[0]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1, exclude_max=True), classes=st.sampled_from([1, 2, 7]))
def test_truncated_png_never_gives_wrong_pixels(tmp_path: Path, cut: float, classes: int) -> None:
    raw = np.random.default_rng(0).integers(7 - classes, 7, (40, 30), dtype=np.uint8)
    content = save(tmp_path / "whole.png", raw).read_bytes()
    path = tmp_path / "cut.png"
    path.write_bytes(content[: int(cut * len(content))])
    try:
        found = read_ids(path)
    except DatasetError as error:
        assert str(path) in str(error) and "again" in str(error)
    else:  # only check sums or the end mark behind the pixels were lost
        assert np.array_equal(found, raw)


@pytest.mark.parametrize("which", [IMAGE, LABEL])
def test_truncated_file_of_a_pair(tmp_path: Path, vaihingen, which: str) -> None:
    roots = vaihingen(1)
    path = tmp_path / which.format(0)
    path.write_bytes(path.read_bytes()[:40])
    with refused(path, "expected a complete image", "damaged"):
        open_split("vaihingen", "val", roots)[0]


def test_file_that_vanished(tmp_path: Path, vaihingen) -> None:
    data = open_split("vaihingen", "val", vaihingen(1))
    (tmp_path / LABEL.format(0)).unlink()
    with refused(tmp_path / LABEL.format(0), "no such file"):
        data[0]


def test_empty_split(tmp_path: Path) -> None:
    (tmp_path / "img_dir/val").mkdir(parents=True)
    (tmp_path / "ann_dir/val").mkdir(parents=True)
    with refused(tmp_path / "img_dir/val", "*.png", "empty"):
        open_split("vaihingen", "val", {"vaihingen": str(tmp_path)})
    with refused(tmp_path / "img_dir", "*.jpeg", "empty"):
        open_split("proxy", "train", {"proxy": str(tmp_path / "img_dir")})


def test_empty_part_of_a_folder(tmp_path: Path) -> None:
    save(tmp_path / "train/images/0006R0_1.jpg", image_array(0))
    save(tmp_path / "train/labels/0006R0_1.png", np.zeros(SIZE, dtype=np.uint8))
    with refused(tmp_path / "train/images", "'dusk'", "empty"):
        open_split("camvid", "dusk", {"camvid": str(tmp_path)})


def test_two_images_of_one_name(tmp_path: Path) -> None:
    for suffix in ("jpg", "png"):
        save(tmp_path / f"train/images/0006R0_1.{suffix}", image_array(0))
    save(tmp_path / "train/labels/0006R0_1.png", np.zeros(SIZE, dtype=np.uint8))
    with refused("0006R0_1.png", "0006R0_1.jpg"):
        open_split("camvid", "day", {"camvid": str(tmp_path)})


def test_label_file_of_another_kind(tmp_path: Path) -> None:
    path = save(tmp_path / "ulm_0_1_gtFine_color.png", image_array(0))
    with refused(path, "*_gtFine_labelIds.png or *_gtFine_labelTrainIds.png"):
        DATASETS["cityscapes"].read_label(path)


def test_unknown_dataset_and_split() -> None:
    with refused("'gta'", "gtav"):
        open_split("gta", "train")
    with refused("cityscapes", "'test'", "train, val"):
        open_split("cityscapes", "test")
