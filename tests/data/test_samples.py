"""One sample read as its reader says; the map-style view of a split, and of several as one."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from layout_files import SIZE, image_array, open_split, refused, save, write_vaihingen
from PIL import Image

from gkd.data.samples import Reader, Sample, SegmentationData, concatenate, read


def equal(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_reader_says_how_files_become_arrays(tmp_path: Path) -> None:
    ids = np.array([[0, 3, 5]] * 2, dtype=np.uint8)
    label = save(tmp_path / "red.png", ids, "RGB16")
    image = save(tmp_path / "a.png", image_array(0, ids.shape))
    found = read(Sample("a", image, label, "synthia", reader=Reader("red")))
    assert equal(found, (image_array(0, ids.shape), [[255, 0, 4]] * 2))
    tile = save(tmp_path / "a.tif", image_array(0, ids.shape))
    colours = np.array([[(0, 0, 255), (255, 255, 0), (9, 0, 255)]] * 2, dtype=np.uint8)
    label = save(tmp_path / "label.tif", colours)
    for encoding, last in (("colours", 1), ("exact colours", 255)):
        sample = Sample("a", tile, label, "isprs", (1, 0, 3, 2), Reader(encoding, (2, 0, 1)))
        assert equal(read(sample), (image_array(0, ids.shape)[:, 1:, [2, 0, 1]], [[4, last]] * 2))
    assert read(Sample("a", image))[1] is None


def test_half_size_is_that_of_the_published_copy(tmp_path: Path) -> None:
    label = save(tmp_path / "l.png", np.full((41, 65), 13, dtype=np.uint8), "P")
    path = save(tmp_path / "k.jpg", image_array(3, (41, 65)))
    copy = BytesIO()
    with Image.open(path) as full:
        full.resize((32, 20), Image.Resampling.BICUBIC).save(copy, "JPEG")  # Pillow's default quality is 75
    found = read(Sample("k", path, label, "mapillary", reader=Reader(half=True)))
    assert equal(found, (np.array(Image.open(copy)), np.zeros((20, 32))))


def test_unlabelled_images_have_no_label_and_open_no_label_file(tmp_path: Path) -> None:
    data = open_split("vaihingen", "val", write_vaihingen(tmp_path, range(2)))
    image, label = data[0]
    assert image.flags.writeable and label.flags.writeable  # torch warns of others
    bare = data.unlabelled()
    assert (bare.label_space, len(bare)) == ("", 2)
    for path in tmp_path.rglob("ann_dir/*/*.png"):
        path.write_bytes(b"not to be read")
    assert np.array_equal(bare[0][0], image) and {label for _, label in bare} == {None}
    assert [sample.name for sample in bare.samples] == [sample.name for sample in data.samples]
    with refused("ann_dir", "expected a complete image"):
        data[1]


@pytest.fixture
def parts(tmp_path: Path) -> list[SegmentationData]:
    """Two images of GTAV and three of UrbanSyn; the label of image i is i everywhere."""
    for i in range(2):
        save(tmp_path / f"gtav/images/{i:05}.png", image_array(i))
        save(tmp_path / f"gtav/labels/{i:05}.png", np.full(SIZE, (7, 8)[i], dtype=np.uint8), "P")
    for i in range(2, 5):
        save(tmp_path / f"urbansyn/rgb/rgb_{i:04}.png", image_array(i))
        save(tmp_path / f"urbansyn/ss/ss_{i:04}.png", np.full(SIZE, i, dtype=np.uint8))
    return [open_split(name, "all", tmp_path / name) for name in ("gtav", "urbansyn")]


def test_parts_follow_one_another_and_are_cut_as_one(tmp_path: Path, parts: list[SegmentationData]) -> None:
    def check_items(data: SegmentationData, expected: list[int]) -> None:
        for (image, label), number in zip(data, expected, strict=True):
            assert np.array_equal(image, image_array(number)) and (label == number).all()

    data = concatenate(parts, ["gtav", "urbansyn"])
    assert data.label_space == "cityscapes"
    check_items(data, [0, 1, 2, 3, 4])
    names = [sample.name for sample in data.samples]
    assert names[0] == "gtav/images/00000.png" and names[-1] == "urbansyn/rgb/rgb_0004.png"
    assert len(set(names)) == 5
    part = data.subset([4, 0, 4, 2])
    check_items(part, [4, 0, 4, 2])
    check_items(part.subset([1, 3]), [0, 2])


def test_one_part_stays_as_it_is_and_label_spaces_must_agree(tmp_path: Path, parts: list[SegmentationData]) -> None:
    assert concatenate(parts[:1], ["gtav"]) is parts[0]
    other = open_split("vaihingen", "val", write_vaihingen(tmp_path, [1]))
    with refused("one label space to join, found gtav (cityscapes), vaihingen (isprs)"):
        concatenate([parts[0], other], ["gtav", "vaihingen"])
