"""Every official layout loads to the right pixels and train ids."""

import pickle
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
from layout_files import CASES, SIZE, Case, image_array, save, write_case
from PIL import Image

from gkd.data.labels import SPACES
from gkd.datasets import DATASETS, open_split
from gkd.params import ROOT


def half(array: np.ndarray, resample: Image.Resampling) -> Image.Image:
    return Image.fromarray(array).resize((array.shape[1] // 2, array.shape[0] // 2), resample)


def test_labels_arrive_as_train_ids(tmp_path: Path, case: Case) -> None:
    size = (12, 16) if case.name == "mapillary" else SIZE
    _, expected = write_case(tmp_path, case, size)
    if case.name == "mapillary":
        expected = np.array(half(expected, Image.Resampling.NEAREST))
    data = open_split(case.name, case.split, {DATASETS[case.name].folder: str(tmp_path)})
    assert [sample.name for sample in data.samples] == [case.image]
    assert data.label_space == DATASETS[case.name].label_space
    image, label = data[0]
    assert image.shape == (*SIZE, 3) and image.dtype == np.uint8
    assert label is not None and label.dtype == np.uint8
    assert np.array_equal(label, expected)


def test_images_arrive_as_rgb(tmp_path: Path, case: Case) -> None:
    write_case(tmp_path, case)
    image, _ = open_split(case.name, case.split, {DATASETS[case.name].folder: str(tmp_path)})[0]
    if case.image.endswith(".png"):
        assert np.array_equal(image, image_array(1))
    elif case.name != "mapillary":
        assert np.array_equal(image, np.array(Image.open(tmp_path / case.image)))


def test_every_dataset_with_labels_is_covered() -> None:
    assert {case.name for case in CASES} == set(DATASETS) - {"proxy"}
    assert {layout.label_space for layout in DATASETS.values()} == {"", *SPACES}


def test_mapillary_is_read_as_the_published_half_size_copy(tmp_path: Path) -> None:
    full = image_array(3, (41, 65))
    save(tmp_path / "validation/labels/k.png", np.full((41, 65), 13, dtype=np.uint8), "P")
    path = save(tmp_path / "validation/images/k.jpg", full)
    copy = BytesIO()
    half(np.array(Image.open(path)), Image.Resampling.BICUBIC).save(copy, "JPEG")  # Pillow's default quality is 75
    image, label = open_split("mapillary", "val", {"mapillary": str(tmp_path)})[0]
    assert image.shape == (20, 32, 3) and label.shape == (20, 32)
    assert np.array_equal(image, np.array(Image.open(copy)))


def test_newer_layouts_win_where_both_are_there(tmp_path: Path) -> None:
    save(tmp_path / "validation/images/k.jpg", image_array(0))
    save(tmp_path / "validation/labels/k.png", np.full(SIZE, 65, dtype=np.uint8), "P")
    save(tmp_path / "validation/v1.2/labels/k.png", np.full(SIZE, 13, dtype=np.uint8), "P")
    _, label = open_split("mapillary", "val", {"mapillary": str(tmp_path)})[0]
    assert (label == 0).all()


def test_cityscapes_prefers_label_ids_and_ignores_the_other_files(tmp_path: Path) -> None:
    stem = "frankfurt/frankfurt_000000_000294"
    save(tmp_path / f"leftImg8bit/val/{stem}_leftImg8bit.png", image_array(0))
    for kind, value in (("labelIds", 7), ("labelTrainIds", 5), ("instanceIds", 7)):
        save(tmp_path / f"gtFine/val/{stem}_gtFine_{kind}.png", np.full(SIZE, value, dtype=np.uint8))
    save(tmp_path / f"gtFine/val/{stem}_gtFine_color.png", image_array(2))
    data = open_split("cityscapes", "val", {"cityscapes": str(tmp_path)})
    assert len(data) == 1 and (data[0][1] == 0).all()


def test_acdc_splits_hold_one_condition(tmp_path: Path) -> None:
    for case in CASES:
        if case.name == "acdc":
            write_case(tmp_path, case)
    for weather in ("night", "snow", "fog", "rain"):
        (sample,) = open_split("acdc", f"{weather}-val", {"acdc": str(tmp_path)}).samples
        assert sample.name.startswith(f"rgb_anon/{weather}/val/")


def test_gtav_leaves_out_bad_files_and_holds_out_every_tenth(tmp_path: Path) -> None:
    stems = [f"{i:05}" for i in (*range(1, 25), 15188, 17705)]
    for stem in stems:
        save(tmp_path / f"images/{stem}.png", image_array(0))
        save(tmp_path / f"labels/{stem}.png", np.full(SIZE, 7, dtype=np.uint8), "P")
    save(tmp_path / "labels/00001_labelTrainIds.png", np.zeros(SIZE, dtype=np.uint8))
    roots = {"gtav": str(tmp_path)}
    every, train, val = (
        [Path(sample.name).stem for sample in open_split("gtav", split, roots).samples]
        for split in ("all", "train", "val")
    )
    assert every == stems[:24]
    assert val == ["00001", "00011", "00021"]
    assert sorted(train + val) == every


def test_potsdam_rgb_and_irrg_share_a_root_but_not_their_images(tmp_path: Path) -> None:
    for seed, channels in ((4, "RGB"), (5, "IRRG")):
        save(tmp_path / f"{channels}/img_dir/val/2_13_0_0_512_512.png", image_array(seed))
        save(tmp_path / f"{channels}/ann_dir/val/2_13_0_0_512_512.png", np.ones(SIZE, dtype=np.uint8))
    roots = {"potsdam": str(tmp_path)}
    assert np.array_equal(open_split("potsdam-rgb", "val", roots)[0][0], image_array(4))
    assert np.array_equal(open_split("potsdam-irrg", "val", roots)[0][0], image_array(5))


def test_camvid_is_parted_by_drive(tmp_path: Path) -> None:
    for name in ("train/{}/0001TP_1", "train/{}/0006R0_1", "train/{}/0016E5_1", "val/{}/0016E5_2"):
        save(tmp_path / f"{name.format('images')}.jpg", image_array(0))
        save(tmp_path / f"{name.format('labels')}.png", np.zeros(SIZE, dtype=np.uint8))
    found = {
        split: [Path(sample.name).stem for sample in open_split("camvid", split, {"camvid": str(tmp_path)}).samples]
        for split in ("day", "val", "dusk")
    }
    assert found == {"day": ["0006R0_1", "0016E5_1"], "val": ["0016E5_2"], "dusk": ["0001TP_1"]}


def test_proxy_takes_images_at_any_depth_and_in_any_mode(tmp_path: Path) -> None:
    save(tmp_path / "b.JPEG", image_array(0))
    save(tmp_path / "n01/deep/a.png", image_array(1)[..., 0])  # grey
    save(tmp_path / "n01/a.PNG", image_array(2), mode=None)
    save(tmp_path / "n01/._a.png", image_array(2))
    (tmp_path / "n01/notes.txt").write_text("no image")
    data = open_split("proxy", "train", {"proxy": str(tmp_path)})
    assert [sample.name for sample in data.samples] == ["b.JPEG", "n01/a.PNG", "n01/deep/a.png"]
    for image, label in (data[i] for i in range(len(data))):
        assert image.shape == (*SIZE, 3) and label is None


def test_proxy_reads_only_train_of_imagenet(tmp_path: Path) -> None:
    save(tmp_path / "train/n01/a.JPEG", image_array(0))
    save(tmp_path / "val/n01/b.JPEG", image_array(0))
    assert [s.name for s in open_split("proxy", "train", {"proxy": str(tmp_path)}).samples] == ["train/n01/a.JPEG"]


def test_layouts_travel_to_worker_processes(tmp_path: Path, case: Case) -> None:
    write_case(tmp_path, case)
    data = open_split(case.name, case.split, {DATASETS[case.name].folder: str(tmp_path)})
    copy = pickle.loads(pickle.dumps(data))
    assert np.array_equal(copy[0][1], data[0][1])


def test_datasets_do_without_torch() -> None:
    code = "import gkd.datasets, gkd.data.domains, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
