"""The door for images: photos, labels and windows of tiles as arrays. No other file of the package opens an image.

read_photo(path)                                # uint8 RGB (H, W, 3)
read_label(path, "cityscapes")                  # uint8 train ids (H, W), 255 = ignored
read_window(path, (512, 0, 1024, 512))          # uint8 RGB (512, 512, 3) of a large TIFF

Pillow reads photos and labels, tifffile the tiles. An uncompressed tile is mapped where it lies; of a compressed one an
uncompressed copy is written to .scratch/tiles/ when first asked for (two to four seconds), and mapped from then on: a
window of 512x512 takes 1 ms, where decoding its parts takes 3 to 60 (perf/loading.py).
"""

import hashlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from gkd.data import labels
from gkd.files import write_whole
from gkd.params import ROOT

# An allow-list: some of Pillow's other readers start programs (EPS), and none of them is a format of photos.
FORMATS = ("JPEG", "PNG", "BMP", "PPM", "TIFF", "WEBP", "AVIF", "JPEG2000")  # the usual ones are tried first
LOSSY = ("JPEG", "MPO", "JPEG2000", "jpeg")  # would give labels other ids along every edge; the last is a TIFF's way
SPREAD = {"1": 1, "L;2": 85, "L;4": 17}  # what Pillow multiplies the grey values of small PNGs by, which then reach 255
Window = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels
Encoding = Literal["ids", "red", "colours", "exact colours"]


class DatasetError(ValueError):
    """A file or dataset is not as expected. The message names the path, what was expected and found, what to do."""


def suffixes() -> frozenset[str]:
    """Ends of file names (".jpg") of the formats that are read."""
    known = {*FORMATS, "MPO"}  # MPO: of JPEGs with previews, which the reader of JPEG takes
    return frozenset(end for end, name in Image.registered_extensions().items() if name in known)


def size_of(path: Path) -> tuple[int, int]:
    """(width, height) of an image or a label, from its header."""
    with _faults(path), Image.open(path, formats=FORMATS) as opened:
        return opened.size


def check_sizes(image: Path, label: Path) -> None:
    """Raises DatasetError where the headers of an image and its label say different sizes."""
    if (own := size_of(image)) != (other := size_of(label)):
        expected, found = (f"{width}x{height}" for width, height in (own, other))
        remedy = "its EXIF turns the image: store it as it is shown" if is_turned(image) else "download both"
        raise DatasetError(f"{label}: expected the size of its image {image}, {expected}, found {found}; {remedy}")


def read_photo(path: Path, content: BinaryIO | None = None, *, upright: bool = False) -> np.ndarray:
    """A photo as uint8 RGB (H, W, 3). Grey, palette, CMYK and transparent files are converted.

    Args:
        path: the file, and what errors name.
        content: what to read where it is no file of its own, such as a member of a tar.
        upright: turn it as its EXIF says, as viewers show it, and refuse a file of several pictures.

    Raises DatasetError where the file is absent, damaged, of another kind, or has more than 8 bits a channel.
    """
    with _opened(path, content) as image:
        stored = _stored(image)
        if upright and getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # a JPEG with previews, of phones
            raise DatasetError(
                f"{path}: {image.n_frames} pictures in one file; take it apart first, such as by"
                " `ffmpeg -i FILE frames/%06d.png`, and give the folder"
            )
        image.load()
    if image.mode.startswith(("I", "F")) or ";16" in stored:  # Pillow would clip these to 255, or drop the lower bytes
        raise DatasetError(f"{path}: expected 8 bits a channel, found mode {stored or image.mode}; convert the image")
    return np.array((ImageOps.exif_transpose(image) if upright else image).convert("RGB"))


def read_window(path: Path, window: Window | None = None, bands: tuple[int, int, int] = (0, 1, 2)) -> np.ndarray:
    """Three bands, counted from 0, of a TIFF of three bands of 8 bits or more, or of a window of it.

    uint8 (H, W, 3). Raises DatasetError where the file is absent, damaged or of another kind.
    """
    with _faults(path):
        state = path.stat()
    pixels = _pixels(path, state.st_size, state.st_mtime_ns)  # (H, W, 3 or more)
    if pixels.shape[-1] <= max(bands):
        found = f"{pixels.shape[-1]}; use the tile as it was published"
        raise DatasetError(f"{path}: expected {max(bands) + 1} bands of 8 bits in colour, found {found}")
    x0, y0, x1, y1 = window or (0, 0, *pixels.shape[1::-1])
    part = pixels[y0:y1, x0:x1]
    return np.stack([part[..., band] for band in bands], axis=-1)  # much faster than part[..., bands]


