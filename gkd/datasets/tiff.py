"""Reading TIFF tiles of aerial images: three bands of three or four, and labels that are coded as colours."""

from pathlib import Path

import numpy as np
from PIL import Image

from gkd import labels
from gkd.datasets.reading import DatasetError, open_image


def read_bands(path: Path, bands: tuple[int, int, int] = (0, 1, 2)) -> np.ndarray:
    """Three bands, counted from 0, of an image that has three or four bands of 8 bits: uint8 (H, W, 3)."""
    image = open_image(path, _load_every_band)
    if image.mode not in ("RGB", "RGBA") or len(image.getbands()) <= max(bands):
        raise DatasetError(
            f"{path}: expected {max(3, max(bands) + 1)} bands of 8 bits in colour, found mode {image.mode};"
            " use the tile as it was published"
        )
    array = np.asarray(image)
    return np.stack([array[..., band] for band in bands], axis=-1)  # much faster than array[..., bands]


def _load_every_band(image: Image.Image) -> None:
    """Loads the fourth band of a TIFF, infrared in our case, as it is stored.

    Pillow would drop a fourth band of unnamed purpose (RGBX), and would divide the others by one that is declared as
    premultiplied transparency (RGBa). The mode has no public setter.
    """
    if image.format == "TIFF" and image.tile and image.tile[0].args[0] in ("RGBX", "RGBa"):
        image._mode = "RGBA"
        image.tile = [tile._replace(args=("RGBA", *tile.args[1:])) for tile in image.tile]
    image.load()


def read_coloured_train_ids(path: Path, table: str, exact: bool = False) -> np.ndarray:
    """A colour-coded label image as train ids: uint8 (H, W), 255 = ignored. The colours are those of the label table.

    They must be corners of the RGB cube, as those of ISPRS are. A channel counts as full from 128 up, which recovers
    tiles that were stored with losses or odd colours (Potsdam 4_12 and 6_7). With `exact`, as in mmsegmentation, a
    pixel of any other colour is ignored. Magenta, the corner without a class, is ignored either way.
    """
    rgb = read_bands(path)
    train_ids = np.full(8, labels.IGNORE, dtype=np.uint8)
    for raw_id, colour in labels.colours(table).items():
        train_ids[_corner(np.array(colour, dtype=np.uint8))] = labels.lut(table)[raw_id]
    found = train_ids[_corner(rgb)]
    if exact:
        found[((rgb != 0) & (rgb != 255)).any(axis=-1)] = labels.IGNORE
    return found


def _corner(rgb: np.ndarray) -> np.ndarray:
    """Number, 0 to 7, of the corner of the RGB cube that is nearest to each colour: (..., 3) -> (...)."""
    return (rgb[..., 0] >> 7) << 2 | (rgb[..., 1] >> 7) << 1 | rgb[..., 2] >> 7
