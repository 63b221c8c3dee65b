"""Label fractions: task learning on a part of the source's labels (protocol section 5).

Distillation needs no labels and keeps all images. A subset is a text file, one image name a line, written by
`gkd plan` and read by the stage, so that DVC versions it and everyone trains on the same images. Of a source that joins
several datasets, each gives that fraction, and the same images as where it is a source alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from gkd.data.domains import SOURCES
from gkd.datasets import JoinedData, SegmentationData, joined_name, open_split
from gkd.params import ROOT, Params


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


def subset_file(source: str, divisor: int, seed: int) -> str | None:
    """Path of a subset relative to the root, None for all labels. The seed is the member's."""
    return None if divisor == 1 else f"subsets/{source}-{divisor}-{seed}.txt"


def write(params: Params, sources: Iterable[str], root: Path = ROOT) -> list[Path]:
    """Write the subsets that the members of a plan read, one for each source and seed; returns their paths."""
    paths = []
    for source in sources:
        domains = SOURCES[source].training(params.plan.hold_out)
        for seed in params.plan.seeds:
            name = subset_file(source, params.plan.label_divisor, seed)
            if name is None:
                continue
            names = []
            for domain in domains:
                samples = open_split(domain.dataset, domain.split, params.roots).samples
                what = f"labelled images of {domain.name}"
                part = nested_subset((sample.name for sample in samples), params.plan.label_divisor, seed, what)
                names += part if len(domains) == 1 else [joined_name(domain.dataset, line) for line in part]
            paths.append(root / name)
            paths[-1].parent.mkdir(parents=True, exist_ok=True)
            paths[-1].write_text("".join(f"{line}\n" for line in names))
    return paths


def restrict(data: SegmentationData | JoinedData, path: Path | None) -> SegmentationData | JoinedData:
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