def read_label(path: Path, table: str, encoding: Encoding = "ids", window: Window | None = None) -> np.ndarray:
    """A label image as train ids: uint8 (H, W), 255 = ignored.

    Args:
        path: the file.
        table: the label table that turns its ids into train ids (gkd.data.labels).
        encoding: how the ids are stored. "ids": in one channel of up to 16 bits; of a palette image the indices count,
            and the colours tell only whether it was sorted. "red": in the red channel of a 16-bit RGB PNG. "colours": a
            TIFF tile in the colours of the table, which must be corners of the RGB cube, as those of ISPRS are; a
            channel counts as full from 128 up, which recovers tiles that were stored with losses or odd colours
            (Potsdam 4_12 and 6_7). "exact colours": a pixel of any other colour is ignored, as in mmsegmentation.
        window: of a TIFF tile; None = all of it.

    Raises DatasetError where the file is absent, damaged, of another kind (a photo in the place of a coloured tile), or
    holds ids that the table does not list, or that its palette gives the colours of other classes.
    """
    if encoding in ("colours", "exact colours"):
        rgb = read_window(path, window)
        if encoding == "colours" and (share := ((rgb > 63) & (rgb < 192)).any(axis=-1).mean()) > 0.25:
            raise DatasetError(
                f"{path}: expected a label of full colours, found {share:.0%} of its pixels between them, as in a"
                " photo; download it again"
            )
        return _by_colour(rgb, table, exact=encoding == "exact colours")
    raw = _red_ids(path) if encoding == "red" else _ids(path, table)
    unknown = labels.unknown_ids(raw, table)
    if unknown:
        raise DatasetError(
            f"{path}: expected ids of the label table {table!r} ({_ranges(labels.known_ids(table))}), found"
            f" {', '.join(map(str, unknown))}; is it the id file of the dataset, neither resized nor re-encoded?"
        )
    return labels.lut(table)[raw]


def is_turned(path: Path) -> bool:
    """Whether viewers turn it, as its EXIF says: labels may then fit what they show, not what the file holds."""
    with _faults(path), Image.open(path, formats=FORMATS) as opened:
        # Of a PNG Pillow would decode the whole, and cameras write none.
        return opened.format in ("JPEG", "MPO") and opened.getexif().get(ExifTags.Base.Orientation, 1) != 1


@contextmanager
def _opened(path: Path, content: BinaryIO | None = None) -> Iterator[Image.Image]:
    """An image, not loaded yet, whose file is whole: Pillow 13 loads a PNG's pixels without a look at checksums."""
    file = content or path
    with _faults(path):
        with Image.open(file, formats=FORMATS) as image:
            if image.format != "PNG":
                yield image
                return
            image.verify()  # it cannot be loaded any more
        with Image.open(file, formats=FORMATS) as image:
            yield image


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    """What the libraries raise on absent and damaged files, as a DatasetError; on a pipe they would wait."""
    try:
        if path.exists() and not path.is_file():
            raise DatasetError(f"{path}: expected a file, found a folder, a pipe or a device")
        yield
    except DatasetError:
        raise
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: expected an image, found no such file; check the download") from error
    except UnidentifiedImageError as error:
        raise DatasetError(
            f"{path}: expected a complete image ({', '.join(FORMATS)}), found a damaged file or another kind;"
            " copy or download it again, or convert it"
        ) from error
    except Image.DecompressionBombError as error:
        what = f"a larger one ({error}); cut it into tiles"
        raise DatasetError(f"{path}: expected at most {2 * Image.MAX_IMAGE_PIXELS:,} pixels, found {what}") from error
    # SyntaxError: what Pillow raises for a broken PNG chunk. The last three: what imagecodecs and tifffile raise.
    except (OSError, SyntaxError, ValueError, RuntimeError, LookupError, struct.error) as error:
        what = f"a damaged file ({error}); copy or download it again"
        raise DatasetError(f"{path}: expected a complete image, found {what}") from error


