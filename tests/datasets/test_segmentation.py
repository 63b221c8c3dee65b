"""The map-style view of a split, and of several as one."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layout_files import SIZE, image_array, open_split, save

from gkd.datasets import DatasetError, SegmentationData, concatenate


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(indices=st.lists(st.integers(0, 4), max_size=8))
def test_subset_keeps_order_and_repeats(tmp_path: Path, vaihingen, indices: list[int]) -> None:
    vaihingen(5)
    data = open_split("vaihingen", "val", tmp_path)
    part = data.subset(indices)
    assert len(part) == len(indices) and part.label_space == "isprs"
    for i, index in enumerate(indices):
        assert part.samples[i] == data.samples[index]
        assert all(np.array_equal(a, b) for a, b in zip(part[i], data[index], strict=True))


def test_in_memory_gives_the_same_arrays_and_survives_changes_to_them(tmp_path: Path, vaihingen) -> None:
    vaihingen(2)
    on_disk, kept = (open_split("vaihingen", "val", tmp_path, in_memory=memory) for memory in (False, True))
    expected = [on_disk[i] for i in range(2)]
    assert all(array.flags.writeable for array in expected[0])
    image, label = kept[1]
    image[:], label[:] = 0, 9
    kept[0]
    for path in tmp_path.rglob("*.png"):  # from here on only the memory can answer
        path.unlink()
    for data in (kept, kept.subset([0, 1])):
        for i in range(2):
            assert all(np.array_equal(a, b) for a, b in zip(data[i], expected[i], strict=True))


@pytest.fixture
def parts(tmp_path: Path) -> list[SegmentationData]:
    """Two images of GTAV and three of UrbanSyn; the label of image i is i everywhere."""
    for i in range(2):
        save(tmp_path / f"gtav/images/{i:05}.png", image_array(i))
        save(tmp_path / f"gtav/labels/{i:05}.png", np.full(SIZE, (7, 8)[i], dtype=np.uint8), "P")
    for i in range(2, 5):
        save(tmp_path / f"urbansyn/rgb/rgb_{i:04}.png", image_array(i))
        save(tmp_path / f"urbansyn/ss/ss_{i:04}.png", np.full(SIZE, i, dtype=np.uint8))
    return [open_split(name, "all", tmp_path / name, in_memory=True) for name in ("gtav", "urbansyn")]


def check_items(data: SegmentationData, expected: list[int]) -> None:
    assert len(data) == len(data.samples) == len(expected)
    for (image, label), number in zip(data, expected, strict=True):  # ends by itself
        assert np.array_equal(image, image_array(number)) and (label == number).all()


def test_parts_follow_one_another_and_are_cut_as_one(tmp_path: Path, parts: list[SegmentationData]) -> None:
    data = concatenate(parts)
    assert data.label_space == "cityscapes" and data.in_memory
    check_items(data, [0, 1, 2, 3, 4])
    names = [sample.name for sample in data.samples]
    assert names[0] == "gtav/images/00000.png" and names[-1] == "urbansyn/rgb/rgb_0004.png"
    assert len(set(names)) == 5
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    part = data.subset([4, 0, 4, 2])
    check_items(part, [4, 0, 4, 2])
    check_items(part.subset([1, 3]), [0, 2])


def test_one_part_stays_as_it_is_and_label_spaces_must_agree(
    tmp_path: Path, parts: list[SegmentationData], vaihingen
) -> None:
    assert concatenate(parts[:1]) is parts[0]
    vaihingen()
    other = open_split("vaihingen", "val", tmp_path)
    with pytest.raises(DatasetError, match=r"one label space to join, found gtav \(cityscapes\), vaihingen \(isprs\)"):
        concatenate([parts[0], other])
