"""Label fractions: task learning on a part of the source's labels. Distillation needs no labels and keeps all images.

A subset is a text file, one image name a line, so that DVC versions it and everyone trains on the same images.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from gkd.data.samples import SegmentationData


def nested_subset(names: Iterable[str], divisor: int, seed: int, what: str = "labelled images") -> list[str]:
    """The first floor(N / divisor) of a seeded permutation of the sorted names, sorted.

    Nested: that of 16 lies inside that of 8. Raises ValueError, which calls them `what`, where nothing is left.
    """
    ordered = sorted(names)
    count = len(ordered) // divisor
    if count == 0:
        raise ValueError(f"1/{divisor} of {len(ordered)} {what} is none: use a smaller plan.label_divisor")
    order = np.random.default_rng(seed).permutation(len(ordered))
    return sorted(ordered[i] for i in order[:count])


def restrict(data: SegmentationData, path: Path | None) -> SegmentationData:
    """The samples whose names the file lists; all of them without a file. A name that is not there is an error."""
    if path is None:
        return data
    rows = {sample.name: row for row, sample in enumerate(data.samples)}
    names = path.read_text().splitlines()
    absent = [name for name in names if name not in rows]
    if absent or not names:
        what = f"{absent[0]} is not in the dataset" if absent else "it is empty"
        raise ValueError(f"{path}: {what}; `gkd plan` writes the file anew")
    return data.subset(rows[name] for name in names)
