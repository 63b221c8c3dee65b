"""The files of a split listed and paired. `Layout.find` stops at the first fault; here the others follow it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from gkd.datasets import DatasetError, Sample
from gkd.datasets.base import Layout
from gkd.datasets.pairing import Place, _files
from gkd.datasets.tiles import TileLayout


class Problem(NamedTuple):
    """What is wrong with a file or folder."""

    path: str
    what: str  # what was expected and found, and what to do


def as_problem(error: Exception, path: Path) -> Problem:
    """Errors of gkd.datasets name a path; of any other, met with `path`, say which kind it is."""
    where, found, rest = str(error).partition(": expected ")
    if isinstance(error, DatasetError) and found:
        return Problem(where, f"expected {rest}")
    return Problem(str(path), f"cannot be read ({type(error).__name__}: {error})")


def is_there(layout: Layout, root: Path, split: str) -> bool:
    """Whether a split was begun: one of its image folders, or an image tile, exists."""
    if any((root / place.images).is_dir() for place in layout.splits[split]):
        return True
    return isinstance(layout, TileLayout) and any(
        name.tile(file) in layout.tiles[split] for _, file in _files(root, (".tif",)) for name in layout.images
    )


def list_split(layout: Layout, root: Path, split: str) -> tuple[list[Sample], list[Problem]]:
    """The samples of a split that have all their files, and every fault of its folders and file names."""
    try:
        return layout.find(root, split), []
    except DatasetError as error:
        first = as_problem(error, root)
    present = [place for place in layout.splits[split] if not place.missing(root)]
    place = next((place for place in present if place.has_labels(root)), present[0] if present else None)
    if place is not None and place.labels is not None:
        samples, problems = _pair_all(root, place, layout.skip)
        return layout.part(split, samples), problems or [first]
    if place is None and isinstance(layout, TileLayout):
        samples, problems = _tile_by_tile(layout, root, split)
        return samples, problems or [first]
    return [], [first]


def evenly(items: Sequence, count: int) -> list:
    """Up to `count` items, evenly spread, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    return [items[i * (len(items) - 1) // max(count - 1, 1)] for i in range(count)]


def _pair_all(root: Path, place: Place, skip: str) -> tuple[list[Sample], list[Problem]]:
    """As `gkd.datasets.pairing.pair`, but with a problem for each file that has no partner."""
    image_folder, label_folder = root / place.images, root / str(place.labels)
    images, problems = _by_key(image_folder, place.image_suffixes, place.image_prefix, skip)
    labels, more = _by_key(label_folder, (place.label_suffix,), place.label_prefix, skip)
    problems += more
    label = f"{place.label_prefix}*{place.label_suffix}"
    missing = f"expected its label {label} in {label_folder}, found none; complete the labels"
    problems += [Problem(str(path), missing) for key, path in images.items() if key not in labels]
    orphan = f"expected the image of this label in {image_folder}, found none; complete the images"
    problems += [Problem(str(path), orphan) for key, path in labels.items() if key not in images]
    paired = [(path, labels[key]) for key, path in images.items() if key in labels]
    return [Sample(image.relative_to(root).as_posix(), image, label) for image, label in paired], problems


def _by_key(folder: Path, suffixes: tuple[str, ...], prefix: str, skip: str) -> tuple[dict[str, Path], list[Problem]]:
    found: dict[str, Path] = {}
    problems = []
    for key, name in sorted(_files(folder, suffixes, prefix)):
        if skip and re.fullmatch(skip, key):
            continue
        if key in found:
            what = f"expected one file a name, found also {found[key].name}; remove one of them"
            problems.append(Problem(str(folder / name), what))
        else:
            found[key] = folder / name
    return found, problems


def _tile_by_tile(layout: TileLayout, root: Path, split: str) -> tuple[list[Sample], list[Problem]]:
    """What the layout finds of each tile that has any file."""
    below = [file for _, file in _files(root, (".tif",))]
    there = {name.tile(file) for file in below for name in (*layout.images, *layout.labels)}
    samples, problems = [], []
    for tile in layout.tiles[split]:
        if tile in there:
            try:
                samples += replace(layout, tiles={**layout.tiles, split: (tile,)}).find(root, split)
            except DatasetError as error:
                problems.append(as_problem(error, root))
    return samples, list(dict.fromkeys(problems))
