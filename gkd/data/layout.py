"""What a dataset is: where its files lie in the official layout, which belong together, how they become arrays.

A dataset is a `Layout`, written as data in a file of its own in gkd/datasets/, or declared in params.yaml.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from gkd.data.labels import space_of
from gkd.data.patterns import Pattern
from gkd.data.reading import DatasetError
from gkd.data.samples import Reader, Sample


class About(NamedTuple):
    """What a person must know to get the dataset."""

    url: str
    licence: str
    size: str


class Place(NamedTuple):
    """One way in which a split may lie below the root; "{split}" stands for its folder. See `Pattern`."""

    images: str
    labels: str | None = None  # None: no labels
    table: str = ""  # label table that maps the stored ids, see gkd.data.labels

    def of(self, split: str) -> Place:
        """The place with the folder of a split filled in."""
        images, labels = (text and text.replace("{split}", split) for text in self[:2])
        return Place(images, labels, self.table)

    @property
    def folders(self) -> list[str]:
        """Of the images and the labels, below the root."""
        return [Pattern.parse(text).folder for text in self[:2] if text is not None]

    def missing(self, root: Path) -> list[str]:
        """The folders that are not there."""
        return [folder for folder in self.folders if not (root / folder).is_dir()]


def every_sample(split: str, samples: list[Sample]) -> list[Sample]:
    """The usual case: a split is all of its folder."""
    return samples


def every_tenth_held_out(split: str, samples: list[Sample]) -> list[Sample]:
    """For datasets without official splits: all of them ("all"), every tenth ("val") or the others ("train")."""
    if split == "val":
        return samples[::10]
    return samples if split == "all" else [sample for i, sample in enumerate(samples) if i % 10]


@dataclass(frozen=True, eq=False, kw_only=True)
class Layout:
    """A dataset in its official layout."""

    name: str
    folder: str = ""  # names its root, which several datasets may share; "" = its name
    places: tuple[Place, ...]  # where each split may lie, best first
    # Split -> its folder, which "{split}" stands for in the places; by default all of them lie in one.
    splits: Mapping[str, str] = field(default_factory=lambda: dict.fromkeys(("all", "train", "val"), ""))
    label_space: str = ""  # "": that of the label tables, or none where there are no labels
    about: About | None = None  # None: a dataset of the user's own
    published: Mapping[str, int] = field(default_factory=dict)  # split -> images that the published dataset holds
    skip: str = ""  # regular expression: names, without suffix, of files that are no part of the dataset
    part: Callable[[str, list[Sample]], list[Sample]] = every_sample  # which samples of its folder a split has
    reader: Reader = Reader()  # how its files become arrays

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", self.folder or self.name)
        object.__setattr__(self, "label_space", self.label_space or space_of(self.places[0].table))

    def find(self, root: Path, split: str) -> list[Sample]:
        """The samples of a split, sorted. Raises DatasetError where folders, images or labels are missing."""
        self.places_of(split)  # an unknown split is told before an absent root
        if not root.is_dir():
            raise DatasetError(f"{root}: expected the root folder of {self.name}, found no such folder")
        place = self.place(root, split)
        if place is None:
            raise DatasetError(self._misplaced(root, split))
        samples, faults = self.pairs(root, place)
        if faults:
            raise DatasetError(faults[0])
        own = self.part(split, samples)
        if not own:
            names, found = Path(place.images).name, "only images of its other splits" if samples else "none"
            raise DatasetError(
                f"{root / place.folders[0]}: expected images {names} of the split {split!r} of {self.name}, found"
                f" {found}, the split is empty; complete the download"
            )
        return own

    def places_of(self, split: str) -> tuple[Place, ...]:
        """Where a split may lie, best first. Raises DatasetError unless `split` is one of the splits."""
        if split not in self.splits:
            raise DatasetError(f"{self.name} has no split {split!r}, expected one of {', '.join(self.splits)}")
        return tuple(place.of(self.splits[split]) for place in self.places)

    def place(self, root: Path, split: str) -> Place | None:
        """Where a split lies: the first place that is there with labels, else the first that is there."""
        present = [place for place in self.places_of(split) if not place.missing(root)]
        labelled = (place for place in present if place.labels is None or any(Pattern.parse(place.labels).below(root)))
        return next(labelled, next(iter(present), None))

    def pairs(self, root: Path, place: Place) -> tuple[list[Sample], list[str]]:
        """Of what lies in a place: the samples that have all their files, sorted by name, and every fault.

        A fault is "<path>: expected ...": a second file of one name, an image without label, a label without image.
        """

        def sample(image: Path, label: Path | None) -> Sample:
            return Sample(image.relative_to(root).as_posix(), image, label, place.table, reader=self.reader)

        pattern = Pattern.parse(place.images)
        folder = root / pattern.folder
        if place.labels is None:  # nothing to pair: a.jpg and a.png are two images
            return [sample(folder / name, None) for name in sorted(name for _, name in pattern.below(root))], []
        images, faults = pattern.by_key(root, self.skip)
        masks = Pattern.parse(place.labels)
        labels, more = masks.by_key(root, self.skip)
        faults += more
        both = {*images.values()} & {*labels.values()}  # where they lie in one folder, the shorter pattern fits all
        shorter = images if pattern.length < masks.length else labels
        for key in [key for key, path in shorter.items() if path in both]:
            del shorter[key]
        its_label = f"its label {Path(place.labels).name} in {root / place.folders[1]}"
        sides = (images, labels, its_label), (labels, images, f"the image of this label in {folder}")
        for files, others, what in sides:
            alone = [path for key, path in files.items() if key not in others]
            many = f"({len(alone)} of {len(files)} lack one); complete the download"
            faults += [f"{path}: expected {what}, found none {many}" for path in alone]
        return [sample(path, labels[key]) for key, path in images.items() if key in labels], faults

    @property
    def tree(self) -> str:
        """The expected files below the root, a line each; folders in between do not matter."""
        folders = ",".join(dict.fromkeys(self.splits.values()))
        lines = [" and ".join(filter(None, place[:2])) for place in self.places]
        return "\nor ".join(lines).replace("{split}", f"{{{folders}}}" if "," in folders else folders)

    def _misplaced(self, root: Path, split: str) -> str:
        """What to say when no place is under `root`: often it is one level too high or too low."""
        places = self.places_of(split)
        missing = min((place.missing(root) for place in places), key=len)
        text = f"{root}: expected {' and '.join(missing)} of {self.name}, found none"
        for folder in (*root.parents[:2], *sorted(path for path in root.iterdir() if path.is_dir())):
            if any(not place.missing(folder) for place in places):
                return f"{text}; did you mean {folder} as the root?"
        return f"{text}; complete the download or name another root"
