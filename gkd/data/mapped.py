"""The pixels of large TIFF tiles as arrays in files, of which a window reads its own rows only.

A tile that is stored uncompressed is such an array already and is mapped where it lies. Of any other one an
uncompressed copy is written once to .scratch/tiles/ (108 MB for 6000x6000 RGB) and mapped from then on; a copy of a
tile that has changed, or a copy that is not whole, is replaced. Processes share the mapped pages.

Reading a window by Pillow would decode the tile: in random order, as in training, for nearly every window.
"""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from gkd.data.kept import kept
from gkd.data.reading import DatasetError, open_image

_COLOUR = {"RGB": 3, "RGBA": 4, "RGBX": 4, "RGBa": 4}  # as stored; bands of 8 bits
_ORIENTATION = 274  # tag: 1 or absent = the first row is the top one


class _Stored(NamedTuple):
    """Where uncompressed pixels lie in a file."""

    offset: int
    shape: tuple[int, int, int]


def tile_pixels(path: Path) -> np.ndarray:
    """All bands of a TIFF of three or four 8-bit bands: read-only uint8 (H, W, bands), a view of a file.

    Raises DatasetError where the file is absent, damaged, shorter than its header says or of another kind.
    """
    try:
        state = path.stat()
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: expected an image, found no such file; check the download") from error
    return _mapped(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=128)  # more than the tiles and labels of Potsdam; headers of 2,000 strips take 5 ms to read
def _mapped(path: Path, size: int, changed: int) -> np.ndarray:
    stored = _stored(open_image(path, load=lambda image: None))
    if stored is None:
        return kept("tiles", path, size, changed, lambda: _decode(path), mapped=True)
    missing = stored.offset + int(np.prod(stored.shape)) - size
    if missing > 0:
        raise DatasetError(
            f"{path}: expected a complete image, found a damaged file ({missing:,} bytes of its pixels are missing);"
            " copy or download it again"
        )
    return np.memmap(path, np.uint8, "r", stored.offset, stored.shape)


def _stored(image: Image.Image) -> _Stored | None:
    """None unless the pixels are uncompressed, one full row after the other, interleaved by band."""
    parts = sorted(image.tile, key=lambda part: part.offset)
    mode = parts[0].args[0] if parts else ""
    if image.format != "TIFF" or mode not in _COLOUR or image.tag_v2.get(_ORIENTATION, 1) != 1:
        return None
    (width, height), bands = image.size, _COLOUR[mode]
    row, place = 0, parts[0].offset
    for part in parts:  # strips that lie in the file as in the image
        left, top, right, bottom = part.extents
        bottom = min(bottom, height)
        plain = part.codec_name == "raw" and part.args[0] == mode and part.args[1] in (0, width * bands)
        if not plain or (left, right, top, part.offset) != (0, width, row, place):
            return None
        row, place = bottom, place + (bottom - top) * width * bands
    return _Stored(parts[0].offset, (height, width, bands)) if row == height else None


def _decode(path: Path) -> np.ndarray:
    """All bands of an image of three or four bands of 8 bits, decoded: uint8 (H, W, bands)."""
    image = open_image(path, _load_every_band)
    if image.mode not in ("RGB", "RGBA"):
        raise DatasetError(
            f"{path}: expected 3 bands of 8 bits in colour, found mode {image.mode}; use the tile as it was published"
        )
    return np.asarray(image)


def _load_every_band(image: Image.Image) -> None:
    """Loads the fourth band of a TIFF, infrared in our case, as it is stored.

    Pillow would drop a fourth band of unnamed purpose (RGBX), and would divide the others by one that is declared as
    premultiplied transparency (RGBa). The mode has no public setter.
    """
    if image.format == "TIFF" and image.tile and image.tile[0].args[0] in ("RGBX", "RGBa"):
        image._mode = "RGBA"
        image.tile = [tile._replace(args=("RGBA", *tile.args[1:])) for tile in image.tile]
    image.load()
