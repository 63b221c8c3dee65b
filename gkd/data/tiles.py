"""Datasets that are published as large tiles and read as windows of 512x512, cut as they are asked for.

The windows are those of the crops that mmsegmentation's converters write. A window reads its own rows of the file, in
any order, see `gkd.data.reading.read_window`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gkd.data.layout import Layout
from gkd.data.patterns import Pattern
from gkd.data.reading import DatasetError, Encoding, Window, size_of
from gkd.data.samples import Reader, Sample
from gkd.data.windows import window_starts

WINDOW = 512
TILES = Pattern.parse("*.tif")


def windows(width: int, height: int, size: int = WINDOW) -> list[Window]:
    """The windows of a tile, row by row: 144 for 6000x6000. Smaller tiles are one window."""
    return [
        (x, y, min(x + size, width), min(y + size, height))
        for y in window_starts(height, size, size)
        for x in window_starts(width, size, size)
    ]


class TileName(NamedTuple):
    """How files are named: `<tile>` in `file` stands for the id of the tile, such as 2_10 or 1."""

    file: str
    bands: tuple[int, int, int] = (0, 1, 2)  # that become red, green and blue
    folder: str = ".*"  # regular expression for the path of its folder below the root, case ignored

    def tile(self, name: str) -> str | None:
        """The id of the tile, given the posix path of a file below the root; None if the file is another."""
        folder, _, file = name.rpartition("/")
        pattern = re.escape(self.file).replace("<tile>", r"(\d+(?:_\d+)?)")
        match = re.fullmatch(pattern, file, re.IGNORECASE)
        return match[1] if match and re.fullmatch(self.folder, folder, re.IGNORECASE) else None


@dataclass(frozen=True, eq=False, kw_only=True)
class TileLayout(Layout):
    """A layout that falls back on tiles, at any depth below the root, where no folder with cut images is there."""

    tiles: Mapping[str, tuple[str, ...]]  # the ids of the tiles of each split
    images: tuple[TileName, ...]  # best first, as `labels`; the first that any tile has is used for all
    labels: tuple[TileName, ...]
    colours: Encoding = "colours"  # how the colours of label tiles become ids

    def find(self, root: Path, split: str) -> list[Sample]:
        """The samples of a split, sorted; of image tiles the headers are read, labels are not opened."""
        if not root.is_dir() or any(not place.missing(root) for place in self.places_of(split)):
            return super().find(root, split)
        below, wanted = sorted(name for _, name in TILES.below(root)), self.tiles[split]
        images, labels = (_pick(root, below, names, wanted) for names in (self.images, self.labels))
        if not images and not labels:
            return super().find(root, split)  # raises: neither cut images nor tiles
        sides = (images, labels, self.labels, "label"), (labels, images, self.images, "image")
        for found, other, names, kind in sides:
            alone = [tile for tile in found if tile not in other]
            if alone:
                advice = "complete the download" if other else self._advice(root, split, names)
                raise DatasetError(
                    f"{found[alone[0]]}: expected its {kind} {names[0].file.replace('<tile>', alone[0])} below {root},"
                    f" found none ({len(alone)} of {len(found)} tiles lack one); {advice}"
                )
        return [sample for tile in images for sample in self._cut(root, images[tile], labels[tile])]

    @property
    def tree(self) -> str:
        """The expected files below the root, a line each: tiles, or images cut beforehand."""
        names = (" or ".join(name.file for name in kind) for kind in (self.images, self.labels))
        return "\nand ".join(names) + f"\nor, cut beforehand:\n{super().tree}"

    def _cut(self, root: Path, image: Path, label: Path) -> list[Sample]:
        """The windows of a tile."""
        below, table = image.relative_to(root), self.places[0].table
        bands = next(name.bands for name in self.images if name.tile(image.name) is not None)
        reader = Reader(self.colours, bands)
        return [
            Sample(below.with_stem("_".join(map(str, (below.stem, *box)))).as_posix(), image, label, table, box, reader)
            for box in windows(*size_of(image))
        ]

    def _advice(self, root: Path, split: str, names: tuple[TileName, ...]) -> str:
        """What to do where no file has any of `names`: often the root is one of two folders that lie side by side."""
        above = root.parent
        near = (path.relative_to(above).as_posix() for pattern in ("*.tif", "*/*.tif") for path in above.glob(pattern))
        if any(name.tile(file) in self.tiles[split] for file in near for name in names):
            return f"did you mean {above} as the root?"
        return "complete the download"

    def _misplaced(self, root: Path, split: str) -> str:
        expected = f"{self.images[0].file} and {self.labels[0].file}, <tile> = {', '.join(self.tiles[split])}"
        return f"{super()._misplaced(root, split)} (Nor are there any tiles {expected}, at any depth.)"


def _pick(root: Path, below: list[str], names: tuple[TileName, ...], wanted: tuple[str, ...]) -> dict[str, Path]:
    """Id of each wanted tile -> file, by the first of `names` that any file has."""
    for name in names:
        found: dict[str, Path] = {}
        for file in below:
            tile = name.tile(file)
            if tile in found:
                also = f"found also {found[tile]}; remove one of them"
                raise DatasetError(f"{root / file}: expected one file a tile, {also}")
            if tile is not None:
                found[tile] = root / file
        if found:
            return {tile: found[tile] for tile in wanted if tile in found}
    return {}
