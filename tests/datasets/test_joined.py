"""Several splits as one dataset."""

from pathlib import Path

import numpy as np
import pytest
from layout_files import SIZE, image_array, save

from gkd.datasets import DatasetError, JoinedData, SegmentationData, join, open_split


@pytest.fixture
def parts(tmp_path: Path) -> list[SegmentationData]:
    """Two images of GTAV and three of UrbanSyn; the label of image i is i everywhere."""
    for i in range(2):
        save(tmp_path / f"gtav/images/{i:05}.png", image_array(i))
        save(tmp_path / f"gtav/labels/{i:05}.png", np.full(SIZE, (7, 8)[i], dtype=np.uint8), "P")
    for i in range(2, 5):
        save(tmp_path / f"urbansyn/rgb/rgb_{i:04}.png", image_array(i))
        save(tmp_path / f"urbansyn/ss/ss_{i:04}.png", np.full(SIZE, i, dtype=np.uint8))
    roots = {name: str(tmp_path / name) for name in ("gtav", "urbansyn")}
    return [open_split(name, "all", roots, in_memory=True) for name in roots]


def check_items(data: JoinedData, expected: list[int]) -> None:
    assert len(data) == len(data.samples) == len(expected)
    for (image, label), number in zip((data[i] for i in range(len(data))), expected, strict=True):
        assert np.array_equal(image, image_array(number)) and (label == number).all()


def test_parts_follow_one_another(parts: list[SegmentationData]) -> None:
    data = join(parts)
    assert isinstance(data, JoinedData) and data.label_space == "cityscapes"
    check_items(data, [0, 1, 2, 3, 4])
    names = [sample.name for sample in data.samples]
    assert names[0] == "gtav/images/00000.png" and names[-1] == "urbansyn/rgb/rgb_0004.png"
    assert len(set(names)) == 5
    with pytest.raises(IndexError):  # Python's iteration protocol on __getitem__ needs one at the end
        data[5]


def test_subsets_keep_order_and_repeats_and_can_be_cut_again(parts: list[SegmentationData]) -> None:
    data = join(parts)
    part = data.subset([4, 0, 4, 2])
    check_items(part, [4, 0, 4, 2])
    assert [s.name for s in part.samples] == [data.samples[i].name for i in (4, 0, 4, 2)]
    check_items(part.subset([1, 3]), [0, 2])


def test_arrays_in_memory_are_those_of_the_parts(tmp_path: Path, parts: list[SegmentationData]) -> None:
    data = join(parts)
    image, label = data[3]
    image[:], label[:] = 0, 9
    for path in tmp_path.rglob("*_0003.png"):
        path.unlink()
    check_items(data.subset([3]), [3])


def test_one_part_stays_as_it_is(parts: list[SegmentationData]) -> None:
    assert join(parts[:1]) is parts[0]


def test_label_spaces_must_agree(parts: list[SegmentationData], vaihingen) -> None:
    other = open_split("vaihingen", "val", vaihingen())
    with pytest.raises(DatasetError, match=r"one label space to join, found gtav \(cityscapes\), vaihingen \(isprs\)"):
        join([parts[0], other])
