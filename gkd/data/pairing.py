"""Which image belongs to which label: files under two folders, paired by their names."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gkd.data.reading import DatasetError


class Sample(NamedTuple):
    """One image and its label, or a window of both.

    `name` is unique: the posix path of the image relative to the root of the dataset, for a window that of the file
    which would hold it alone.
    """

    name: str
    image: Path
    label: Path | None
    window: tuple[int, int, int, int] | None = None  # x0, y0, x1, y1 in pixels; None: all of the image


class Place(NamedTuple):
    """One way in which a split may lie under the root. Names must agree once prefixes and suffixes are cut off."""

    images: str
    image_suffixes: tuple[str, ...]
    labels: str | None = None  # None: the split has no labels
    label_suffix: str = ""
    table: str = ""  # label table that maps the stored ids, see gkd.data.labels
    image_prefix: str = ""
    label_prefix: str = ""

    def missing(self, root: Path) -> list[str]:
        """The folders that are not there."""
        folders = (self.images, self.labels)
        return [name for name in folders if name is not None and not os.path.isdir(root / name)]

    def has_labels(self, root: Path) -> bool:
        """Whether there is what its label folder is for: any label file, or no need of one."""
        return self.labels is None or any(files_below(root / self.labels, (self.label_suffix,), self.label_prefix))


class Pairs(NamedTuple):
    """What lies in a place: the samples that have all their files, sorted by name, and all that is wrong.

    faults: of each file "<path>: expected ...": two files of one name, an image without label, a label without image.
    """

    samples: list[Sample]
    faults: list[str]


def list_pairs(root: Path, place: Place, skip: str = "") -> Pairs:
    """Everything in a place; names (without suffix) that match the regular expression `skip` are left out."""
    folder = root / place.images
    if place.labels is None:  # nothing to pair: a.jpg and a.png are two images
        names = sorted(name for _, name in files_below(folder, place.image_suffixes, place.image_prefix))
        return Pairs([_sample(root, folder / name, None) for name in names], [])
    label_folder = root / place.labels
    images, faults = _by_key(folder, place.image_suffixes, place.image_prefix, skip)
    masks, more = _by_key(label_folder, (place.label_suffix,), place.label_prefix, skip)
    unlabelled = [path for key, path in images.items() if key not in masks]
    orphans = [path for key, path in masks.items() if key not in images]
    faults += more
    faults += [
        f"{path}: expected its label {place.label_prefix}*{place.label_suffix} in {label_folder}, found none"
        f" ({len(unlabelled)} of {len(images)} images lack one); complete the labels"
        for path in unlabelled
    ]
    faults += [
        f"{path}: expected the image of this label in {folder}, found none"
        f" ({len(orphans)} of {len(masks)} labels lack one); complete the images"
        for path in orphans
    ]
    return Pairs([_sample(root, path, masks[key]) for key, path in images.items() if key in masks], faults)


def pair(root: Path, place: Place, skip: str = "") -> list[Sample]:
    """The samples of a place, as `list_pairs`.

    Raises DatasetError if there are no images, an image has no label, a label has no image, or names collide.
    """
    samples, faults = list_pairs(root, place, skip)
    if faults:
        raise DatasetError(faults[0])
    if not samples:
        endings = " or ".join(f"{place.image_prefix}*{suffix}" for suffix in place.image_suffixes)
        raise DatasetError(
            f"{root / place.images}: expected images {endings}, found none, the split is empty; complete the download"
        )
    return samples


def _sample(root: Path, image: Path, label: Path | None) -> Sample:
    return Sample(image.relative_to(root).as_posix(), image, label)


def files_below(folder: Path, suffixes: tuple[str, ...], start: str = "") -> Iterator[tuple[str, str]]:
    """(key, name) of the files at any depth that begin with `start` and end with a suffix (case of it ignored).

    name is the posix path relative to `folder`, key is name without beginning and suffix. Hidden files are left out.
    """
    for where, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        prefix = Path(where).relative_to(folder)
        for name in names:
            suffix = next((suffix for suffix in suffixes if name.lower().endswith(suffix.lower())), None)
            if suffix is None or name.startswith(".") or not name.startswith(start):  # macOS leaves "._x.png" behind
                continue
            key = name[len(start) : len(name) - len(suffix)]
            yield (prefix / key).as_posix(), (prefix / name).as_posix()


def _by_key(folder: Path, suffixes: tuple[str, ...], start: str, skip: str) -> tuple[dict[str, Path], list[str]]:
    """Key -> file, in the order of the keys, and a fault for each further file of a key."""
    found: dict[str, Path] = {}
    faults = []
    for key, name in sorted(files_below(folder, suffixes, start)):
        if skip and re.fullmatch(skip, key):
            continue
        if key in found:
            other = found[key].relative_to(folder).as_posix()
            faults.append(f"{folder / name}: expected one file a name, found also {other}; remove one of them")
        else:
            found[key] = folder / name
    return found, faults
