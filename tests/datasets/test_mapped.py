"""Tiles as mapped arrays: what is read where it lies, what is copied once, and when a copy is made anew."""

import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layout_files import image_array, save
from PIL import Image

from gkd.data import mapped
from gkd.data.mapped import tile_pixels
from gkd.data.tiff import read_bands
from gkd.datasets import DatasetError

SIZE = (70, 50)


def lzw(path: Path, array: np.ndarray) -> Path:
    Image.fromarray(array).save(path, compression="tiff_lzw")
    return path


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tiles that were decoded."""
    names: list[str] = []
    decode = mapped._decode
    monkeypatch.setattr(mapped, "_decode", lambda path: names.append(path.name) or decode(path))
    return names


def forget() -> None:
    """What a new process would not know."""
    mapped._mapped.cache_clear()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    bands=st.sampled_from([3, 4]),
    strip=st.integers(1, 20_000),
    seed=st.integers(0, 99),
)
def test_uncompressed_pixels_are_read_where_they_lie(
    tmp_path: Path, copies_of_tiles: Path, size: tuple[int, int], bands: int, strip: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, bands), dtype=np.uint8)
    path = tmp_path / f"{size}-{bands}-{strip}-{seed}.tif"
    Image.fromarray(pixels).save(path, strip_size=strip)
    found = tile_pixels(path)
    assert np.array_equal(found, pixels) and isinstance(found, np.memmap) and not found.flags.writeable
    assert not copies_of_tiles.exists()


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_a_compressed_tile_is_decoded_once_whatever_the_order(
    tmp_path: Path, decoded: list[str], copies_of_tiles: Path, compression: str
) -> None:
    pixels = [image_array(seed, SIZE) for seed in range(3)]
    paths = [tmp_path / f"{seed}.tif" for seed in range(3)]
    for path, array in zip(paths, pixels, strict=True):
        Image.fromarray(array).save(path, compression=compression)
    for number in (0, 1, 2, 0, 2, 1):
        forget()
        assert np.array_equal(read_bands(paths[number], window=(7, 3, 20, 31)), pixels[number][3:31, 7:20])
    assert decoded == ["0.tif", "1.tif", "2.tif"]
    assert len(list(copies_of_tiles.iterdir())) == 3


@pytest.mark.parametrize("same", ["size", "time"])
def test_the_copy_of_a_changed_tile_is_replaced(tmp_path: Path, copies_of_tiles: Path, same: str) -> None:
    path = lzw(tmp_path / "a.tif", image_array(0, SIZE))
    tile_pixels(path)
    (before,), state = copies_of_tiles.iterdir(), path.stat()
    changed = image_array(1, SIZE if same == "size" else (20, 20))
    lzw(path, changed)
    os.utime(path, ns=(state.st_mtime_ns, state.st_mtime_ns + (1 if same == "size" else 0)))
    assert np.array_equal(tile_pixels(path), changed)
    assert [file == before for file in copies_of_tiles.iterdir()] == [False]


@pytest.mark.parametrize("left", [0.0, 0.001, 0.01, 0.5, 0.999])
def test_a_torn_copy_is_found_and_made_anew(
    tmp_path: Path, decoded: list[str], copies_of_tiles: Path, left: float
) -> None:
    pixels = image_array(0, SIZE)
    path = lzw(tmp_path / "a.tif", pixels)
    tile_pixels(path)
    (copy,) = copies_of_tiles.iterdir()
    content = copy.read_bytes()
    copy.write_bytes(content[: int(left * len(content))])
    forget()
    assert np.array_equal(tile_pixels(path), pixels)
    assert len(decoded) == 2 and copy.read_bytes() == content


def test_nothing_is_left_of_a_copy_that_could_not_be_written(
    tmp_path: Path, copies_of_tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        tile_pixels(lzw(tmp_path / "a.tif", image_array(0, SIZE)))
    assert list(copies_of_tiles.iterdir()) == []


def test_tiles_of_one_name_have_copies_of_their_own(tmp_path: Path, copies_of_tiles: Path) -> None:
    for number in (0, 1):
        (tmp_path / str(number)).mkdir()
        lzw(tmp_path / str(number) / "a.tif", image_array(number, SIZE))
    for number in (0, 1):
        assert np.array_equal(tile_pixels(tmp_path / str(number) / "a.tif"), image_array(number, SIZE))
    assert len(list(copies_of_tiles.iterdir())) == 2


def _sum(path: Path) -> int:
    return int(tile_pixels(path).sum())


def test_processes_may_copy_at_once(tmp_path: Path, copies_of_tiles: Path) -> None:
    path = lzw(tmp_path / "a.tif", image_array(0, (900, 900)))
    with ProcessPoolExecutor(3, mp_context=get_context("fork")) as pool:
        sums = list(pool.map(_sum, [path] * 6))
    assert sums == [int(image_array(0, (900, 900)).sum())] * 6
    assert [file.suffix for file in copies_of_tiles.iterdir()] == [".npy"]


def test_a_turned_tile_is_read_as_the_image_library_turns_it(tmp_path: Path) -> None:
    path, pixels = tmp_path / "a.tif", image_array(0, SIZE)
    Image.fromarray(pixels).save(path, tiffinfo={274: 3})
    assert np.array_equal(read_bands(path), np.rot90(pixels, 2))


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_truncated_tile_is_refused(tmp_path: Path, copies_of_tiles: Path, compression: str | None) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(image_array(0, SIZE)).save(path, compression=compression)
    whole = path.stat().st_size
    tile_pixels(path)  # once sound
    with path.open("r+b") as file:
        file.truncate(whole // 2)
    with pytest.raises(DatasetError, match=f"{path}: expected a complete image, found a damaged file"):
        tile_pixels(path)


def test_windows_are_copies_that_travel(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", image_array(0, SIZE))
    window = read_bands(path, (2, 1, 0), (0, 0, 9, 8))
    window[:] = 0
    assert window.shape == (8, 9, 3) and len(pickle.dumps(window)) < 1000
    assert np.array_equal(read_bands(path, (2, 1, 0)), image_array(0, SIZE)[..., ::-1])
