"""Datasets that params.yaml declares, checked and put beside the official ones: docs/adding.md says how."""

from collections.abc import Mapping

from gkd.data.catalogue import Catalogue
from gkd.data.domains import Source
from gkd.data.labels import IGNORE, class_names, lut, space_of
from gkd.data.layout import Layout, Place, every_sample, every_tenth_held_out
from gkd.data.patterns import Pattern
from gkd.params import DeclaredDataset


def extend(official: Catalogue, datasets: Mapping[str, DeclaredDataset]) -> tuple[Catalogue, list[tuple[str, str]]]:
    """The catalogue with those datasets that are sound, and what is wrong with the others: (name, fault)."""
    layouts, sources = dict(official.layouts), dict(official.sources)
    known = Catalogue(layouts, sources, official.domains, official.roots)
    taken = {*layouts, *sources, *official.domains, *(layout.folder for layout in layouts.values())}
    faults: list[tuple[str, str]] = []
    # All layouts before any source, which may name splits of a dataset that stands below it.
    for step in ("layout", "source"):
        for name, dataset in datasets.items():
            try:
                if step == "source":
                    if name in layouts.keys() - taken and (source := _source(name, dataset, known)):
                        sources[name] = source
                elif name in taken:
                    raise ValueError("an official one has this name, choose another")
                else:
                    layouts[name] = _layout(name, dataset)
            except ValueError as error:
                faults.append((name, str(error)))
    return known, faults


def _layout(name: str, declared: DeclaredDataset) -> Layout:
    parted = "{split}" in declared.images
    if parted != bool(declared.splits) or (declared.labels and parted != ("{split}" in declared.labels)):
        raise ValueError("expected {split} in images and labels, and `splits` that say what it stands for, or neither")
    if (declared.labels is None) != (declared.table is None) or (declared.label_space and not declared.table):
        raise ValueError("expected labels and the table of their ids, or neither")
    for text in filter(None, (declared.images, declared.labels)):
        if text.startswith("/"):
            raise ValueError(f"{text!r}: expected a path below the dataset's folder, which `roots` names")
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


def _source(name: str, declared: DeclaredDataset, known: Catalogue) -> Source | None:
    """The source that a dataset is, under its own name; None where it has no labels, or no splits to train on."""
    layout = known.layouts[name]
    train, validation = declared.train or ["train"], declared.validation or "val"
    usual = not declared.train and declared.validation is None
    if usual and (not layout.label_space or not {"train", "val"} <= set(layout.splits)):
        return None
    if not layout.label_space:
        raise ValueError("train and validation are of a source: expected labels and the table of their ids")
    texts = (text if "/" in text else f"{name}/{text}" for text in (validation, *train))
    parts = [known.domain(text, layout.label_space) for text in texts]
    if len({*parts}) < len(parts):
        raise ValueError(f"expected each split once in train ({', '.join(train)}) and validation ({validation})")
    return Source(name, tuple(parts[1:]), parts[0], layout.label_space)
