"""The label subsets that the members of a plan read: which files there are, and writing them.

Of a source that has several datasets, each gives that fraction, and the same images as where it is a source alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
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
    divisor = params.plan.label_divisor
    for source, seed in product(sources, params.plan.seeds) if divisor > 1 else ():
        domains, names = known.source(source).training(params.plan.hold_out), []
        for domain in domains:
            samples = known.open_split(domain.dataset, domain.split).samples
            what = f"labelled images of {domain.name}"
            part = nested_subset((sample.name for sample in samples), divisor, seed, what)
            names += part if len(domains) == 1 else [f"{domain.dataset}/{name}" for name in part]
        file = root / str(subset_file(source, divisor, seed))
        paths.append(write_whole(file, "".join(f"{name}\n" for name in names)))
    return paths
