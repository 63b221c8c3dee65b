"""SYNTHIA-RAND-CITYSCAPES: rendered streets, a second source. Labels are 16-bit RGB PNGs with the class id in red.

There is no official split: every tenth image is held out ("val"), as for GTAV. Terrain, truck and train never occur.
"""

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from gkd.data.layout import About, Layout, every_tenth_held_out
from gkd.data.pairing import Place
from gkd.data.reading import DatasetError, open_image, to_train_ids


def read_red_ids(path: Path) -> np.ndarray:
    """The ids in the red channel of a 16-bit RGB PNG: uint8 (H, W). Raises DatasetError where they exceed 255."""
    upper = open_image(path, partial(_load_bytes, path, "RGB;16B")).getchannel("R")
    if np.any(upper):
        raise DatasetError(f"{path}: expected ids 0-22 in red, found larger ones; use GT/LABELS as it was published")
    return np.array(open_image(path, partial(_load_bytes, path, "RGB;16L")).getchannel("R"))


def _load_bytes(path: Path, order: str, image: Image.Image) -> None:
    """Loads one byte of each 16-bit value, of which Pillow would keep the upper alone.

    PNG stores the upper byte first ("RGB;16B"). Declared as little-endian ("RGB;16L"), its lower bytes come out.
    """
    if [tile.args for tile in image.tile] != ["RGB;16B"]:
        raise DatasetError(
            f"{path}: expected a 16-bit RGB label with class ids in red, found an image of mode {image.mode} that is"
            " none; use GT/LABELS, not GT/COLOR, as it was published"
        )
    image.tile = [tile._replace(args=order) for tile in image.tile]
    image.load()


class RedIds(Layout):
    """A layout whose labels hold their ids in the red channel."""

    def read_label(self, path: Path) -> np.ndarray:
        """uint8 train ids (H, W), 255 = ignored."""
        return to_train_ids(read_red_ids(path), "synthia", path)


_PLACES = tuple(
    Place(f"{parent}RGB", (".png",), f"{parent}GT/LABELS", ".png", "synthia") for parent in ("", "RAND_CITYSCAPES/")
)

SYNTHIA = RedIds(
    name="synthia",
    folder="synthia",
    label_space="cityscapes",
    splits={"all": _PLACES, "train": _PLACES, "val": _PLACES},
    skip=r".*_labelTrainIds",  # written beside the labels by other tools
    part=every_tenth_held_out,
    about=About(
        url="https://synthia-dataset.net (SYNTHIA-RAND-CITYSCAPES)",
        licence="CC BY-NC-SA 3.0, see the page; direct download",
        size="9,400 images of 1280x760",
        tree="RGB/0000000.png ..\nGT/LABELS/0000000.png .., or both below RAND_CITYSCAPES/",
    ),
)
