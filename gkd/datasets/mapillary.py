"""Mapillary Vistas v1.2 and v1.1 (the same 66 ids), at half size as in the published evaluation.

The copy is made in memory: images bicubic to (w // 2, h // 2), then JPEG of quality 75; labels nearest.
"""

from io import BytesIO

import numpy as np
from PIL import Image

from gkd.data.domains import Domain
from gkd.data.layout import About, Layout, Place, Sample
from gkd.data.reading import read_photo


def _half(array: np.ndarray, resample: Image.Resampling) -> Image.Image:
    image = Image.fromarray(array)
    return image.resize((image.width // 2, image.height // 2), resample)


class HalfSize(Layout):
    """A layout whose images and labels are read at half their size."""

    def read_image(self, sample: Sample) -> np.ndarray:
        """uint8 RGB (H // 2, W // 2, 3), with the losses of the published JPEG copy."""
        buffer = BytesIO()
        _half(super().read_image(sample), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=75)
        return read_photo(sample.image, buffer)

    def read_label(self, sample: Sample) -> np.ndarray:
        """uint8 train ids (H // 2, W // 2), 255 = ignored."""
        return np.array(_half(super().read_label(sample), Image.Resampling.NEAREST))


TARGET = Domain("mapillary", "mapillary", "val")

MAPILLARY = HalfSize(
    name="mapillary",
    places=(
        Place("{split}/images/*.jpg", "{split}/v1.2/labels/*.png", "mapillary"),
        Place("{split}/images/*.jpg", "{split}/labels/*.png", "mapillary"),  # v1.1
    ),
    splits={"train": "training", "val": "validation"},
    published={"train": 18_000, "val": 2_000},
    about=About(
        url="https://www.mapillary.com/dataset/vistas (v1.2)",
        licence="CC BY-NC-SA 4.0, after registration",
        size="18,000 train and 2,000 val images, up to more than 20 megapixels each",
    ),
)
