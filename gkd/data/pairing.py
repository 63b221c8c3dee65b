"""Which image belongs to which label: files that two patterns name, paired by what their stars stand for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from gkd.data.reading import Window


class Reader(Protocol):
    """What pairing knows of a `gkd.data.layout.Layout`."""

    name: str
    skip: str

    def read(self, sample: Sample) -> tuple[np.ndarray, np.ndarray | None]: ...


class Sample(NamedTuple):
    """One image and its label, or a window of both.

    `name` is unique: the posix path of the image relative to the root of the dataset, for a window that of the file
    which would hold it alone.
    """

    name: str
    image: Path
    label: Path | None
    layout: Reader  # whose dataset it is, and which reads it
    table: str = ""  # label table that maps the stored ids
    window: Window | None = None  # None: all of the image


class Pattern(NamedTuple):
    """Files of a folder, at any depth: "rgb/rgb_*.png" -> those below rgb/ whose names begin and end so.

    The case of endings is ignored; "*.{jpg,png}" names several of them. See `Pattern.parse`.
    """

    folder: str
    start: str
    ends: tuple[str, ...]

    @staticmethod
    @lru_cache
    def parse(text: str) -> Pattern:
        """Raises ValueError unless `text` is folder/start*end, or folder/**/start*end, which means the same."""
        folder, _, name = text.removeprefix("./").replace("/**/", "/").rpartition("/")
        match = re.fullmatch(r"([^*{}]*)\*([^*{}]*)(?:\{([^*{}]+)\})?", name)
        start, end, several = match.groups() if match else ("", "", "")
        ends = tuple(end + part for part in (several or "").split(","))
        if not all("." in end for end in ends) or re.search(r"[*{}]", folder):
            raise ValueError(f"{text!r}: expected a folder and names with one star, such as images/*.png")
        return Pattern(folder or ".", start, ends)

    def below(self, root: Path) -> Iterator[tuple[str, str]]:
        """(key, name) of the files: name is the posix path below the folder, key is what the star stands for.

        Hidden files and folders are left out (macOS leaves "._x.png" behind).
        """
        folder = root / self.folder
        for where, folders, names in os.walk(folder, followlinks=True):
            folders[:] = [name for name in folders if not name.startswith(".")]
            prefix = Path(where).relative_to(folder)
            for name in names:
                end = next((end for end in self.ends if name.lower().endswith(end.lower())), None)
                if end is not None and name.startswith(self.start) and not name.startswith("."):
                    key = name[len(self.start) : len(name) - len(end)]
                    yield (prefix / key).as_posix(), (prefix / name).as_posix()


class Place(NamedTuple):
    """One way in which a split may lie below the root; "{split}" stands for its folder. See `Pattern`."""

    images: str
    labels: str | None = None  # None: no labels
    table: str = ""  # label table that maps the stored ids, see gkd.data.labels

    def of(self, split: str) -> Place:
        """The place with the folder of a split filled in."""
        labels = None if self.labels is None else self.labels.replace("{split}", split)
        return Place(self.images.replace("{split}", split), labels, self.table)

    @property
    def folders(self) -> list[str]:
        """Of the images and the labels, below the root."""
        return [Pattern.parse(text).folder for text in self[:2] if text is not None]

    def missing(self, root: Path) -> list[str]:
        """The folders that are not there."""
        return [folder for folder in self.folders if not (root / folder).is_dir()]

    def has_labels(self, root: Path) -> bool:
        """Whether there is what its label folder is for: any label file, or no need of one."""
        return self.labels is None or any(Pattern.parse(self.labels).below(root))


def list_pairs(root: Path, place: Place, layout: Reader) -> tuple[list[Sample], list[str]]:
    """Of what lies in a place: the samples that have all their files, sorted by name, and every fault.

    A fault is "<path>: expected ...": a second file of one name, an image without label, a label without image. Names
    (without suffix) that match the layout's `skip` are left out.
    """

    def sample(image: Path, label: Path | None) -> Sample:
        return Sample(image.relative_to(root).as_posix(), image, label, layout, place.table)

    pattern = Pattern.parse(place.images)
    folder = root / pattern.folder
    if place.labels is None:  # nothing to pair: a.jpg and a.png are two images
        return [sample(folder / name, None) for name in sorted(name for _, name in pattern.below(root))], []
    images, faults = _by_key(root, pattern, layout.skip)
    masks, more = _by_key(root, Pattern.parse(place.labels), layout.skip)
    faults += more
    its_label = f"its label {Path(place.labels).name} in {root / Pattern.parse(place.labels).folder}"
    its_image = f"the image of this label in {folder}"
    for files, others, what, other in ((images, masks, its_label, "labels"), (masks, images, its_image, "images")):
        alone = [path for key, path in files.items() if key not in others]
        many = f"({len(alone)} of {len(files)} lack one); complete the {other}"
        faults += [f"{path}: expected {what}, found none {many}" for path in alone]
    return [sample(path, masks[key]) for key, path in images.items() if key in masks], faults


def _by_key(root: Path, pattern: Pattern, skip: str) -> tuple[dict[str, Path], list[str]]:
    """Key -> file, in the order of the keys, and a fault for each further file of a key."""
    folder = root / pattern.folder
    found: dict[str, Path] = {}
    faults = []
    for key, name in sorted(pattern.below(root)):
        if skip and re.fullmatch(skip, key):
            continue
        if key in found:
            other = found[key].relative_to(folder).as_posix()
            faults.append(f"{folder / name}: expected one file a name, found also {other}; remove one of them")
        else:
            found[key] = folder / name
    return found, faults
