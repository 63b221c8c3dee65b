"""Images in tar files, as of WebDataset or of ImageNet's own download: any of them is one read of a file, in any order.

The headers are read when a tar is first asked for, which skips over the images. timm's reader would do, but its scan
reads every byte (138 GB of ImageNet at every start), and forked loader processes must not share its open files.
"""

import io
import tarfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from gkd.data.reading import DatasetError, read_photo

BLOCK = 512  # bytes; a tar ends with blocks of zeros


def members(tar: Path, ends: tuple[str, ...]) -> list[Path]:
    """Members with one of these endings, as paths that continue the tar's: `000.tar/n01/a.jpg`.

    Raises DatasetError where the tar is torn, compressed, no tar, or has two members of one name.
    """
    names = (name for name in _places(tar) if not name.rpartition("/")[2].startswith("."))
    return [tar / name for name in names if name.lower().endswith(ends)]


def tar_of(path: Path) -> Path | None:
    """The tar that a path of `members` leads into; None where it leads into none."""
    return next((parent for parent in path.parents if parent.suffix.lower() == ".tar" and parent.is_file()), None)


def read_image(path: Path) -> np.ndarray:
    """An image as uint8 RGB (H, W, 3), by its path or one of `members`.

    Raises DatasetError where it is damaged, or the tar does not hold it.
    """
    if (tar := tar_of(path)) is None:
        return read_photo(path)
    place = _places(tar).get(path.relative_to(tar).as_posix())
    if place is None:
        raise DatasetError(f"{path}: expected this image in the tar, found none; was the tar replaced?")
    with tar.open("rb") as file:
        file.seek(place[0])
        return read_photo(path, io.BytesIO(file.read(place[1])))


def _places(tar: Path) -> dict[str, tuple[int, int]]:
    return _listed(tar, tar.stat().st_size, tar.stat().st_mtime_ns)


@lru_cache(maxsize=4096)  # ImageNet has 1,000 of them
def _listed(tar: Path, _size: int, _changed: int) -> dict[str, tuple[int, int]]:
    """Offset and size of each member by its name."""
    found: dict[str, tuple[int, int]] = {}
    try:
        with tar.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as opened:  # "r:": uncompressed
            end = 0
            for member in opened:
                end = member.offset_data + (-(-member.size // BLOCK) * BLOCK if member.isreg() else 0)
                if member.isreg() and not member.issparse():
                    name = member.name.removeprefix("./")
                    if name in found:
                        raise DatasetError(f"{tar}: expected one member a name, found two of {name}; write it anew")
                    found[name] = member.offset_data, member.size
            file.seek(end)
            if file.read(BLOCK) != bytes(BLOCK):  # a tar that is cut between two members looks whole without this
                raise tarfile.ReadError("its end is missing")
    except tarfile.TarError as error:
        raise DatasetError(
            f"{tar}: expected a whole, uncompressed tar, found another or a torn file ({error}); copy or download it"
            " again"
        ) from error
    return found
