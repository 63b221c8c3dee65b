"""Images in tar shards: `*.tar` whose members are image files, as of WebDataset or of ImageNet's own download.

A tar has no index, so its headers are read once and (name, offset, size) of the images kept in .scratch/shards/, under
the shard's size and time: a changed shard is listed anew. Any image is then one read of a file, in any order.
"""

import io
import tarfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from gkd.data.kept import kept
from gkd.data.pairing import files_below
from gkd.data.reading import DatasetError, read_rgb

END = 512  # bytes of zeros after the last member; `tar` writes at least two such blocks


def shards_below(folder: Path) -> list[Path]:
    """The shards at any depth, sorted."""
    return [folder / name for name in sorted(name for _, name in files_below(folder, (".tar",)))]


def images_in(shard: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The images of a shard, sorted, as paths that continue the shard's: `000.tar/n01/a.jpg`.

    Raises DatasetError where the shard is torn, no tar, or has two members of one name.
    """
    names = (name.decode() for name in _listed(shard)["name"])
    return [shard / name for name in names if _is_image(name, suffixes)]


def read_member(path: Path) -> np.ndarray:
    """An image as uint8 RGB (H, W, 3), by a path of `images_in`. Raises DatasetError where it is absent or damaged."""
    shard = shard_of(path)
    name = path.relative_to(shard).as_posix().encode()
    listed = _listed(shard)
    row = int(np.searchsorted(listed["name"], name))
    if row == len(listed) or listed["name"][row] != name:
        raise DatasetError(f"{path}: expected this image in the shard, found none; was the shard replaced?")
    with shard.open("rb") as file:
        file.seek(int(listed["offset"][row]))
        return read_rgb(path, io.BytesIO(file.read(int(listed["size"][row]))))


def shard_of(path: Path) -> Path | None:
    """The shard that a path leads into; None where it names a file of its own."""
    return next((parent for parent in path.parents if parent.suffix.lower() == ".tar" and parent.is_file()), None)


def _is_image(name: str, suffixes: tuple[str, ...]) -> bool:
    return name.lower().endswith(suffixes) and not name.rpartition("/")[2].startswith(".")


def _listed(shard: Path) -> np.ndarray:
    """(name, offset, size) of the members of a shard, sorted by name."""
    try:
        state = shard.stat()
    except FileNotFoundError as error:
        raise DatasetError(f"{shard}: expected a tar shard, found no such file; check the download") from error
    return _kept(shard, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4096)  # ImageNet has about 1,300 shards; 100 bytes an image, which forked workers share
def _kept(shard: Path, size: int, changed: int) -> np.ndarray:
    return kept("shards", shard, size, changed, lambda: _table(shard, size))


def _table(shard: Path, size: int) -> np.ndarray:
    rows = sorted(_members(shard, size))
    twice = next((a[0] for a, b in zip(rows, rows[1:], strict=False) if a[0] == b[0]), None)
    if twice is not None:
        raise DatasetError(f"{shard}: expected one member a name, found two of {twice.decode()}; write the shard anew")
    width = max((len(name) for name, *_ in rows), default=1)
    return np.array(rows, dtype=[("name", f"S{width}"), ("offset", "i8"), ("size", "i8")])


def _members(shard: Path, size: int) -> Iterator[tuple[bytes, int, int]]:
    end = 0
    try:
        with tarfile.open(shard, "r:") as tar:  # "r:": uncompressed, else there is no reading at an offset
            for member in tar:
                end = member.offset_data + -(-member.size // END) * END if member.isreg() else member.offset_data
                if member.isreg() and not member.issparse():
                    yield member.name.removeprefix("./").encode(), member.offset_data, member.size
    except tarfile.TarError as error:
        raise DatasetError(
            f"{shard}: expected a whole, uncompressed tar, found another or a torn file ({error}); copy or download it"
            " again"
        ) from error
    with shard.open("rb") as file:  # a tar that is cut between two members looks whole without this
        file.seek(end)
        if file.read(END) != bytes(END):
            raise DatasetError(
                f"{shard}: expected the end of a tar after its {end:,} bytes of members, found {size:,} bytes in all:"
                " the shard is torn; copy or download it again"
            )
