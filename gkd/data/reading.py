"""Reading one file of a dataset: an RGB image, a label image as raw ids or as train ids, or only the size.

TIFF tiles and their colour-coded labels: gkd.data.tiff.
"""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from gkd.data import labels


class DatasetError(ValueError):
    """A dataset is not as expected. The message names the path, what was expected and found, what to do."""


def _pixels(image: Image.Image) -> None:
    image.load()


def open_image(
    path: Path, load: Callable[[Image.Image], object] = _pixels, content: BinaryIO | None = None
) -> Image.Image:
    """An image as Pillow reads it, decoded by `load`. Raises DatasetError on absent and damaged files.

    `content` is what the file holds, where it lies in another one: then `path` is what errors name.
    """
    try:
        with Image.open(path if content is None else content) as image:
            load(image)
        return image
    except DatasetError:  # of `load`
        raise
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: expected an image, found no such file; check the download") from error
    except (
        OSError,
        SyntaxError,
        ValueError,
    ) as error:  # SyntaxError: what Pillow raises for a broken PNG chunk
        raise DatasetError(
            f"{path}: expected a complete image, found a damaged file ({error}); copy or download it again"
        ) from error


def size_of(path: Path) -> tuple[int, int]:
    """(width, height) in pixels from the header of an image file."""
    return open_image(path, load=lambda image: None).size


def check_sizes(image: Path, label: Path) -> tuple[int, int]:
    """(width, height) of an image and its label, from their headers. Raises DatasetError where they differ."""
    image_size, label_size = size_of(image), size_of(label)
    if image_size != label_size:
        raise DatasetError(
            f"{label}: expected the size of its image {image},"
            f" {image_size[0]}x{image_size[1]}, found {label_size[0]}x{label_size[1]}; download both"
        )
    return image_size


def read_rgb(path: Path, content: BinaryIO | None = None) -> np.ndarray:
    """An image as uint8 RGB (H, W, 3). Grey, palette, CMYK and transparent files are converted; see `open_image`."""
    image = open_image(path, content=content)
    if image.mode.startswith(("I", "F")):  # Pillow would clip these to 255
        raise DatasetError(f"{path}: expected 8 bits a channel, found mode {image.mode}; convert the image")
    return np.array(image.convert("RGB"))


def read_ids(path: Path) -> np.ndarray:
    """The raw ids of a label image: uint8 (H, W). A palette image gives its indices, never its colours."""
    image = open_image(path)
    if image.mode not in ("L", "P"):
        found = "a colour-coded label" if image.mode.startswith("RGB") else "another kind of image"
        raise DatasetError(
            f"{path}: expected class ids in one 8-bit channel (mode L or P), found {found} ({image.mode});"
            " use the id files of the dataset"
        )
    return np.array(image)


def read_train_ids(path: Path, table: str) -> np.ndarray:
    """A label image as train ids: uint8 (H, W), 255 = ignored. `table` names its id map, see gkd.data.labels."""
    return to_train_ids(read_ids(path), table, path)


def to_train_ids(raw: np.ndarray, table: str, path: Path) -> np.ndarray:
    """Raw ids (uint8, any shape) that were read from `path` as train ids. Raises DatasetError on unknown ids."""
    unknown = labels.unknown_ids(raw, table)
    if unknown:
        raise DatasetError(
            f"{path}: expected ids of the label table {table!r} ({_ranges(labels.known_ids(table))}), found"
            f" {', '.join(map(str, unknown))} as well;"
            " check that this is the id file of the dataset and that it was not resized or re-encoded"
        )
    return labels.lut(table)[raw]


def _ranges(ids: tuple[int, ...]) -> str:
    """Ascending ids as text: (0, 1, 2, 255) -> '0-2, 255'."""
    starts = [i for i in ids if i - 1 not in ids]
    ends = [i for i in ids if i + 1 not in ids]
    return ", ".join(f"{a}-{b}" if a < b else f"{a}" for a, b in zip(starts, ends, strict=True))
