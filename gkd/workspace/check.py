"""What params.yaml names and needs: whether names are known and fit together, whether data and weights are there.

`names` is for every reader of the parameters; `check` is the first stage, which also looks at files.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from gkd.data.catalogue import Catalogue, misnamed, variable
from gkd.data.declared import extend
from gkd.data.domains import PROXY, Domain
from gkd.data.reading import DatasetError, size_of
from gkd.datasets import catalogue, official
from gkd.methods import NAMES, TEACHER, option_faults, row
from gkd.params import GROUPS, DeclaredDataset, Fault, Params, at, distilling, faults_of, load
from gkd.workspace.models import encoders

ROWS = [name for name in NAMES if name != TEACHER]  # what `rows` may name
# Folders of the embedded suite, which gkd.mini draws; only its command knows how.
EMBEDDED = ("proxy", "gtav", "cityscapes", "bdd100k", "mapillary", "acdc", "potsdam", "vaihingen", "dev")


def check() -> Params:
    """The parameters, once everything that they name is there. Raises ParamsError with a line for each fault."""
    return load(names=lambda content: (*names(content), *encoders(content, _classes(content)), *data(content)))


def names(content: Mapping[str, Any]) -> Iterator[Fault]:
    """Names in params.yaml, as it is written, that no room knows or that do not fit together: for `gkd.params.load`."""
    known, faults = _catalogue(content)
    yield from faults
    sources, groups = _texts(content, "sources"), {group: _texts(content, group) for group in GROUPS}
    yield from _unknown("sources", sources, known.sources)
    yield from _groups(_texts(content, "rows"), groups)
    yield from _unknown("headline", [content.get("headline")], _texts(content, "rows"))
    for source in filter(known.sources.__contains__, sources):
        domains, wrong = _targets(known, content, source)
        yield from wrong
        found = [domain.name for domain in domains]
        if len({*found}) < len(found):
            yield Fault(f"targets.{source}", f"expected each domain once (given: {', '.join(found)})")
        if source not in at(content, "targets", dict):
            yield Fault(f"targets.{source}", "missing: the domains on which it is scored")
        if "validation" not in at(content, f"evaluate.bounds.{source}", dict):
            yield Fault(f"evaluate.bounds.{source}.validation", "missing: a size [width, height], or null for none")
        yield from _unknown(key := f"evaluate.bounds.{source}", at(content, key, dict), ["validation", *found])
    yield from _unknown(key := "domain_agnostic.source_steps", at(content, key, dict), known.sources)
    folders = dict.fromkeys([*(layout.folder for layout in known.layouts.values()), *_declared(content)])
    yield from _unknown("roots", at(content, "roots", dict), folders)
    yield from _unknown("roots", misnamed(folders), [variable(folder) for folder in folders], "in the environment")
    yield from _options(at(content, "heads", dict), _texts(content, "rows"))


def _groups(rows: list[str], groups: Mapping[str, list[str]]) -> Iterator[Fault]:
    """Rows that are unknown, in no group or in two, or in one that their file does not fit."""
    yield from _unknown("rows", rows, ROWS)
    for name in filter(ROWS.__contains__, rows):
        found = [group for group, members in groups.items() if name in members]
        method = row(name)
        fitting = "distilled" if method.distils else "guided" if method.guided else "undistilled"
        if found != [fitting]:
            where = f"it stands in {' and '.join(found)}" if found else f"it is in none of {', '.join(GROUPS)}"
            yield Fault("rows", f"{name} belongs to `{fitting}`, as its file says; {where}")
    for group, members in groups.items():
        yield from (Fault(group, f"{name} is not in `rows`: add it there") for name in members if name not in rows)


def _options(heads: Mapping[str, Any], rows: Iterable[str]) -> Iterator[Fault]:
    yield from _unknown("heads", heads, ROWS)
    for name in filter(ROWS.__contains__, heads):
        yield from (Fault(*fault) for fault in option_faults(name, at(heads, name, dict)))
    for name in filter(ROWS.__contains__, rows):
        if name not in heads:
            yield Fault(f"heads.{name}", "missing: its options, {} for none")


def data(content: Mapping[str, Any]) -> Iterator[Fault]:
    """Sources and targets whose files are not there or not as expected: what to get, or what to do without."""
    known, _ = _catalogue(content)
    hold_out = content.get("hold_out") is not False
    sources = [name for name in _texts(content, "sources") if name in known.sources]
    targets = {name: _targets(known, content, name)[0] for name in sources}  # `names` tells of the others
    needed = [("task_agnostic.settings", PROXY, "")] if "task_agnostic" in distilling(content) else []
    for name in sources:
        source = known.sources[name]
        needed += [("sources", domain, name) for domain in (*source.training(hold_out), source.validation)]
        needed += [(f"targets.{name}", domain, domain.name) for domain in targets[name]]
    lacking: dict[tuple[str, str], list[tuple[Domain, str]]] = {}  # domains of an absent folder lack the same
    for key, domain, entry in needed:
        text = known.problem(domain.dataset, domain.split)
        if text is not None:
            lacking.setdefault((key, text), []).append((domain, entry))
    for (key, text), found in lacking.items():
        domains = ", ".join(dict.fromkeys(domain.name for domain, _ in found))
        entries = ", ".join(dict.fromkeys(entry for _, entry in found))
        remedy = f"remove {entries}" if entries else "set `task_agnostic.settings: []`"
        yield Fault(key, f"{domains} not usable; {remedy} to go on without.\n{text}{miniature(known, found[0][0])}")
    absent = {domain for found in lacking.values() for domain, _ in found}
    for name in sources:
        source = known.sources[name]
        own = (*source.training(hold_out), source.validation)
        if absent.isdisjoint(own):
            there = [domain for domain in targets[name] if domain not in absent]
            yield from _images(known, name, own, there, at(content, "label_divisor", int))


def _images(
    known: Catalogue, source: str, own: tuple[Domain, ...], targets: Iterable[Domain], divisor: int
) -> Iterator[Fault]:
    """Targets that hold images of the source under another name, and training parts (`own` but for the last) with too
    few images for a fraction of the labels."""

    def images(domain: Domain) -> set[tuple]:
        return {(sample.image, sample.window) for sample in known.open_split(domain.dataset, domain.split).samples}

    seen = {domain: images(domain) for domain in own}
    everything = set().union(*seen.values())
    for domain in targets:
        if again := len(images(domain) & everything):
            yield Fault(f"targets.{source}", f"{domain.name} holds {again} images of {source}: name what it never saw")
    for domain in own[:-1]:
        if divisor > (count := len(seen[domain])):
            text = f"expected at most {count}, the images of {domain.name} (given: {divisor})"
            yield Fault("label_divisor", text)


def remarks(params: Params) -> Iterator[str]:
    """What runs, and is seldom meant: photos in data/ of which both sides are smaller than a crop of task learning."""
    known, (rows, columns) = catalogue(params), params.task_learning.crop
    for name in params.sources:
        part = known.source(name).validation
        sample, root = known.open_split(part.dataset, part.split).samples[0], known.root_of(part.dataset)
        with suppress(DatasetError):  # a damaged photo is told of where it is read
            x0, y0, x1, y1 = sample.window or (0, 0, *size_of(sample.image))
            if x1 - x0 < columns and y1 - y0 < rows and miniature(known, part):
                sizes = f"photos of {x1 - x0}x{y1 - y0} pixels, crops of {columns}x{rows}"
                yield f"{name}: {sizes}; is {root} the embedded miniature, and not the dataset?"


def miniature(known: Catalogue, domain: Domain) -> str:
    """A line that says how to get the embedded suite's own, where it has one and nobody named another folder."""
    folder = known.layout(domain.dataset).folder
    drawn = folder in EMBEDDED and folder not in known.roots and variable(folder) not in os.environ
    return "\nThe embedded suite has a miniature: `make data` draws it." if drawn else ""


