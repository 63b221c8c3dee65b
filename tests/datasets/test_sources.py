"""SYNTHIA and UrbanSyn: 16-bit labels, names that differ, no official split."""

from pathlib import Path

import numpy as np
import pytest
from layout_files import SIZE, image_array, png16, save

from gkd.datasets import DatasetError, open_split


def synthia(root: Path, channels: np.ndarray) -> Path:
    save(root / "RGB/0000000.png", image_array(0))
    label = root / "GT/LABELS/0000000.png"
    label.parent.mkdir(parents=True)
    label.write_bytes(png16(channels))
    return label


def test_synthia_reads_red_whatever_the_instance_ids_are(tmp_path: Path) -> None:
    channels = np.random.default_rng(0).integers(0, 65536, (*SIZE, 3), dtype=np.uint16)
    channels[..., 0] = 3
    synthia(tmp_path / "RAND_CITYSCAPES", channels)
    (tmp_path / "RAND_CITYSCAPES/GT/LABELS/0000000_labelTrainIds.png").write_bytes(b"of another tool")
    data = open_split("synthia", "all", {"synthia": str(tmp_path)})  # the parent of RAND_CITYSCAPES serves as well
    assert [sample.name for sample in data.samples] == ["RAND_CITYSCAPES/RGB/0000000.png"]
    image, label = data[0]
    assert np.array_equal(image, image_array(0)) and (label == 0).all()


@pytest.mark.parametrize("array", [image_array(1), image_array(1)[..., 0], image_array(1)[..., 0].astype(np.uint16)])
def test_synthia_label_that_is_no_16_bit_rgb(tmp_path: Path, array: np.ndarray) -> None:
    path = synthia(tmp_path, np.zeros((*SIZE, 3), dtype=np.uint16))
    save(path, array)
    with pytest.raises(
        DatasetError, match=f"{path}: expected a 16-bit RGB label .* found an image of mode .* use GT/LABELS"
    ):
        open_split("synthia", "all", {"synthia": str(tmp_path)})[0]


@pytest.mark.parametrize(("value", "found"), [(23, "found 23"), (256, "found larger ones")])
def test_synthia_ids_outside_the_table(tmp_path: Path, value: int, found: str) -> None:
    path = synthia(tmp_path, np.full((*SIZE, 3), value, dtype=np.uint16))
    with pytest.raises(DatasetError, match=f"{path}: .*0-22.* {found}"):
        open_split("synthia", "all", {"synthia": str(tmp_path)})[0]


def test_synthia_label_that_is_cut_off_or_gone(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 23, (64, 64, 3), dtype=np.uint16)
    path = synthia(tmp_path, noise)
    save(tmp_path / "RGB/0000000.png", image_array(0, (64, 64)))
    data = open_split("synthia", "all", {"synthia": str(tmp_path)})
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DatasetError, match=f"{path}: expected a complete image, found a damaged file"):
        data[0]
    path.unlink()
    with pytest.raises(DatasetError, match=f"{path}: .* no such file"):
        data[0]


def test_urbansyn_pairs_by_number(tmp_path: Path) -> None:
    for number in (3, 1, 2):
        save(tmp_path / f"rgb/rgb_{number:04}.png", image_array(number))
        save(tmp_path / f"ss/ss_{number:04}.png", np.full(SIZE, number, dtype=np.uint8))
    data = open_split("urbansyn", "all", {"urbansyn": str(tmp_path)})
    for number, (image, label) in enumerate((data[i] for i in range(3)), start=1):
        assert np.array_equal(image, image_array(number)) and (label == number).all()


def test_urbansyn_with_labels_renamed_after_the_images(tmp_path: Path) -> None:
    save(tmp_path / "rgb/rgb_0001.png", image_array(0))
    save(tmp_path / "ss/rgb_0001.png", np.full(SIZE, 19, dtype=np.uint8))
    assert (open_split("urbansyn", "all", {"urbansyn": str(tmp_path)})[0][1] == 255).all()


def test_urbansyn_label_that_is_missing(tmp_path: Path) -> None:
    for number in (1, 2):
        save(tmp_path / f"rgb/rgb_{number:04}.png", image_array(0))
    save(tmp_path / "ss/ss_0001.png", np.zeros(SIZE, dtype=np.uint8))
    with pytest.raises(DatasetError, match=rf"rgb_0002.png: expected its label ss_\*.png in {tmp_path / 'ss'}.*1 of 2"):
        open_split("urbansyn", "all", {"urbansyn": str(tmp_path)})


@pytest.mark.parametrize("name", ["synthia", "urbansyn"])
def test_every_tenth_image_is_held_out(tmp_path: Path, name: str) -> None:
    images, labels = {"synthia": ("RGB/{:07}", "GT/LABELS/{:07}"), "urbansyn": ("rgb/rgb_{:04}", "ss/ss_{:04}")}[name]
    for number in range(1, 13):
        save(tmp_path / f"{images.format(number)}.png", image_array(0))
        save(tmp_path / f"{labels.format(number)}.png", np.zeros(SIZE, dtype=np.uint8))
    every, train, val = (
        [sample.name for sample in open_split(name, split, {name: str(tmp_path)}).samples]
        for split in ("all", "train", "val")
    )
    assert val == [f"{images.format(number)}.png" for number in (1, 11)]
    assert len(every) == 12 and sorted(train + val) == every
