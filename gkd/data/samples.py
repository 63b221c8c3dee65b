"""Images with their labels: one as a `Sample`, a split or several as a map-style dataset for a `DataLoader`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from gkd.data.reading import DatasetError, Encoding, Window, check_sizes, read_label, read_photo, read_window
from gkd.data.tars import read_image

Arrays = tuple[np.ndarray, np.ndarray | None]


class Reader(NamedTuple):
    """How files become arrays."""

    encoding: Encoding = "ids"  # of labels, see `gkd.data.reading.read_label`
    bands: tuple[int, int, int] = (0, 1, 2)  # of a tile, that become red, green and blue
    half: bool = False  # at half size, as Mapillary in the published evaluation


class Sample(NamedTuple):
    """One image and its label, or a window of both.

    `name` is unique: the posix path of the image relative to the root of the dataset, for a window that of the file
    which would hold it alone.
    """

    name: str
    image: Path  # a member of a tar continues the tar's path: 000.tar/n01/a.jpg
    label: Path | None = None
    table: str = ""  # label table that maps the stored ids, see gkd.data.labels
    window: Window | None = None  # None: all of the image
    reader: Reader = Reader()


def read_image_of(sample: Sample) -> np.ndarray:
    """uint8 RGB (H, W, 3). Raises DatasetError as gkd.data.reading does."""
    if sample.window is not None:
        return read_window(sample.image, sample.window, sample.reader.bands)
    photo = read_image(sample.image)
    if not sample.reader.half:
        return photo
    copy = BytesIO()  # the published copies were JPEGs
    _half(photo, Image.Resampling.BICUBIC).save(copy, "JPEG", quality=75)
    return read_photo(sample.image, copy)


def read_label_of(sample: Sample) -> np.ndarray:
    """uint8 train ids (H, W), 255 = ignored. Raises DatasetError as gkd.data.reading does."""
    label = read_label(sample.label, sample.table, sample.reader.encoding, sample.window)
    return np.array(_half(label, Image.Resampling.NEAREST)) if sample.reader.half else label


def read(sample: Sample) -> Arrays:
    """Image and label (None without labels). Raises DatasetError where their files differ in size."""
    if sample.label is None:
        return read_image_of(sample), None
    compare = check_sizes if sample.window is None else _check_tiles
    compare(sample.image, sample.label)
    return read_image_of(sample), read_label_of(sample)


_check_tiles = cache(check_sizes)  # once for all windows of a tile


def _half(array: np.ndarray, resample: Image.Resampling) -> Image.Image:
    image = Image.fromarray(array)
    return image.resize((image.width // 2, image.height // 2), resample)


@dataclass(frozen=True, eq=False)
class SegmentationData:
    """Labelled or unlabelled images. Item i is (image, label): uint8 (H, W, 3) and uint8 train ids (H, W) or None."""

    samples: tuple[Sample, ...]
    label_space: str = ""

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Arrays:
        return read(self.samples[index])

    def subset(self, indices: Iterable[int]) -> SegmentationData:
        """The samples at `indices`, in that order."""
        return replace(self, samples=tuple(self.samples[i] for i in indices))

    def unlabelled(self) -> SegmentationData:
        """The images alone: what distillation may see. No label file is opened."""
        return SegmentationData(tuple(sample._replace(label=None, table="") for sample in self.samples))


def concatenate(parts: Sequence[SegmentationData], names: Sequence[str]) -> SegmentationData:
    """The samples of several datasets one after another, their names preceded by the dataset's of `names`: two may
    name a file alike. One part alone stays as it is. Raises DatasetError where label spaces differ.
    """
    if len(parts) == 1:
        return parts[0]
    if len({part.label_space for part in parts}) > 1:
        found = (f"{n} ({part.label_space or 'no labels'})" for n, part in zip(names, parts, strict=True))
        raise DatasetError(f"expected datasets of one label space to join, found {', '.join(found)}")
    samples = [s._replace(name=f"{n}/{s.name}") for n, part in zip(names, parts, strict=True) for s in part.samples]
    return SegmentationData(tuple(samples), parts[0].label_space)
