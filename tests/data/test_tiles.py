"""Potsdam and Vaihingen straight from their TIFF tiles."""

import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layout_files import image_array, open_split, problem, refused, save
from PIL import Image

from gkd.data.labels import colours, lut
from gkd.data.tiles import windows
from gkd.datasets import official, vaihingen

SIZE = (600, 700)
BOXES = [(0, 0, 512, 512), (188, 0, 700, 512), (0, 88, 512, 600), (188, 88, 700, 600)]
PALETTE = np.array([colours("isprs")[i] for i in range(7)], dtype=np.uint8)


@pytest.fixture(autouse=True)
def copies_of_tiles(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Uncompressed copies of tiles go away from the checkout."""
    monkeypatch.setattr("gkd.data.reading.ROOT", tmp_path_factory.mktemp("copies"))


def ids(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 7, size, dtype=np.uint8)


def write_tile(root: Path, tile: str, seed: int, size: tuple[int, int] = SIZE) -> None:
    """A Potsdam tile as the zips unpack: RGB and label."""
    save(root / f"2_Ortho_RGB/top_potsdam_{tile}_RGB.tif", image_array(seed, size))
    save(root / f"5_Labels_all_noBoundary/top_potsdam_{tile}_label_noBoundary.tif", PALETTE[ids(seed, size)])


# --- the window rule ---


def test_published_counts_of_tiles_and_windows() -> None:
    assert sorted({x for x, *_ in windows(6000, 6000)}) == [*range(0, 5633 - 512, 512), 5488]
    per_tile = len(windows(6000, 6000))
    train, val = (official().layout("potsdam_rgb").tiles[split] for split in ("train", "val"))
    assert (len(train) * per_tile, len(val) * per_tile) == (24 * 144, 14 * 144) == (3456, 2016)
    parts = official().layout("potsdam_irrg").tiles
    assert not {*train} & {*val} and sorted(parts["fit"] + parts["hold_out"]) == sorted(train)
    assert (len(vaihingen.TRAIN), len(vaihingen.VAL)) == (16, 17) and not {*vaihingen.TRAIN} & {*vaihingen.VAL}
    boxes = windows(1919, 2569)  # a tile of Vaihingen
    assert len(boxes) == 24 and boxes[-1] == (1407, 2057, 1919, 2569)
    assert sorted({y for _, y, *_ in boxes}) == [0, 512, 1024, 1536, 2048, 2057]
    assert windows(300, 200) == [(0, 0, 300, 200)]
    assert windows(513, 200) == [(0, 0, 512, 200), (1, 0, 513, 200)]


@given(width=st.integers(1, 90), height=st.integers(1, 90), size=st.integers(1, 40))
def test_windows_cover_a_tile_and_stay_on_it(width: int, height: int, size: int) -> None:
    seen = np.zeros((height, width), dtype=bool)
    boxes = windows(width, height, size)
    for x0, y0, x1, y1 in boxes:
        assert (x1 - x0, y1 - y0) == (min(size, width), min(size, height)) and x1 <= width and y1 <= height
        seen[y0:y1, x0:x1] = True
    assert seen.all() and len(boxes) == -(-width // size) * -(-height // size)  # no more windows than needed


# --- pixels ---


def test_every_window_holds_its_pixels(tmp_path: Path) -> None:
    for seed, tile in enumerate(("2_10", "2_11", "2_13")):  # the last is of val
        write_tile(tmp_path, tile, seed)
    data = open_split("potsdam_rgb", "train", tmp_path)
    names = [sample.name for sample in data.samples]
    assert names[1] == "2_Ortho_RGB/top_potsdam_2_10_RGB_188_0_700_512.tif" and len(set(names)) == 8
    expected = [(seed, box) for seed in (0, 1) for box in BOXES]
    for i, (seed, (x0, y0, x1, y1)) in enumerate(expected):
        image, label = data[i]
        assert np.array_equal(image, image_array(seed, SIZE)[y0:y1, x0:x1])
        assert np.array_equal(label, lut("isprs")[ids(seed)][y0:y1, x0:x1])
        assert image.flags.writeable and label.flags.writeable
        image[:], label[:] = 0, 0  # must not reach the file
    assert [sample.window for sample in data.samples] == [box for _, box in expected]
    copy = pickle.loads(pickle.dumps(data))
    assert all(np.array_equal(a, b) for a, b in zip(copy[7], data[7], strict=True))


def test_fit_and_hold_out_are_parts_of_train_and_rescue_has_its_classes(tmp_path: Path) -> None:
    for seed, tile in enumerate(("2_10", "3_11", "7_8")):
        write_tile(tmp_path, tile, seed, (20, 30))
    for split, tiles in (("train", ["2_10", "3_11", "7_8"]), ("fit", ["2_10"]), ("hold_out", ["3_11", "7_8"])):
        data = open_split("potsdam_rgb_rescue", split, tmp_path)
        assert [sample.image.stem[12:-4] for sample in data.samples] == tiles and data.label_space == "rescue"
    rescue = open_split("potsdam_rgb_rescue", "fit", tmp_path)[0][1]
    assert np.array_equal(rescue, np.array([255, 0, 1, 2, 2, 3, 4])[ids(0, (20, 30))])


@pytest.mark.parametrize("folder", ["", "deep/4_Ortho_RGBIR/"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("purpose", [0, 1, 2])  # of the fourth band: none named, premultiplied transparency, other
def test_irrg_from_four_bands(tmp_path: Path, folder: str, compression: str | None, purpose: int) -> None:
    bands = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    path = tmp_path / f"{folder}top_potsdam_2_13_RGBIR.tif"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(bands).save(path, compression=compression)
    entry = struct.pack("<HHI", 338, 3, 1)  # the tag ExtraSamples, one short
    content = path.read_bytes()
    assert content.count(entry) == 1
    path.write_bytes(content.replace(entry + b"\2", entry + bytes([purpose])))
    with Image.open(path) as image:
        assert image.tag_v2[338] == (purpose,)
    save(tmp_path / "top_potsdam_2_13_label.tif", PALETTE[ids(0, (20, 30))])  # with boundaries, for want of the others
    for name, order in (("potsdam_irrg", [3, 0, 1]), ("potsdam_rgb", [0, 1, 2])):
        image, label = open_split(name, "val", tmp_path)[0]
        assert np.array_equal(image, bands[..., order])
        assert np.array_equal(label, lut("isprs")[ids(0, (20, 30))])


def test_published_irrg_tiles_keep_their_channels(tmp_path: Path) -> None:
    save(tmp_path / "3_Ortho_IRRG/top_potsdam_2_13_IRRG.tif", image_array(0))
    save(tmp_path / "4_Ortho_RGBIR/top_potsdam_2_13_RGBIR.tif", image_array(1))
    save(tmp_path / "5_Labels_all/top_potsdam_2_13_label.tif", np.zeros((6, 8, 3), dtype=np.uint8))
    save(tmp_path / "5_Labels_all_noBoundary/top_potsdam_2_13_label_noBoundary.tif", np.full((6, 8, 3), 255, np.uint8))
    image, label = open_split("potsdam_irrg", "val", tmp_path)[0]
    assert np.array_equal(image, image_array(0)) and (label == 0).all()


def test_vaihingen_takes_images_from_top_and_leaves_other_labels_alone(tmp_path: Path) -> None:
    folder = tmp_path / "gts_for_participants"
    folder.mkdir()
    for area in ("1", "2", "9"):
        label = save(tmp_path / f"eroded/top_mosaic_09cm_area{area}_noBoundary.tif", PALETTE[ids(2, (20, 30))])
        shutil.copy(label, folder / f"top_mosaic_09cm_area{area}.tif")
        if area != "9":
            save(tmp_path / f"top/top_mosaic_09cm_area{area}.tif", image_array(int(area), (20, 30)))
    for split, area in (("train", 1), ("val", 2)):
        data = open_split("vaihingen", split, tmp_path)
        assert [s.name for s in data.samples] == [f"top/top_mosaic_09cm_area{area}_0_0_30_20.tif"]
        assert np.array_equal(data[0][0], image_array(area, (20, 30)))
        assert np.array_equal(data[0][1], lut("isprs")[ids(2, (20, 30))])
    for area in (1, 2):  # directly in the root
        (tmp_path / f"top/top_mosaic_09cm_area{area}.tif").rename(tmp_path / f"top_mosaic_09cm_area{area}.tif")
    assert np.array_equal(open_split("vaihingen", "val", tmp_path)[0][0], image_array(2, (20, 30)))


def test_images_cut_beforehand_are_tried_first(tmp_path: Path) -> None:
    write_tile(tmp_path, "2_10", 0)
    save(tmp_path / "RGB/img_dir/train/2_10_0_0_512_512.png", image_array(5))
    save(tmp_path / "RGB/ann_dir/train/2_10_0_0_512_512.png", np.zeros((6, 8), dtype=np.uint8))
    (sample,) = open_split("potsdam_rgb", "train", tmp_path).samples
    assert sample.image.suffix == ".png" and sample.window is None


# --- bad input ---


def told(root: Path, *fragments: object, split: str = "train") -> None:
    """What is said of Potsdam-RGB holds the fragments, by the catalogue and where it is opened."""
    assert all(str(fragment) in problem("potsdam_rgb", split, root) for fragment in fragments)
    with refused(*fragments):
        open_split("potsdam_rgb", split, root)


@pytest.fixture
def pair_of_tiles(tmp_path: Path) -> Path:
    for seed, tile in enumerate(("2_10", "2_11")):
        write_tile(tmp_path / "potsdam", tile, seed, (20, 30))
    return tmp_path / "potsdam"


def test_tile_without_label_and_label_without_tile(pair_of_tiles: Path) -> None:
    image = pair_of_tiles / "2_Ortho_RGB/top_potsdam_2_11_RGB.tif"
    label = pair_of_tiles / "5_Labels_all_noBoundary/top_potsdam_2_11_label_noBoundary.tif"
    label.rename(label.with_suffix(".bak"))
    told(pair_of_tiles, f"{image}: expected its label top_potsdam_2_11_label_noBoundary.tif", "1 of 2", "complete")
    label.with_suffix(".bak").rename(label)
    write_tile(pair_of_tiles.parent / "sibling", "2_10", 0)  # another copy is no reason to propose another root
    image.unlink()
    told(pair_of_tiles, f"{label}: expected its image top_potsdam_2_11_RGB.tif", "1 of 2", "complete")


def test_every_other_fault_of_tiles_is_named(pair_of_tiles: Path) -> None:
    images, labels = (pair_of_tiles / name for name in ("2_Ortho_RGB", "5_Labels_all_noBoundary"))
    for folder in (images, labels):  # one level too low
        told(folder, f"did you mean {pair_of_tiles} as the root?")
    told(pair_of_tiles, "expected RGB/img_dir/val", "top_potsdam_<tile>_RGB.tif", "2_13, 2_14", split="val")
    label = save(labels / "top_potsdam_2_11_label_noBoundary.tif", PALETTE[ids(0, (20, 29))])
    with refused(f"{label}: expected the size of its image", "30x20, found 29x20"):
        open_split("potsdam_rgb", "train", pair_of_tiles)[1]
    again = save(pair_of_tiles / "copy/top_potsdam_2_10_RGB.tif", image_array(0))
    told(pair_of_tiles, again, "expected one file a tile", images / "top_potsdam_2_10_RGB.tif")
    again.unlink()
    (images / "top_potsdam_2_10_RGB.tif").write_bytes(b"II")
    told(pair_of_tiles, "top_potsdam_2_10_RGB.tif: expected a complete image")