def _catalogue(content: Mapping[str, Any]) -> tuple[Catalogue, list[Fault]]:
    """The catalogue with those declared datasets that are sound, and what is wrong with the others."""
    items = _declared(content).items()
    fitting = {name: DeclaredDataset(**item) for name, item in items if not any(faults_of(DeclaredDataset, item))}
    known, faults = extend(official(), fitting)
    folders = {layout.folder for layout in known.layouts.values()}
    roots = {key: root for key, root in at(content, "roots", dict).items() if isinstance(root, str) and key in folders}
    return replace(known, roots=roots), [Fault(f"datasets.{name}", fault) for name, fault in faults]


def _classes(content: Mapping[str, Any]) -> int:
    """Of the source with the most."""
    sources = _catalogue(content)[0].sources
    return max((len(sources[name].classes) for name in _texts(content, "sources") if name in sources), default=1)


def _declared(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: item for name, item in at(content, "datasets", dict).items() if isinstance(name, str)}


def _targets(known: Catalogue, content: Mapping[str, Any], source: str) -> tuple[list[Domain], list[Fault]]:
    """The sound ones, and what is wrong with the others."""
    found, faults = [], []
    for name in _texts(content, f"targets.{source}"):
        try:
            found += known.targets(source, [name])
        except ValueError as error:
            faults.append(Fault(f"targets.{source}", str(error)))
    return found, faults


def _texts(content: Mapping[str, Any], key: str) -> list[str]:
    return [value for value in at(content, key, list) if isinstance(value, str)]


def _unknown(key: str, given: Iterable[Any], known: Collection[str], where: str = "") -> Iterator[Fault]:
    others = [name for name in given if isinstance(name, str) and name not in known]
    if others:
        text = f"unknown name{'s' if len(others) > 1 else ''} {', '.join(map(repr, others))} {where}".strip()
        yield Fault(key, f"{text}; known: {', '.join(known)}")
