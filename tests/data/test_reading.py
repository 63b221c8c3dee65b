"""The door for images: photos, labels, windows of tiles, and what is said of files that are none of these."""

import os
import pickle
import re
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layout_files import image_array, png16, png_of_bits
from PIL import ExifTags, Image

from gkd.data import labels, reading
from gkd.data.reading import DatasetError, check_sizes, read_label, read_photo, read_window, size_of, suffixes
from gkd.params import ROOT

SIZE = (70, 50)
PALETTE = np.array([labels.colours("isprs")[i] for i in range(7)], dtype=np.uint8)
shared_folder = settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])


def noise(seed: int = 0, shape: tuple[int, ...] = (*SIZE, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, array: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def refused(path: Path, message: str):
    return pytest.raises(DatasetError, match=f"{path}: {message}")


@pytest.fixture(autouse=True)
def copies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where uncompressed copies of tiles go."""
    monkeypatch.setattr(reading, "ROOT", tmp_path)
    reading._pixels.cache_clear()
    return tmp_path / ".scratch/tiles"


def test_no_other_file_of_the_package_opens_images() -> None:
    opening = re.compile(r"Image\.open\(|(import|from) (tifffile|imagecodecs)\b|\bimread\(")
    found = [file for file in (ROOT / "gkd").rglob("*.py") if opening.search(file.read_text())]
    assert found == [ROOT / "gkd/data/reading.py"]


# --- photos ---


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "CMYK", "LA", "RGBA"])
def test_photos_of_every_mode_become_rgb(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(noise()).convert(mode)
    image.save(path := tmp_path / ("a.tif" if mode == "CMYK" else "a.png"))
    for found in (read_photo(path), read_photo(Path("inner.png"), BytesIO(path.read_bytes()))):
        assert np.array_equal(found, np.array(image.convert("RGB")))


def test_photos_are_turned_on_request_only_and_then_are_alone_in_their_file(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # a quarter turn
    path = save(tmp_path / "a.png", noise(), exif=exif)
    assert np.array_equal(read_photo(path), noise())
    assert np.array_equal(read_photo(path, upright=True), np.rot90(noise(), 3))
    path = save(tmp_path / "a.webp", noise(), save_all=True, append_images=[Image.fromarray(noise(1))])
    assert read_photo(path).shape == (*SIZE, 3)
    with refused(path, "2 pictures in one file"):
        read_photo(path, upright=True)


@pytest.mark.parametrize("kind", ["EPS", "GIF", "TGA", "text", "empty"])
def test_other_formats_are_refused_under_any_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_text("<html>404</html>" if kind == "text" else "")
    if kind.isupper():
        save(path, noise(), format=kind)
    with refused(path, "expected a complete image .*JPEG.* damaged file or another kind"):
        read_photo(path)
    assert {".jpg", ".jpeg", ".png", ".tif", ".webp", ".avif", ".jp2", ".bmp"} <= suffixes()
    assert not {".gif", ".eps", ".tga", ".pdf", ".mpg"} & suffixes()


# --- labels ---


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_labels_have_one_channel(tmp_path: Path, mode: str) -> None:
    Image.fromarray(noise()).convert(mode).save(path := tmp_path / "a.png")
    with refused(path, f"expected class ids in one channel .* found .*{mode}"):
        read_label(path, "isprs")


@pytest.mark.parametrize("kind", ["grey PNG", "RGB PNG", "RGB TIFF"])
def test_photos_have_8_bits_a_channel(tmp_path: Path, kind: str) -> None:
    """Of the colours of 16-bit files Pillow 12 keeps the higher byte, and says nothing."""
    colours, path = (np.arange(18).reshape(2, 3, 3) * 40).astype(np.uint16), tmp_path / f"a.{kind[-4:].strip().lower()}"
    if kind == "RGB TIFF":
        tifffile.imwrite(path, colours, photometric="rgb")
    elif kind == "RGB PNG":
        path.write_bytes(png16(colours))
    else:
        save(path, colours[..., 0])
    with refused(path, "expected 8 bits a channel, found mode .*16"):
        read_photo(path)


@pytest.mark.parametrize("bits", [1, 2, 4, 16, 32])
def test_ids_of_any_number_of_bits_are_those_that_were_stored(tmp_path: Path, bits: int) -> None:
    """Pillow spreads the values of 2 and 4 bits over 0 to 255, as a grey picture would show them."""
    ids = np.random.default_rng(0).integers(0, min(2**bits, 7), (5, 8), dtype=np.uint8)
    path = tmp_path / f"a.{'tif' if bits == 32 else 'png'}"
    if bits > 4:
        save(path, ids.astype(np.int32 if bits == 32 else np.uint16))
    else:
        path.write_bytes(png_of_bits(ids, bits))
    assert np.array_equal(read_label(path, "isprs"), labels.lut("isprs")[ids])
    if bits > 4:
        save(path, np.full((5, 8), 256, np.int32 if bits == 32 else np.uint16))
        with refused(path, "expected class ids up to 255, found 256 to 256"):
            read_label(path, "isprs")


@pytest.mark.parametrize(("name", "found"), [("a.jpg", "JPEG"), ("a.jp2", "JPEG2000"), ("a.tif", "jpeg")])
def test_labels_in_a_lossy_file_are_refused(tmp_path: Path, name: str, found: str) -> None:
    """Rounded ids along edges are often ids of the table, too."""
    options = {"compression": "jpeg"} if name == "a.tif" else {}
    with refused(save(tmp_path / name, noise(shape=SIZE), **options), f"expected .* a lossless file, found {found}"):
        read_label(tmp_path / name, "isprs")


def test_labels_of_one_bit_in_other_formats_than_png_are_refused(tmp_path: Path) -> None:
    """A PBM stores black as 1."""
    Image.fromarray(noise(shape=SIZE) > 99).save(path := tmp_path / "a.pbm", format="PPM")
    with refused(path, "expected class ids in one channel .* found another kind of image .1."):
        read_label(path, "isprs")


@shared_folder
@given(cut=st.floats(0, 1, exclude_max=True), classes=st.sampled_from([1, 2, 7]), kind=st.sampled_from(["ids", "red"]))
def test_truncated_png_never_gives_wrong_pixels(tmp_path: Path, cut: float, classes: int, kind: str) -> None:
    raw = np.random.default_rng(0).integers(7 - classes, 7, (40, 30), dtype=np.uint8)
    path = save(tmp_path / "cut.png", raw)
    content = png16(np.stack([raw, raw + 70, raw], axis=-1)) if kind == "red" else path.read_bytes()
    path.write_bytes(content[: int(cut * len(content))])
    try:
        found = read_label(path, "isprs", kind)
    except DatasetError as error:
        assert str(path) in str(error) and "again" in str(error)
    else:  # only check sums or the end mark behind the pixels were lost
        assert np.array_equal(found, labels.lut("isprs")[raw])


@given(back=st.integers(13, 60), bit=st.integers(0, 7))
@shared_folder
def test_a_flipped_bit_in_the_pixels_of_a_png_is_told(tmp_path: Path, back: int, bit: int) -> None:
    """Pillow 13 loads them without a look at their checksum."""
    path = save(tmp_path / "flipped.png", np.random.default_rng(0).integers(0, 7, SIZE, dtype=np.uint8))
    content = bytearray(path.read_bytes())
    content[-back] ^= 1 << bit  # before the 12 bytes of the end mark
    path.write_bytes(content)
    for read in (lambda: read_label(path, "isprs"), lambda: read_photo(path)):
        with refused(path, "expected a complete image, found a damaged file .*; copy or download it again"):
            read()
    with refused(Path("inner.png"), "expected a complete image"):
        read_photo(Path("inner.png"), BytesIO(content))


def with_palette(path: Path, ids: np.ndarray, colours: list) -> Path:
    image = Image.fromarray(ids)
    image.putpalette(np.array(colours, np.uint8).tobytes())
    image.save(path)
    return path


def test_a_label_whose_palette_was_sorted_is_refused(tmp_path: Path) -> None:
    """PNG optimisers keep the colour of each pixel, not its id."""
    ids, own = np.repeat(np.arange(7, dtype=np.uint8), 6).reshape(6, 7), list(labels.colours("isprs").values())
    path = with_palette(tmp_path / "a.png", 6 - ids, own[::-1])
    with refused(path, "expected ids in the colours .*'isprs', found 0, 1, 2, 4, 5 in those of other .* in grey"):
        read_label(path, "isprs")
    # As GTAV has it: road, sky, and `static` in a colour of its own.
    path = with_palette(tmp_path / "a.png", ids // 3, [(70, 130, 180), (128, 64, 128), (20, 20, 20)])
    with refused(path, "expected .* found 0, 1 in those of other classes"):
        read_label(path, "cityscapes")


@pytest.mark.parametrize("kind", ["own", "grey", "black", "two colours", "VOC", "of a class alone"])
def test_other_palettes_say_nothing(tmp_path: Path, kind: str) -> None:
    table, ids = "camvid", np.array([[0, 1, 3, 7]] * 4, dtype=np.uint8)
    own = list(labels.colours(table).values())
    voc = [tuple(sum(((i >> (3 * k + c)) & 1) << (7 - k) for k in range(3)) for c in range(3)) for i in range(21)]
    palettes = {"own": own, "grey": [(i, i, i) for i in range(256)], "black": [(0, 0, 0)] * 12, "VOC": voc}
    palettes |= {"two colours": [(0, 0, 0), own[0]], "of a class alone": [own[3], *own[1:]]}
    ids = ids.clip(max=1) if kind == "two colours" else ids
    path = with_palette(tmp_path / "a.png", ids, palettes[kind])
    assert np.array_equal(read_label(path, table), labels.lut(table)[ids])


def test_red_ids_in_a_file_that_is_no_16_bit_rgb_or_beyond_the_table(tmp_path: Path) -> None:
    red = [png16(np.full((*SIZE, 3), value, dtype=np.uint16)) for value in (256, 23)]
    others = [save(tmp_path / "b.png", a).read_bytes() for a in (noise(), noise(shape=SIZE), np.zeros(SIZE, np.uint16))]
    path, published = tmp_path / "a.png", "expected a 16-bit RGB label .* as published"
    for content in (*others, *red):
        path.write_bytes(content)
        with refused(path, published if content != red[1] else r"expected ids .*\(0-22\), found 23"):
            read_label(path, "synthia", "red")


def test_a_photo_in_the_place_of_a_coloured_label_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    label = np.where(rng.random((20, 20, 3)) < 0.5, 40, 215).astype(np.uint8)  # stored with heavy losses
    label[:4] = rng.integers(64, 192, (4, 20, 3))
    assert read_label(save(tmp_path / "label.tif", label), "isprs", "colours").shape == (20, 20)
    label[:8] = rng.integers(64, 192, (8, 20, 3))
    with refused(tmp_path / "photo.tif", "expected a label of full colours, found 40% .*as in a photo; download it"):
        read_label(save(tmp_path / "photo.tif", label), "isprs", "colours")


@given(seed=st.integers(0, 99), shift=st.integers(0, 63))  # what is further from full colours counts as a photo
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


@shared_folder
@given(st.integers(1, 80), st.integers(1, 80), st.sampled_from([3, 4]), st.integers(1, 20_000))
def test_uncompressed_pixels_are_read_where_they_lie(
    tmp_path: Path, copies: Path, height: int, width: int, bands: int, strip: int
) -> None:
    pixels = noise(strip, (height, width, bands))
    path = save(tmp_path / f"{height}-{width}-{bands}-{strip}.tif", pixels, strip_size=strip)
    found = read_window(path, bands=(bands - 1, 0, 1))
    assert np.array_equal(found, pixels[..., [bands - 1, 0, 1]]) and not copies.exists()
    window = read_window(path, (0, 0, min(width, 9), min(height, 8)))
    window[:] = 0  # a copy, which takes none of the tile with it
    assert len(pickle.dumps(window)) < 1000 and np.array_equal(read_window(path, bands=(bands - 1, 0, 1)), found)


@pytest.mark.parametrize("kind", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "tiles", "planes"])
def test_a_compressed_tile_is_decoded_once_whatever_the_order(tmp_path: Path, copies: Path, kind: str) -> None:
    for seed in range(3):
        path, options = tmp_path / f"{seed}.tif", {"compression": "zlib", "photometric": "rgb"}
        if kind == "tiles":
            tifffile.imwrite(path, noise(seed), tile=(32, 16), **options)
        elif kind == "planes":
            tifffile.imwrite(path, np.moveaxis(noise(seed), -1, 0), planarconfig="separate", **options)
        else:
            save(path, noise(seed), compression=kind)
    times = set()
    for seed in (0, 1, 2, 0, 2, 1):
        reading._pixels.cache_clear()  # what a new process would not know
        assert np.array_equal(read_window(tmp_path / f"{seed}.tif", (7, 3, 20, 31)), noise(seed)[3:31, 7:20])
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


def test_a_torn_copy_is_made_anew(tmp_path: Path, copies: Path) -> None:
    path = save(tmp_path / "a.tif", noise(), compression="tiff_lzw")
    read_window(path)
    (copy,) = copies.iterdir()
    for left in (0, 1, 5000):
        copy.write_bytes(copy.read_bytes()[:left])
        reading._pixels.cache_clear()
        assert np.array_equal(read_window(path), noise())


def _sum(path: Path) -> int:
    return int(read_window(path).sum())


def test_processes_may_copy_at_once_and_tiles_of_one_name_do_not_meet(tmp_path: Path, copies: Path) -> None:
    big = [noise(seed, (300, 300, 3)) for seed in (0, 1)]
    paths = [save(tmp_path / f"{seed}/a.tif", big[seed], compression="tiff_lzw") for seed in (0, 1)]
    with ProcessPoolExecutor(3, mp_context=get_context("fork")) as pool:
        assert list(pool.map(_sum, paths * 3)) == [int(array.sum()) for array in big] * 3
    assert len(list(copies.iterdir())) == 2


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_a_truncated_tile_and_one_of_another_kind_are_refused(tmp_path: Path, compression: str | None) -> None:
    for left in (0.5, 0.97):
        path = save(tmp_path / "a.tif", noise(), compression=compression)
        read_window(path)  # once sound
        os.truncate(path, int(left * path.stat().st_size))
        with refused(path, "expected a complete image, found a damaged file"):
            read_window(path)
    for array in (noise(shape=SIZE), np.zeros(SIZE, np.uint16)):
        with refused(save(path, array, compression=compression), f"expected 3 bands .* in colour, found {array.dtype}"):
            read_window(path)
    with refused(save(path, noise(), compression=compression), "expected 4 bands of 8 bits in colour, found 3"):
        read_window(path, bands=(3, 0, 1))
    with refused(save(path, noise(), tiffinfo={274: 3}), "expected the first row on top, found a turned tile"):
        read_window(path)
    with refused(tmp_path / "b.tif", "expected an image, found no such file"):
        read_window(tmp_path / "b.tif")


def test_what_is_larger_than_pillow_reads_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A DecompressionBombError of Pillow 12 is neither an OSError nor a ValueError; here at a limit of ten pixels."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    file = save(tmp_path / "a.png", image_array(0))
    for read in (read_photo, size_of):
        with refused(file, "expected at most 20 pixels, found a larger one .*; cut it into tiles"):
            read(file)


def test_a_label_that_fits_a_photo_as_it_is_shown_is_told_apart(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(image_array(0, (20, 30))).save(tmp_path / "a.jpg", exif=exif)
    save(tmp_path / "a.png", np.zeros((30, 20), np.uint8))
    told = "expected the size of its image .*, 30x20, found 20x30; its EXIF turns the image: store it as it is shown"
    with refused(tmp_path / "a.png", told):
        check_sizes(tmp_path / "a.jpg", tmp_path / "a.png")
