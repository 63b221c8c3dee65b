"""Mapillary Vistas v1.2 and v1.1 (the same 66 ids), at half size as in the published evaluation.

The copy is made in memory: images bicubic to (w // 2, h // 2), then JPEG of quality 75; labels nearest.
"""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from gkd.data.layout import About, Layout
from gkd.data.pairing import Place


def _half(array: np.ndarray, resample: Image.Resampling) -> Image.Image:
    image = Image.fromarray(array)
    return image.resize((image.width // 2, image.height // 2), resample)


class HalfSize(Layout):
    """A layout whose images and labels are read at half their size."""

    def read_image(self, path: Path) -> np.ndarray:
        """uint8 RGB (H // 2, W // 2, 3), with the losses of the published JPEG copy."""
        buffer = BytesIO()
        _half(super().read_image(path), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=75)
        return np.array(Image.open(buffer))

    def read_label(self, path: Path) -> np.ndarray:
        """uint8 train ids (H // 2, W // 2), 255 = ignored."""
        return np.array(_half(super().read_label(path), Image.Resampling.NEAREST))


def _places(folder: str) -> tuple[Place, ...]:
    return tuple(
        Place(f"{folder}/images", (".jpg",), f"{folder}/{labels}", ".png", "mapillary")
        for labels in ("v1.2/labels", "labels")
    )


MAPILLARY = HalfSize(
    name="mapillary",
    folder="mapillary",
    label_space="cityscapes",
    splits={"train": _places("training"), "val": _places("validation")},
    about=About(
        url="https://www.mapillary.com/dataset/vistas (v1.2)",
        licence="CC BY-NC-SA 4.0, after registration",
        size="18,000 train and 2,000 val images, up to more than 20 megapixels each",
        tree="{training,validation}/images/<key>.jpg\n"
        "{training,validation}/v1.2/labels/<key>.png, or {training,validation}/labels/<key>.png as in v1.1",
    ),
)
