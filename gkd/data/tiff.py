"""Reading TIFF tiles of aerial images: three bands of three or four, and labels that are coded as colours."""

from pathlib import Path

import numpy as np

from gkd.data import labels
from gkd.data.mapped import tile_pixels
from gkd.data.reading import DatasetError

Window = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels


def read_bands(path: Path, bands: tuple[int, int, int] = (0, 1, 2), window: Window | None = None) -> np.ndarray:
    """Three bands, counted from 0, of an image that has three or four bands of 8 bits, or of a window of it.

    uint8 (H, W, 3). Raises DatasetError where the file is absent, damaged or of another kind.
    """
    pixels = tile_pixels(path)  # (H, W, 3 or 4)
    if pixels.shape[-1] <= max(bands):
        raise DatasetError(
            f"{path}: expected {max(bands) + 1} bands of 8 bits in colour, found {pixels.shape[-1]};"
            " use the tile as it was published"
        )
    x0, y0, x1, y1 = window or (0, 0, *pixels.shape[1::-1])
    part = pixels[y0:y1, x0:x1]
    return np.stack([part[..., band] for band in bands], axis=-1)  # much faster than part[..., bands]


def read_coloured_train_ids(path: Path, table: str, exact: bool = False, window: Window | None = None) -> np.ndarray:
    """A colour-coded label image, or a window of it, as train ids: uint8 (H, W), 255 = ignored.

    The colours of the label table must be corners of the RGB cube, as those of ISPRS are. A channel counts as full
    from 128 up, which recovers tiles that were stored with losses or odd colours (Potsdam 4_12 and 6_7). With `exact`,
    as in mmsegmentation, a pixel of any other colour is ignored. Magenta, the corner without a class, is ignored either
    way.
    """
    rgb = read_bands(path, window=window)
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