def _ids(path: Path, table: str) -> np.ndarray:
    """The raw ids of a label image: uint8 (H, W)."""
    with _opened(path) as image:
        stored = _stored(image)
        image.load()
    if lossy := {image.format, image.info.get("compression")} & {*LOSSY}:
        raise DatasetError(f"{path}: expected class ids in a lossless file, found {lossy.pop()}; use PNG")
    small = image.mode == "1" or stored.startswith("L;")  # of other formats, some are stored inverted
    if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B") or (small and image.format != "PNG"):
        found = "a colour-coded label" if image.mode.startswith("RGB") else "another kind of image"
        found += f" ({image.mode}); use the dataset's id files"
        raise DatasetError(f"{path}: expected class ids in one channel (mode L or P), found {found}")
    ids = np.array(image)
    if ids.dtype.itemsize > 1 and (ids.min() < 0 or ids.max() > 255):
        raise DatasetError(f"{path}: expected class ids up to 255, found {ids.min()} to {ids.max()}; number them anew")
    ids = ids.astype(np.uint8) // SPREAD.get(stored, 1)
    if image.mode == "P" and (wrong := labels.exchanged_ids(ids, np.reshape(image.getpalette(), (-1, 3)), table)):
        found = f"{', '.join(map(str, wrong))} in those of other classes; did a PNG optimiser sort the palette?"
        remedy = "Take the original file, or save one whose ids are right in grey (mode L)"
        raise DatasetError(f"{path}: expected ids in the colours of the label table {table!r}, found {found} {remedy}")
    return ids


def _stored(image: Image.Image) -> str:
    """Pillow's name for how an opened image is stored, such as "RGB;16B", of which its mode (RGB) says less."""
    found = image.tile[0].args if image.tile else ""
    return str(found[0] if isinstance(found, tuple) else found)


def _red_ids(path: Path) -> np.ndarray:
    """The ids in the red channel of a 16-bit RGB PNG, whose lower bytes Pillow would drop: uint8 (H, W)."""
    import imagecodecs  # here, since few datasets need it

    with _faults(path):
        pixels = imagecodecs.png_decode(path.read_bytes())
    if pixels.dtype != np.uint16 or pixels.ndim != 3 or pixels[..., 0].max() > 255:
        found = f"{pixels.dtype} {pixels.shape}, red up to {pixels[..., 0].max()}; use the labels as published"
        raise DatasetError(f"{path}: expected a 16-bit RGB label with class ids in red, found {found}")
    return pixels[..., 0].astype(np.uint8)


def _by_colour(rgb: np.ndarray, table: str, exact: bool) -> np.ndarray:
    """Colours (H, W, 3) as train ids (H, W). Corners without a class are ignored, as magenta of ISPRS."""
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


@lru_cache(maxsize=128)  # more than the tiles and labels of Potsdam; each holds a file descriptor
def _pixels(path: Path, size: int, changed: int) -> np.ndarray:
    """All bands of a TIFF of `size` bytes and a time of change in ns: read-only uint8 (H, W, bands), a mapped file."""
    import tifffile  # here, since few datasets need it

    place = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    copy = ROOT / ".scratch" / "tiles" / f"{path.stem}-{place}-{size}-{changed}"
    with _faults(path), tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        _check_tile(path, page, size)
        whole = copy.is_file() and copy.stat().st_size == page.nbytes
        if page.is_memmappable:
            pixels = tifffile.memmap(path, page=0, mode="r")
        else:
            pixels = np.memmap(copy, np.uint8, "r", 0, page.shape) if whole else page.asarray()
    if not isinstance(pixels, np.memmap):
        write_whole(copy, pixels.tofile)
        for old in set(copy.parent.glob(f"[!.]*-{place}-*")) - {copy}:  # no copies that others are writing
            old.unlink(missing_ok=True)
        pixels = np.memmap(copy, np.uint8, "r", 0, pixels.shape)
    return pixels if page.axes == "YXS" else np.moveaxis(pixels, 0, -1)


def _check_tile(path: Path, page: Any, size: int) -> None:
    """Raises DatasetError unless a page of tifffile holds all of a colour image of 8 bits, its first row on top."""
    if page.dtype != np.uint8 or page.axes not in ("YXS", "SYX"):
        found = f"{page.dtype} {page.shape}; use the tile as it was published"
        raise DatasetError(f"{path}: expected 3 bands of 8 bits in colour, found {found}")
    if page.tags.valueof("Orientation", 1) != 1:
        raise DatasetError(f"{path}: expected the first row on top, found a turned tile; store it upright")
    missing = max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True))) - size
    if missing > 0:  # else the absent pixels would be black
        raise ValueError(f"{missing:,} bytes of its pixels are missing")


def _ranges(ids: tuple[int, ...]) -> str:
    """Ascending ids as text: (0, 1, 2, 255) -> '0-2, 255'."""
    starts = [i for i in ids if i - 1 not in ids]
    ends = [i for i in ids if i + 1 not in ids]
    return ", ".join(f"{a}-{b}" if a < b else f"{a}" for a, b in zip(starts, ends, strict=True))
