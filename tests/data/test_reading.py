"""The door for images: photos, labels, windows of tiles, and what is said of files that are none of these."""

import ast
import os
import pickle
import re
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layout_files import save as save_label
from PIL import Image

from gkd.data import labels, reading
from gkd.data.reading import DatasetError, read_label, read_photo, read_window, size_of, suffixes
from gkd.params import ROOT

SIZE = (70, 50)
PALETTE = np.array([labels.colours("isprs")[i] for i in range(7)], dtype=np.uint8)
few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def noise(seed: int = 0, shape: tuple[int, ...] = (*SIZE, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, array: np.ndarray, **options: object) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


@pytest.fixture(autouse=True)
def copies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where uncompressed copies of tiles go."""
    monkeypatch.setattr(reading, "ROOT", tmp_path)
    reading._pixels.cache_clear()
    return tmp_path / ".scratch/tiles"


def test_no_other_file_of_the_package_opens_images() -> None:
    found = set()
    for file in (ROOT / "gkd").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            text = ast.unparse(node) if isinstance(node, ast.Call | ast.Import | ast.ImportFrom) else ""
            if re.match(r"(PIL\.)?Image\.open\(|.*\b(tifffile|imagecodecs|imread)\b", text):
                found.add(file.relative_to(ROOT).as_posix())
    assert found == {"gkd/data/reading.py"}


# --- photos ---


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "CMYK", "LA", "RGBA"])
def test_photos_of_every_mode_become_rgb(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(noise()).convert(mode)
    image.save(path := tmp_path / ("a.tif" if mode == "CMYK" else "a.png"))
    assert np.array_equal(read_photo(path), np.array(image.convert("RGB"))) and size_of(path) == SIZE[::-1]
    assert np.array_equal(read_photo(Path("inner.png"), BytesIO(path.read_bytes())), read_photo(path))


def test_photos_are_turned_on_request_only(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", noise(), exif=(exif := Image.Exif()) or exif)
    exif[274] = 6  # a quarter turn
    save(path, noise(), exif=exif)
    assert np.array_equal(read_photo(path), noise())
    assert np.array_equal(read_photo(path, upright=True), np.rot90(noise(), 3))


def test_several_pictures_in_one_file_are_refused_where_one_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    Image.fromarray(noise()).save(path, save_all=True, append_images=[Image.fromarray(noise(1))])
    assert read_photo(path).shape == (*SIZE, 3)
    with pytest.raises(DatasetError, match=f"{path}: 2 pictures in one file"):
        read_photo(path, upright=True)


@pytest.mark.parametrize("kind", ["EPS", "GIF", "TGA", "text", "empty"])
def test_other_formats_are_refused_under_any_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"")
    if kind == "text":
        path.write_text("<html>404</html>")
    elif kind != "empty":
        Image.fromarray(noise()).save(path, kind)
    with pytest.raises(DatasetError, match=f"{path}: expected a complete image .*JPEG.* damaged file or another kind"):
        read_photo(path)


def test_endings_of_what_is_read() -> None:
    assert {".jpg", ".jpeg", ".png", ".tif", ".webp", ".avif", ".jp2", ".bmp"} <= suffixes()
    assert not {".gif", ".eps", ".pdf", ".mpg"} & suffixes()


def test_sixteen_bits(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.zeros(SIZE, dtype=np.uint16))
    with pytest.raises(DatasetError, match=f"{path}: expected 8 bits a channel"):
        read_photo(path)
    with pytest.raises(DatasetError, match=f"{path}: expected class ids in one 8-bit channel"):
        read_label(path, "isprs")


# --- labels ---


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colour_coded_label(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(noise()).convert(mode).save(path)
    with pytest.raises(DatasetError, match=f"{path}: expected class ids .* found a colour-coded label"):
        read_label(path, "isprs")


def test_unknown_ids_are_named_beside_the_expected_ranges(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.full(SIZE, 19, dtype=np.uint8))
    with pytest.raises(DatasetError, match=r"\(0-18, 255\), found 19"):
        read_label(path, "cityscapes_train_ids")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1, exclude_max=True), classes=st.sampled_from([1, 2, 7]), kind=st.sampled_from(["ids", "red"]))
def test_truncated_png_never_gives_wrong_pixels(tmp_path: Path, cut: float, classes: int, kind: str) -> None:

    raw = np.random.default_rng(0).integers(7 - classes, 7, (40, 30), dtype=np.uint8)
    content = save_label(tmp_path / "whole.png", raw, "RGB16" if kind == "red" else None).read_bytes()
    path = tmp_path / "cut.png"
    path.write_bytes(content[: int(cut * len(content))])
    try:
        found = read_label(path, "isprs", kind)
    except DatasetError as error:
        assert str(path) in str(error) and "again" in str(error)
    else:  # only check sums or the end mark behind the pixels were lost
        assert np.array_equal(found, labels.lut("isprs")[raw])


@pytest.mark.parametrize("array", [noise(), noise(shape=SIZE), noise(shape=SIZE).astype(np.uint16)])
def test_red_ids_in_a_file_that_is_no_16_bit_rgb(tmp_path: Path, array: np.ndarray) -> None:
    path = save(tmp_path / "a.png", array)
    with pytest.raises(DatasetError, match=f"{path}: expected a 16-bit RGB label .* found uint.* as published"):
        read_label(path, "synthia", "red")


def test_red_ids_beyond_the_table(tmp_path: Path) -> None:

    for value, found in ((23, "0-22.* found 23"), (256, "expected a 16-bit RGB label .* red up to 256")):
        path = save_label(tmp_path / "a.png", np.full((*SIZE, 3), value, dtype=np.uint16), "16 bits")
        with pytest.raises(DatasetError, match=f"{path}: .*{found}"):
            read_label(path, "synthia", "red")


@given(seed=st.integers(0, 99), shift=st.integers(0, 127))
def test_threshold_recovers_what_exact_matching_loses(tmp_path_factory, seed: int, shift: int) -> None:
    raw = np.random.default_rng(seed).integers(0, 7, (9, 11), dtype=np.uint8)
    lost = np.random.default_rng(seed).integers(0, shift + 1, (9, 11, 3), dtype=np.uint8)
    lossy = np.where(PALETTE[raw] == 255, 255 - lost, lost).astype(np.uint8)
    path = save(tmp_path_factory.mktemp("label") / "label.tif", lossy)
    expected = labels.lut("isprs")[raw]
    assert np.array_equal(read_label(path, "isprs", "colours"), expected)
    ignored = np.where(lost.any(axis=-1), labels.IGNORE, expected)
    assert np.array_equal(read_label(path, "isprs", "exact colours"), ignored)


# --- windows of tiles ---


@few
@given(
    size=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    bands=st.sampled_from([3, 4]),
    strip=st.integers(1, 20_000),
    seed=st.integers(0, 99),
)
def test_uncompressed_pixels_are_read_where_they_lie(
    tmp_path: Path, copies: Path, size: tuple[int, int], bands: int, strip: int, seed: int
) -> None:
    pixels = noise(seed, (*size, bands))
    path = save(tmp_path / f"{size}-{bands}-{strip}-{seed}.tif", pixels, strip_size=strip)
    assert np.array_equal(read_window(path, bands=(bands - 1, 0, 1)), pixels[..., [bands - 1, 0, 1]])
    assert not copies.exists()


@pytest.mark.parametrize("kind", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "deflate in tiles", "planes"])
def test_a_compressed_tile_is_decoded_once_whatever_the_order(tmp_path: Path, copies: Path, kind: str) -> None:
    import tifffile

    paths = [tmp_path / f"{seed}.tif" for seed in range(3)]
    for seed, path in enumerate(paths):
        if kind == "deflate in tiles":
            tifffile.imwrite(path, noise(seed), tile=(32, 16), compression="zlib", photometric="rgb")
        elif kind == "planes":
            planes = np.moveaxis(noise(seed), -1, 0)
            tifffile.imwrite(path, planes, planarconfig="separate", compression="zlib", photometric="rgb")
        else:
            save(path, noise(seed), compression=kind)
    times = set()
    for number in (0, 1, 2, 0, 2, 1):
        reading._pixels.cache_clear()  # what a new process would not know
        assert np.array_equal(read_window(paths[number], (7, 3, 20, 31)), noise(number)[3:31, 7:20])
        times |= {(file.name, file.stat().st_mtime_ns) for file in copies.iterdir()}
    assert len(times) == len(list(copies.iterdir())) == 3


@pytest.mark.parametrize("same", ["size", "time"])
def test_the_copy_of_a_changed_tile_is_replaced(tmp_path: Path, copies: Path, same: str) -> None:
    path = save(tmp_path / "a.tif", noise(), compression="tiff_lzw")
    read_window(path)
    (before,), state = copies.iterdir(), path.stat()
    changed = noise(1, (*SIZE, 3) if same == "size" else (20, 20, 3))
    save(path, changed, compression="tiff_lzw")
    os.utime(path, ns=(state.st_mtime_ns, state.st_mtime_ns + (1 if same == "size" else 0)))
    assert np.array_equal(read_window(path), changed)
    assert [file == before for file in copies.iterdir()] == [False]


def test_a_torn_copy_is_made_anew_and_one_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, copies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.tif", noise(), compression="tiff_lzw")
    read_window(path)
    (copy,) = copies.iterdir()
    for left in (0, 1, 5000):
        copy.write_bytes(copy.read_bytes()[:left])
        reading._pixels.cache_clear()
        assert np.array_equal(read_window(path), noise())
    copy.unlink()
    reading._pixels.cache_clear()

    def full(_file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        read_window(path)
    assert not isinstance(caught.value, DatasetError) and list(copies.iterdir()) == []


def _sum(path: Path) -> int:
    return int(read_window(path).sum())


def test_processes_may_copy_at_once_and_tiles_of_one_name_do_not_meet(tmp_path: Path, copies: Path) -> None:
    paths = [tmp_path / f"{number}/a.tif" for number in (0, 1)]
    for number, path in enumerate(paths):
        path.parent.mkdir()
        save(path, noise(number, (900, 900, 3)), compression="tiff_lzw")
    with ProcessPoolExecutor(3, mp_context=get_context("fork")) as pool:
        sums = list(pool.map(_sum, paths * 3))
    assert sums == [int(noise(number, (900, 900, 3)).sum()) for number in (0, 1)] * 3
    assert len(list(copies.iterdir())) == 2


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
@pytest.mark.parametrize("left", [0.5, 0.97])
def test_a_truncated_tile_is_refused(tmp_path: Path, compression: str | None, left: float) -> None:
    path = save(tmp_path / "a.tif", noise(), compression=compression)
    read_window(path)  # once sound
    with path.open("r+b") as file:
        file.truncate(int(left * path.stat().st_size))
    with pytest.raises(DatasetError, match=f"{path}: expected a complete image, found a damaged file"):
        read_window(path)


def test_tiles_of_another_kind(tmp_path: Path) -> None:
    for array in (noise(shape=SIZE), np.zeros(SIZE, np.uint16)):
        path = save(tmp_path / "a.tif", array)
        with pytest.raises(DatasetError, match=f"{path}: expected 3 bands of 8 bits in colour, found {array.dtype}"):
            read_window(path)
    path = save(tmp_path / "b.tif", noise())
    with pytest.raises(DatasetError, match=f"{path}: expected 4 bands of 8 bits in colour, found 3"):
        read_window(path, bands=(3, 0, 1))
    path = save(tmp_path / "c.tif", noise(), tiffinfo={274: 3})
    with pytest.raises(DatasetError, match=f"{path}: expected the first row on top, found a turned tile"):
        read_window(path)
    path.write_bytes(b"II*\0 no tile")
    with pytest.raises(DatasetError, match=f"{path}: expected a complete image"):
        read_window(path)
    with pytest.raises(DatasetError, match="no such file"):
        read_window(tmp_path / "d.tif")


def test_windows_are_copies_that_travel(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", noise())
    window = read_window(path, (0, 0, 9, 8), (2, 1, 0))
    window[:] = 0
    assert window.shape == (8, 9, 3) and len(pickle.dumps(window)) < 1000
    assert np.array_equal(read_window(path, bands=(2, 1, 0)), noise()[..., ::-1])
