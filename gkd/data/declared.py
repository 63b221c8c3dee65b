"""Datasets and benchmarks that params.yaml declares, checked and put beside the official ones.

datasets:
  harbour:                              # in data/harbour, roots.harbour or GKD_HARBOUR_ROOT
    images: images/{split}/*.jpg        # at any depth below the folder; the star pairs images and labels
    labels: labels/{split}/*.png
    table: tables/harbour.csv           # or a table of gkd/data/tables/, such as cityscapes_train_ids
    splits: [train, val, night]
benchmarks:
  harbour: {train: harbour/train, validation: harbour/val, targets: [harbour/night]}      # a source and its targets
  gtav-harbour: {source: gtav, targets: [harbour/night, cityscapes]}                      # further targets of a source

Without "{split}" in `images` the splits are `all`, `val` (every tenth image) and `train` (the others). `splits` may
give each its folder (`{day: train/day}`); `label_space: cityscapes` says that a table of one's own gives its train ids.
"""

from __future__ import annotations

from collections.abc import Collection

from gkd.data.catalogue import Catalogue
from gkd.data.domains import Benchmark, Domain, Source
from gkd.data.labels import IGNORE, class_names, lut, space_of
from gkd.data.layout import Layout, Place, every_sample, every_tenth_held_out
from gkd.data.patterns import Pattern
from gkd.params import DeclaredBenchmark, DeclaredDataset, Params, ParamsError


def extend(official: Catalogue, params: Params) -> Catalogue:
    """The catalogue with what `params` declare. Raises ParamsError that lists every fault with its key."""
    layouts, sources, benchmarks = dict(official.layouts), dict(official.sources), dict(official.benchmarks)
    known = Catalogue(layouts, sources, benchmarks, official.roots)
    faults = []
    for name, dataset in params.datasets.items():
        try:
            layouts[_free(name, official.layouts)] = _layout(name, dataset)
        except ValueError as error:
            faults.append(f"params.yaml: datasets.{name}: {error}")
    for name, benchmark in params.benchmarks.items():
        try:
            _free(name, {*official.benchmarks, *(() if benchmark.source else official.sources)})
            source = known.source(benchmark.source) if benchmark.source else _source(name, benchmark, known)
            targets = tuple(_domain(text, known, source.label_space) for text in benchmark.targets)
            for seen in set(targets) & set(source.domains):
                raise ValueError(f"target {seen.name} is a part of the source {source.name}: name what it never saw")
            sources[source.name], benchmarks[name] = source, Benchmark(name, source.name, targets)
        except ValueError as error:
            faults.append(f"params.yaml: benchmarks.{name}: {error}")
    if faults:
        raise ParamsError(*faults)
    return known


def _free(name: str, official: Collection[str]) -> str:
    if name in official:
        raise ValueError("an official one has this name, choose another")
    return name


def _layout(name: str, declared: DeclaredDataset) -> Layout:
    parted = "{split}" in declared.images
    if parted != bool(declared.splits) or (declared.labels and parted != ("{split}" in declared.labels)):
        raise ValueError("expected {split} in images and labels, and `splits` that say what it stands for, or neither")
    if (declared.labels is None) != (declared.table is None):
        raise ValueError("expected labels and the table of their ids, or neither")
    for text in filter(None, (declared.images, declared.labels)):
        Pattern.parse(text.replace("{split}", "x"))
    space = ""
    if declared.table is not None:
        space = declared.label_space or space_of(declared.table)
        highest, count = max({*lut(declared.table).tolist()} - {IGNORE}), len(class_names(space))
        if highest >= count:
            raise ValueError(f"{declared.table} has the train id {highest}, label space {space} only {count} classes")
    splits = declared.splits if isinstance(declared.splits, dict) else {split: split for split in declared.splits}
    return Layout(
        name=name,
        places=(Place(declared.images, declared.labels, declared.table or ""),),
        label_space=space,
        part=every_sample if parted else every_tenth_held_out,
        **({"splits": splits} if parted else {}),
    )


def _source(name: str, declared: DeclaredBenchmark, known: Catalogue) -> Source:
    """The source that a benchmark brings, under its own name."""
    validation = _domain(declared.validation, known)
    space = known.layout(validation.dataset).label_space
    train = tuple(_domain(text, known, space) for text in declared.train)
    if validation in train:
        raise ValueError(f"{declared.validation} is for training and for validation: name two splits")
    return Source(name, train, validation, space)


def _domain(text: str, known: Catalogue, label_space: str | None = None) -> Domain:
    """A domain by "dataset/split" or by its name in tables. Raises ValueError unless it has labels of the space."""
    domains = known.domains
    dataset, slash, split = text.partition("/")
    if slash:
        known.layout(dataset).places_of(split)
        same = (domain for domain in domains.values() if domain[1:] == (dataset, split))
        domain = next(same, Domain(f"{dataset}-{split}", dataset, split))
    elif text in domains:
        domain = domains[text]
    else:
        raise ValueError(f"{text!r}: expected DATASET/SPLIT, or one of {', '.join(domains)}")
    space = known.layout(domain.dataset).label_space or "no labels"
    if space == "no labels" or label_space not in (None, space):
        raise ValueError(f"{text}: expected the classes of {label_space or 'a label table'}, found {space}")
    return domain
