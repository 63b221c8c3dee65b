"""What a dataset is: where its files lie in the official layout, and how they become arrays.

A dataset is a `Layout`, written as data in a file of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gkd.data.pairing import Place, Sample, pair
from gkd.data.reading import DatasetError, check_sizes, read_rgb, read_train_ids


@dataclass(frozen=True)
class About:
    """What a person must know to get the dataset."""

    url: str
    licence: str
    size: str
    tree: str  # the expected folder tree


def every_sample(split: str, samples: list[Sample]) -> list[Sample]:
    """The usual case: a split is all of its folder."""
    return samples


def every_tenth_held_out(split: str, samples: list[Sample]) -> list[Sample]:
    """For datasets without official splits: all of them ("all"), every tenth ("val") or the others ("train")."""
    if split == "val":
        return samples[::10]
    if split == "train":
        return [sample for i, sample in enumerate(samples) if i % 10]
    return samples


@dataclass(frozen=True, eq=False)
class Layout:
    """A dataset in its official layout. `folder` names its root, which several datasets may share."""

    name: str
    folder: str
    label_space: str  # "" where there are no labels
    splits: Mapping[str, tuple[Place, ...]]  # where each split may lie, best first
    about: About
    skip: str = ""  # regular expression: names, without suffix, of files that are no part of the dataset
    part: Callable[[str, list[Sample]], list[Sample]] = every_sample  # which samples of its folder

    def find(self, root: Path, split: str) -> list[Sample]:
        """The samples of a split, sorted. Raises DatasetError where folders, images or labels are missing."""
        self.check_split(split)
        if not root.is_dir():
            raise DatasetError(f"{root}: expected the root folder of {self.name}, found no such folder")
        present = [place for place in self.splits[split] if not place.missing(root)]
        if not present:
            raise DatasetError(self._misplaced(root, split))
        # If no place has labels, the first one is the one to complain about.
        place = next((place for place in present if place.has_labels(root)), present[0])
        samples = self.part(split, pair(root, place, self.skip))
        if not samples:
            raise DatasetError(
                f"{root / place.images}: expected images of the split {split!r} of {self.name}, found only"
                " images of its other splits, the split is empty; complete the download"
            )
        return samples

    def check_split(self, split: str) -> None:
        """Raises DatasetError unless `split` is one of the splits."""
        if split not in self.splits:
            raise DatasetError(f"{self.name} has no split {split!r}, expected one of {', '.join(self.splits)}")

    def read_image(self, path: Path) -> np.ndarray:
        """uint8 RGB (H, W, 3)."""
        return read_rgb(path)

    def read_label(self, path: Path) -> np.ndarray:
        """uint8 train ids (H, W), 255 = ignored."""
        places = [place for places in self.splits.values() for place in places if place.labels is not None]
        for place in places:
            if path.name.lower().endswith(place.label_suffix.lower()):
                return read_train_ids(path, place.table)
        endings = " or ".join(sorted({"*" + place.label_suffix for place in places})) or "no labels at all"
        raise DatasetError(f"{path}: expected a label of {self.name}, {endings}; check the name")

    def read(self, sample: Sample) -> tuple[np.ndarray, np.ndarray | None]:
        """Image and label (None without labels). Raises DatasetError where their files differ in size."""
        if sample.label is None:
            return self.read_image(sample.image), None
        check_sizes(sample.image, sample.label)
        return self.read_image(sample.image), self.read_label(sample.label)

    def _misplaced(self, root: Path, split: str) -> str:
        """What to say when no place is under `root`: often it is one level too high or too low."""
        places = self.splits[split]
        missing = min((place.missing(root) for place in places), key=len)
        text = f"{root}: expected {' and '.join(missing)} of {self.name}, found none"
        for folder in (*root.parents[:2], *sorted(path for path in root.iterdir() if path.is_dir())):
            if any(not place.missing(folder) for place in places):
                return f"{text}; did you mean {folder} as the root?"
        return f"{text}; complete the download or name another root"
