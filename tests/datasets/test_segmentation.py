"""The map-style view of a split."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gkd.datasets import SegmentationData, open_split


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(indices=st.lists(st.integers(0, 4), max_size=8))
def test_subset_keeps_order_and_repeats(vaihingen, indices: list[int]) -> None:
    data = open_split("vaihingen", "val", vaihingen(5))
    part = data.subset(indices)
    assert len(part) == len(indices) and part.label_space == "isprs"
    for i, index in enumerate(indices):
        assert part.samples[i] == data.samples[index]
        assert all(np.array_equal(a, b) for a, b in zip(part[i], data[index], strict=True))


def test_iteration_ends() -> None:
    """Python's iteration protocol on __getitem__ needs an IndexError at the end."""
    with pytest.raises(IndexError):
        SegmentationData(None, ())[0]


def test_in_memory_gives_the_same_arrays_and_survives_changes_to_them(tmp_path, vaihingen) -> None:
    roots = vaihingen(2)
    on_disk, kept = (
        open_split("vaihingen", "val", roots),
        open_split("vaihingen", "val", roots, in_memory=True),
    )
    expected = [on_disk[i] for i in range(2)]
    image, label = kept[1]
    image[:], label[:] = 0, 9
    kept[0]
    for path in tmp_path.rglob("*.png"):  # from here on only the memory can answer
        path.unlink()
    for data in (kept, kept.subset([0, 1])):
        for i in range(2):
            assert all(np.array_equal(a, b) for a, b in zip(data[i], expected[i], strict=True))


def test_items_can_be_written_to(vaihingen) -> None:
    image, label = open_split("vaihingen", "val", vaihingen(1))[0]
    assert image.flags.writeable and label.flags.writeable
