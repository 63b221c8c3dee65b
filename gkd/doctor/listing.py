"""The files of a split listed and paired. `Layout.find` stops at the first fault; here the others follow it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from gkd.data.layout import Layout
from gkd.data.reading import DatasetError
from gkd.data.samples import Sample
from gkd.data.tiles import TILES, TileLayout


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
    if any((root / place.folders[0]).is_dir() for place in layout.places_of(split)):
        return True
    return isinstance(layout, TileLayout) and any(
        name.tile(file) in layout.tiles[split] for _, file in TILES.below(root) for name in layout.images
    )


def list_split(layout: Layout, root: Path, split: str) -> tuple[list[Sample], list[Problem]]:
    """The samples of a split that have all their files, and every fault of its folders and file names."""
    try:
        return layout.find(root, split), []
    except DatasetError as error:
        first = as_problem(error, root)
    place = layout.place(root, split)
    if place is not None and place.labels is not None:
        samples, faults = layout.pairs(root, place)
        return layout.part(split, samples), [as_problem(DatasetError(fault), root) for fault in faults] or [first]
    if place is None and isinstance(layout, TileLayout):
        samples, problems = _tile_by_tile(layout, root, split)
        return samples, problems or [first]
    return [], [first]


def evenly(items: Sequence, count: int) -> list:
    """Up to `count` items, evenly spread, the first and the last among them."""
    count = min(count, len(items))
    return [items[i * (len(items) - 1) // max(count - 1, 1)] for i in range(count)]


def _tile_by_tile(layout: TileLayout, root: Path, split: str) -> tuple[list[Sample], list[Problem]]:
    """What the layout finds of each tile that has any file."""
    there = {name.tile(file) for _, file in TILES.below(root) for name in (*layout.images, *layout.labels)}
    samples, problems = [], []
    for tile in filter(there.__contains__, layout.tiles[split]):
        try:
            one = replace(layout, tiles={**layout.tiles, split: (tile,)})
            samples += one.find(root, split)
        except DatasetError as error:
            problems.append(as_problem(error, root))
    return samples, list(dict.fromkeys(problems))
