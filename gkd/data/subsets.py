"""Label fractions: task learning on a part of the source's labels. Distillation needs none and keeps all images."""

from collections.abc import Iterable

import numpy as np

from gkd.data.samples import SegmentationData


def nested_subset(names: Iterable[str], divisor: int, seed: int) -> list[str]:
    """The first floor(N / divisor) of a seeded permutation of the sorted names, sorted.

    Nested: that of 16 lies inside that of 8. Raises ValueError where nothing is left.
    """
    ordered = sorted(names)
    count = len(ordered) // divisor
    if count == 0:
        raise ValueError(f"1/{divisor} of {len(ordered)} labelled images is none: use a smaller label_divisor")
    order = np.random.default_rng(seed).permutation(len(ordered))
    return sorted(ordered[i] for i in order[:count])


def fraction(data: SegmentationData, divisor: int, seed: int) -> SegmentationData:
    """1/divisor of the samples, by `nested_subset` of their names; all of them for 1."""
    if divisor == 1:
        return data
    rows = {sample.name: number for number, sample in enumerate(data.samples)}
    return data.subset(rows[name] for name in nested_subset(rows, divisor, seed))
