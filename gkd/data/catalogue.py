"""Every dataset, source and benchmark that parameters may name: the official ones and those of params.yaml.

known = gkd.datasets.catalogue(params)
data = known.open_split("cityscapes", "val")
image, label = data[0]
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gkd.data.domains import Benchmark, Domain, Source
from gkd.data.layout import Layout
from gkd.data.reading import DatasetError
from gkd.data.samples import SegmentationData
from gkd.params import ROOT


def variable(folder: str) -> str:
    """The environment variable that names the root of a dataset folder."""
    return f"GKD_{folder.upper().replace('-', '_')}_ROOT"


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Layouts, sources and benchmarks by name, and where datasets lie (`roots` of params.yaml)."""

    layouts: Mapping[str, Layout]
    sources: Mapping[str, Source]
    benchmarks: Mapping[str, Benchmark]
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

    def open_split(self, name: str, split: str, in_memory: bool = False) -> SegmentationData:
        """A split of a dataset, its files listed and paired. Raises DatasetError where something is missing."""
        layout = self.layout(name)
        samples = layout.find(self.root_of(name), split)
        return SegmentationData(tuple(samples), layout.label_space, in_memory)

    def problem(self, name: str, split: str) -> str | None:
        """None where the files of a split are there and paired, else what is wrong and how to get the dataset.

        Files are listed, not opened (of tiles the headers are read). An unknown dataset, split or key of `roots` raises
        DatasetError.
        """
        layout, root = self.layout(name), self.root_of(name)
        layout.places_of(split)
        try:
            layout.find(root, split)
        except DatasetError as error:
            about = layout.about
            get = f"Download: {about.url}\nLicence: {about.licence}\nSize: {about.size}\n" if about else ""
            return (
                f"{error}\n{get}Layout, at any depth below these folders:\n{layout.tree}\nPut it in {root}, or name its"
                f" folder in params.yaml (roots.{layout.folder}) or in the environment ({variable(layout.folder)})"
            )
        return None

    def source(self, name: str) -> Source:
        """Raises ValueError on an unknown source."""
        if name not in self.sources:
            raise ValueError(f"unknown source {name!r}, expected one of {', '.join(self.sources)}")
        return self.sources[name]

    @property
    def domains(self) -> dict[str, Domain]:
        """All domains of sources and benchmarks by name."""
        found = [domain for source in self.sources.values() for domain in source.domains]
        found += [domain for benchmark in self.benchmarks.values() for domain in benchmark.targets]
        return {domain.name: domain for domain in found}

    def benchmarks_of(self, source: str, chosen: Collection[str] = ()) -> tuple[Benchmark, ...]:
        """The benchmarks of a source: of those in `chosen`, or where that is empty, all but `on_request`.

        Raises ValueError on an unknown source.
        """
        self.source(source)
        own = (benchmark for benchmark in self.benchmarks.values() if benchmark.source == source)
        return tuple(b for b in own if (b.name in chosen if chosen else not b.on_request))

    def targets_of(self, source: str, chosen: Collection[str] = ()) -> tuple[Domain, ...]:
        """The target domains of a source over its benchmarks (see `benchmarks_of`), in their order, each once."""
        targets = (target for benchmark in self.benchmarks_of(source, chosen) for target in benchmark.targets)
        return tuple(dict.fromkeys(targets))
