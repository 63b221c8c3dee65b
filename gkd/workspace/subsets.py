"""The label subsets that the members of a plan read: which files there are, and writing them.

Of a source that has several datasets, each gives that fraction, and the same images as where it is a source alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gkd.data.subsets import nested_subset
from gkd.datasets import catalogue
from gkd.files import write_whole
from gkd.params import ROOT, Params


def subset_file(source: str, divisor: int, seed: int) -> str | None:
    """Path of a subset relative to the root, None for all labels. The seed is the member's."""
    return None if divisor == 1 else f"subsets/{source}-{divisor}-{seed}.txt"


def write_subsets(params: Params, sources: Iterable[str], root: Path = ROOT) -> list[Path]:
    """Write the subsets that the members of a plan read, one for each source and seed; returns their paths."""
    known, paths = catalogue(params), []
    for source in sources:
        domains = known.source(source).training(params.plan.hold_out)
        for seed in params.plan.seeds:
            file = subset_file(source, params.plan.label_divisor, seed)
            if file is None:
                continue
            names = []
            for domain in domains:
                samples = known.open_split(domain.dataset, domain.split).samples
                what = f"labelled images of {domain.name}"
                part = nested_subset((sample.name for sample in samples), params.plan.label_divisor, seed, what)
                names += part if len(domains) == 1 else [f"{domain.dataset}/{name}" for name in part]
            paths.append(write_whole(root / file, "".join(f"{name}\n" for name in names)))
    return paths
