"""Every dataset, source and domain that parameters may name: the official ones and those of params.yaml.

known = gkd.datasets.catalogue(params)
data = known.open_split("cityscapes", "val")
image, label = data[0]
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gkd.data.domains import Domain, Source
from gkd.data.layout import Layout
from gkd.data.reading import DatasetError
from gkd.data.samples import SegmentationData
from gkd.params import ROOT


def variable(folder: str) -> str:
    """The environment variable that names the root of a dataset folder."""
    return f"GKD_{folder.upper()}_ROOT"


def misnamed(folders: Iterable[str]) -> list[str]:
    """Environment variables that look as if they named a root, but of none of the dataset folders."""
    known = {variable(folder) for folder in folders}
    return [key for key in os.environ if re.fullmatch(r"GKD_\w+_ROOT", key) and key not in known]


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Layouts, sources and named domains, and where datasets lie (`roots` of params.yaml)."""

    layouts: Mapping[str, Layout]
    sources: Mapping[str, Source]
    domains: Mapping[str, Domain]
    roots: Mapping[str, str] = field(default_factory=dict)

    def layout(self, name: str) -> Layout:
        """Raises DatasetError on an unknown dataset."""
        if name not in self.layouts:
            raise DatasetError(f"unknown dataset {name!r}, expected one of {', '.join(self.layouts)}")
        return self.layouts[name]

    def root_of(self, name: str) -> Path:
        """The root folder of a dataset: its environment variable, else roots[folder], else data/<folder>.

        Relative paths count from the repository root, `~` is expanded. Whether the folder exists is not checked.
        Raises DatasetError on an unknown dataset and on a key of `roots` that is no dataset folder.
        """
        folder = self.layout(name).folder
        folders = sorted({layout.folder for layout in self.layouts.values()})
        for key in self.roots:
            if key not in folders:
                raise DatasetError(f"roots.{key}: no dataset has this folder, expected one of {', '.join(folders)}")
        root = os.environ.get(variable(folder)) or self.roots.get(folder) or f"data/{folder}"
        return ROOT / Path(root).expanduser()

    def open_split(self, name: str, split: str) -> SegmentationData:
        """A split of a dataset, its files listed and paired. Raises DatasetError where something is missing."""
        layout = self.layout(name)
        samples = layout.find(self.root_of(name), split)
        return SegmentationData(tuple(samples), layout.label_space)

    def problem(self, name: str, split: str) -> str | None:
        """None where the files of a split are there and paired, else what is wrong and how to get the dataset.

        Files are listed, not opened (of image tiles the headers are read). An unknown dataset, split or key of `roots`
        raises DatasetError.
        """
        layout, root = self.layout(name), self.root_of(name)
        layout.places_of(split)
        try:
            layout.find(root, split)
        except DatasetError as error:
            about = layout.about
            get = f"Download: {about.url}\nLicence: {about.licence}\nSize: {about.size}\n" if about else ""
            return (
                f"{error}\n{get}Layout, at any depth below these folders:\n{layout.tree}\nName its folder (this was "
                f"{root}) in params.yaml (roots.{layout.folder}) or in the environment ({variable(layout.folder)})"
            )
        return None

    def source(self, name: str) -> Source:
        """Raises ValueError on an unknown source."""
        if name not in self.sources:
            raise ValueError(f"unknown source {name!r}, expected one of {', '.join(self.sources)}")
        return self.sources[name]

    def domain(self, text: str, label_space: str | None = None) -> Domain:
        """A domain by its name in tables or by "dataset/split", which makes its name where it has no other.

        Raises ValueError where it is not known, or has not the labels of `label_space`.
        """
        dataset, slash, split = text.partition("/")
        if slash:
            self.layout(dataset).places_of(split)
            same = (domain for domain in self.domains.values() if domain[1:] == (dataset, split))
            domain = next(same, Domain(f"{dataset}_{split}", dataset, split))
        elif text in self.domains:
            domain = self.domains[text]
        elif found := [f"{d}/{s}" for d, layout in self.layouts.items() for s in layout.splits if f"{d}_{s}" == text]:
            return self.domain(found[0], label_space)
        else:
            raise ValueError(f"{text!r}: expected DATASET/SPLIT, or one of {', '.join(self.domains)}")
        space = self.layout(domain.dataset).label_space or "no labels"
        if label_space not in (None, space):
            raise ValueError(f"{text}: expected the classes of {label_space}, found {space}")
        return domain

    def targets(self, source: str, names: Iterable[str]) -> tuple[Domain, ...]:
        """The domains that `targets.<source>` of params.yaml names. Raises ValueError as `domain` does, where there are
        none, where one is a part of the source, and where two have one name."""
        own, names = self.source(source), list(names)
        if not names:
            raise ValueError(f"targets.{source} of params.yaml names no domain to measure on")
        found = tuple(self.domain(name, own.label_space) for name in names)
        for seen in set(found) & set(own.domains):
            raise ValueError(f"{seen.name} is a part of the source {source}: name what it never saw")
        if len({domain.name for domain in found}) < len(found):
            raise ValueError(f"{', '.join(names)} of {source}: expected each domain once")
        return found
