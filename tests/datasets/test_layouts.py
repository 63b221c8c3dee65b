"""Every official layout loads to the right pixels and train ids."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from layout_files import CASES, SIZE, Case, every_case, image_array, open_split, refused, save, write_case
from PIL import Image

from gkd import datasets
from gkd.datasets import official
from gkd.params import ROOT


def names(data) -> list[str]:
    return [sample.name for sample in data.samples]


@every_case
def test_pixels_and_train_ids(tmp_path: Path, case: Case) -> None:
    size = (12, 16) if case.name == "mapillary" else SIZE
    _, expected = write_case(tmp_path, case, size)
    if case.name == "mapillary":
        expected = np.array(Image.fromarray(expected).resize(SIZE[::-1], Image.Resampling.NEAREST))
    data = open_split(case.name, case.split, tmp_path)
    assert names(data) == [case.image] and data.label_space == official().layout(case.name).label_space
    travelled = pickle.loads(pickle.dumps(data))  # as to the processes of a loader
    for image, label in (data[0], travelled[0]):
        assert image.shape == (*SIZE, 3) and image.dtype == label.dtype == np.uint8
        assert np.array_equal(label, expected)
        if case.image.endswith(".png"):
            assert np.array_equal(image, image_array(1, size))
        elif case.name != "mapillary":
            assert np.array_equal(image, np.array(Image.open(tmp_path / case.image)))


def test_every_dataset_with_labels_is_covered_and_every_published_count_is_of_a_split() -> None:
    layouts = official().layouts
    assert {case.name for case in CASES} == set(layouts) - {"proxy"}
    assert {layout.label_space for layout in layouts.values()} == {"", "cityscapes", "isprs", "camvid", "rescue"}
    for layout in layouts.values():
        assert layout.published and set(layout.published) <= set(layout.splits)
        assert layout.about is not None and "{split}" not in layout.tree


def test_the_file_of_docs_adding_brings_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, layout = re.findall(r"```python\n(.*?)```", (ROOT / "docs/adding.md").read_text(), re.S)
    (tmp_path / "kitti.py").write_text(layout)
    monkeypatch.setattr(datasets, "__path__", [*datasets.__path__, str(tmp_path)])
    image, label = "training/image_2/0_10.png", "training/semantic/0_10.png"
    _, expected = write_case(tmp_path / "kitti", Case("kitti", "all", image, label, "L", (7, 33, 3), (0, 18, 255)))
    known = official({"kitti": str(tmp_path / "kitti")})
    assert np.array_equal(known.open_split("kitti", "all")[0][1], expected)
    assert [domain.name for domain in known.targets("gtav", ["kitti/all"])] == ["kitti_all"]


def test_the_best_labels_win_where_several_are_there(tmp_path: Path) -> None:
    stem = "val/frankfurt/frankfurt_000000_000294"
    save(tmp_path / f"leftImg8bit/{stem}_leftImg8bit.png", image_array(0))
    for kind, value in (("labelIds", 7), ("labelTrainIds", 5), ("instanceIds", 7), ("color", 9)):
        save(tmp_path / f"gtFine/{stem}_gtFine_{kind}.png", np.full(SIZE, value, dtype=np.uint8))
    save(tmp_path / "validation/images/k.jpg", image_array(0))
    for folder, value in (("labels", 65), ("v1.2/labels", 13)):
        save(tmp_path / f"validation/{folder}/k.png", np.full(SIZE, value, dtype=np.uint8), "P")
    for name in ("cityscapes", "mapillary"):
        data = open_split(name, "val", tmp_path)
        assert len(data) == 1 and (data[0][1] == 0).all()


def test_acdc_splits_hold_one_condition(tmp_path: Path) -> None:
    for case in CASES:
        if case.name == "acdc":
            write_case(tmp_path, case)
    for weather in ("night", "snow", "fog", "rain"):
        (name,) = names(open_split("acdc", f"{weather}_val", tmp_path))
        assert name.startswith(f"rgb_anon/{weather}/val/")


@pytest.mark.parametrize(
    ("name", "image", "label", "mode"),
    [
        ("gtav", "images/{:05}", "labels/{:05}", "P"),
        ("synthia", "RGB/{:07}", "GT/LABELS/{:07}", "RGB16"),
        ("urbansyn", "rgb/rgb_{:04}", "ss/ss_{:04}", "L"),
    ],
)
def test_rendered_streets_hold_out_every_tenth_image(
    tmp_path: Path, name: str, image: str, label: str, mode: str
) -> None:
    for number in range(1, 25):
        save(tmp_path / f"{image.format(number)}.png", image_array(0))
        save(tmp_path / f"{label.format(number)}.png", np.full(SIZE, 7, dtype=np.uint8), mode)
    if name == "gtav":  # image and label of these differ in size
        for number in (15188, 17705):
            save(tmp_path / f"images/{number}.png", image_array(0))
    if name != "urbansyn":  # written beside the labels by other tools
        (tmp_path / f"{label.format(1)}_labelTrainIds.png").write_bytes(b"of another tool")
    every, train, val = (names(open_split(name, split, tmp_path)) for split in ("all", "train", "val"))
    assert val == [f"{image.format(number)}.png" for number in (1, 11, 21)]
    assert len(every) == 24 and sorted(train + val) == every


def test_the_parent_of_rand_cityscapes_serves_as_well(tmp_path: Path) -> None:
    write_case(tmp_path / "RAND_CITYSCAPES", next(case for case in CASES if case.name == "synthia"))
    assert names(open_split("synthia", "all", tmp_path)) == ["RAND_CITYSCAPES/RGB/0000001.png"]


def test_urbansyn_pairs_by_number_or_by_name(tmp_path: Path) -> None:
    for number in (3, 1, 2):
        save(tmp_path / f"rgb/rgb_{number:04}.png", image_array(number))
        save(tmp_path / f"ss/ss_{number:04}.png", np.full(SIZE, number, dtype=np.uint8))
    for number, (image, label) in enumerate(open_split("urbansyn", "all", tmp_path), start=1):
        assert np.array_equal(image, image_array(number)) and (label == number).all()
    (tmp_path / "ss/ss_0003.png").unlink()
    with refused(f"rgb_0003.png: expected its label ss_*.png in {tmp_path / 'ss'}", "1 of 3"):
        open_split("urbansyn", "all", tmp_path)
    for number in (1, 2, 3):  # labels renamed after the images for other code
        save(tmp_path / f"ss/rgb_{number:04}.png", np.full(SIZE, 19, dtype=np.uint8))
        (tmp_path / f"ss/ss_{number:04}.png").unlink(missing_ok=True)
    assert (open_split("urbansyn", "all", tmp_path)[0][1] == 255).all()


def test_potsdam_rgb_and_irrg_share_a_root_but_not_their_images(tmp_path: Path) -> None:
    for seed, channels in ((4, "RGB"), (5, "IRRG")):
        save(tmp_path / f"{channels}/img_dir/val/2_13_0_0_512_512.png", image_array(seed))
        save(tmp_path / f"{channels}/ann_dir/val/2_13_0_0_512_512.png", np.ones(SIZE, dtype=np.uint8))
    assert np.array_equal(open_split("potsdam_rgb", "val", tmp_path)[0][0], image_array(4))
    assert np.array_equal(open_split("potsdam_irrg", "val", tmp_path)[0][0], image_array(5))


def test_camvid_is_parted_by_drive(tmp_path: Path) -> None:
    for name in ("train/{}/0001TP_1", "train/{}/0006R0_1", "train/{}/0016E5_1", "val/{}/0016E5_2"):
        save(tmp_path / f"{name.format('images')}.jpg", image_array(0))
        save(tmp_path / f"{name.format('labels')}.png", np.zeros(SIZE, dtype=np.uint8))
    found = {split: [Path(n).stem for n in names(open_split("camvid", split, tmp_path))] for split in ("day", "dusk")}
    assert found == {"day": ["0006R0_1", "0016E5_1"], "dusk": ["0001TP_1"]}
    assert names(open_split("camvid", "val", tmp_path)) == ["val/images/0016E5_2.jpg"]


def test_proxy_takes_images_at_any_depth_and_in_any_mode_and_train_alone(tmp_path: Path) -> None:
    save(tmp_path / "b.JPEG", image_array(0))
    save(tmp_path / "n01/deep/a.png", image_array(1)[..., 0])  # grey
    save(tmp_path / "n01/a.PNG", image_array(2), mode=None)
    save(tmp_path / "n01/._a.png", image_array(2))
    (tmp_path / "n01/notes.txt").write_text("no image")
    data = open_split("proxy", "train", tmp_path)
    assert names(data) == ["b.JPEG", "n01/a.PNG", "n01/deep/a.png"]
    for image, label in data:
        assert image.shape == (*SIZE, 3) and label is None
    save(tmp_path / "train/n01/a.JPEG", image_array(0))  # as in ImageNet
    assert names(open_split("proxy", "train", tmp_path)) == ["train/n01/a.JPEG"]
