from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkd.data.samples import Sample, SegmentationData
from gkd.data.subsets import fraction, nested_subset


@given(st.integers(16, 300), st.integers(0, 5))
def test_fractions_are_nested_and_of_the_stated_size(count, seed):
    names = [f"{i:04}.png" for i in range(count)]
    parts = {divisor: nested_subset(reversed(names), divisor, seed) for divisor in (1, 2, 4, 8, 16)}
    assert parts[1] == names
    for divisor, part in parts.items():
        assert len(part) == len(set(part)) == count // divisor and part == sorted(part)
    for larger, smaller in ((1, 2), (2, 4), (4, 8), (8, 16)):
        assert set(parts[smaller]) <= set(parts[larger])


def test_sizes_of_the_published_fractions_and_seeds():
    assert [len(nested_subset(map(str, range(24_964)), k, 0)) for k in (16, 8, 4)] == [1560, 3120, 6241]
    assert [len(nested_subset(map(str, range(2_975)), k, 0)) for k in (16, 8, 4)] == [185, 371, 743]
    names = [str(i) for i in range(100)]
    assert nested_subset(names, 4, 0) != nested_subset(names, 4, 1)


def test_a_fraction_of_a_dataset_follows_the_names_not_the_order():
    samples = [Sample(f"{i:02}.png", Path(f"{i:02}.png")) for i in range(15)]
    data, turned = (SegmentationData(tuple(own), "isprs") for own in (samples, samples[::-1]))
    assert fraction(data, 1, 0) is data
    part = fraction(data, 4, 0)
    assert part.samples == fraction(turned, 4, 0).samples and part.label_space == "isprs"
    assert [sample.name for sample in part.samples] == nested_subset((s.name for s in samples), 4, 0)
    with pytest.raises(ValueError, match="1/16 of 15 labelled images is none: use a smaller label_divisor"):
        fraction(data, 16, 0)
