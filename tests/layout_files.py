"""Tiny datasets in their official layouts, how to write and to open them."""

import re
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gkd.data.reading import DatasetError
from gkd.data.samples import SegmentationData
from gkd.datasets import official

SIZE = (6, 8)  # height, width


def image_array(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def save(path: Path, array: np.ndarray, mode: str | None = None) -> Path:
    """Saves an array as PNG, JPEG or TIFF; mode "P" attaches a palette whose colours differ from the indices,
    mode "RGB16" gives a 16-bit PNG with the array in red and instance ids in green, as SYNTHIA has it, mode "16 bits"
    one of an array of three channels.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if mode == "16 bits":
        path.write_bytes(png16(array))
        return path
    if mode == "RGB16":
        channels = np.stack([array, np.full_like(array, 77), np.zeros_like(array)], axis=-1)
        path.write_bytes(png16(channels.astype(np.uint16)))
        return path
    image = Image.fromarray(array)
    if mode == "P":
        image.putpalette([(7 * i + 90) % 256 for i in range(768)])
        assert image.mode == "P"
    image.save(path)
    return path


def png16(channels: np.ndarray) -> bytes:
    """A 16-bit RGB PNG of a uint16 array (H, W, 3), which Pillow cannot write."""
    return _png([row.astype(">u2").tobytes() for row in channels], channels.shape[1], bits=16, colour=2)


def png_of_bits(values: np.ndarray, bits: int) -> bytes:
    """A grey PNG of `bits` a pixel of values (H, W) below 2**bits, W * bits whole bytes, which Pillow cannot write."""
    planes = (values[..., None] >> np.arange(bits - 1, -1, -1)) & 1  # (H, W, bits), the highest first
    rows = np.packbits(planes.reshape(len(values), -1), axis=1)
    return _png([row.tobytes() for row in rows], values.shape[1], bits=bits, colour=0)


def _png(lines: list[bytes], width: int, bits: int, colour: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, len(lines), bits, colour, 0, 0, 0)
    content = zlib.compress(b"".join(b"\0" + line for line in lines))
    parts = chunk(b"IHDR", header), chunk(b"IDAT", content), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@dataclass(frozen=True)
class Case:
    """One pair of an official layout. `ids` are stored, `train_ids` must come out."""

    name: str
    split: str
    image: str
    label: str
    mode: str
    ids: tuple[int, ...]
    train_ids: tuple[int, ...]


# Stored ids and the train ids that they become.
IDS = {
    "city": ((0, 7, 8, 11, 24, 33, 3, 29, 34), (255, 0, 1, 2, 11, 18, 255, 255, 255)),
    "train": ((0, 1, 2, 18, 255, 11), (0, 1, 2, 18, 255, 11)),
    "vistas": ((0, 2, 13, 24, 52, 65), (255, 1, 0, 0, 18, 255)),
    "isprs": ((0, 1, 2, 3, 4, 5, 6), (255, 0, 1, 2, 3, 4, 5)),
    "isprs-rescue": ((0, 1, 2, 3, 4, 5, 6), (255, 0, 1, 2, 2, 3, 4)),
    "rescuenet": (tuple(range(11)), (255, 4, 1, 1, 1, 1, 3, 0, 0, 2, 4)),
    "synthia": ((0, 1, 3, 10, 13, 17, 21, 22), (255, 10, 0, 11, 255, 12, 3, 255)),
    "urbansyn": ((0, 11, 18, 19, 255), (0, 11, 18, 255, 255)),
    "camvid": ((0, 3, 5, 8, 10, 11), (0, 3, 5, 8, 10, 255)),
}
# Dataset, split, image, label, mode of the label, ids.
TABLE = """
gtav all images/00001.png labels/00001.png P city
cityscapes val leftImg8bit/val/ulm/ulm_0_19_leftImg8bit.png gtFine/val/ulm/ulm_0_19_gtFine_labelIds.png L city
cityscapes train leftImg8bit/train/ulm/ulm_0_1_leftImg8bit.png gtFine/train/ulm/ulm_0_1_gtFine_labelTrainIds.png L train
bdd100k val images/10k/val/a1-b2.jpg labels/sem_seg/masks/val/a1-b2.png L train
bdd100k val seg/images/val/a1-b2.jpg seg/labels/val/a1-b2_train_id.png L train
mapillary val validation/images/k_-1.jpg validation/v1.2/labels/k_-1.png P vistas
mapillary val validation/images/k_-1.jpg validation/labels/k_-1.png P vistas
acdc night_val rgb_anon/night/val/GO/GO_frame_1_rgb_anon.png gt/night/val/GO/GO_frame_1_gt_labelTrainIds.png L train
acdc snow_val rgb_anon/snow/val/GO/GO_frame_1_rgb_anon.png gt/snow/val/GO/GO_frame_1_gt_labelTrainIds.png L train
acdc fog_val rgb_anon/fog/val/GO/GO_frame_1_rgb_anon.png gt/fog/val/GO/GO_frame_1_gt_labelTrainIds.png L train
acdc rain_val rgb_anon/rain/val/GO/GO_frame_1_rgb_anon.png gt/rain/val/GO/GO_frame_1_gt_labelTrainIds.png L train
potsdam_rgb train RGB/img_dir/train/2_10_0_0_512_512.png RGB/ann_dir/train/2_10_0_0_512_512.png L isprs
potsdam_irrg val IRRG/img_dir/val/2_13_0_0_512_512.png IRRG/ann_dir/val/2_13_0_0_512_512.png P isprs
potsdam_rgb_exact fit RGB/img_dir/train/2_10_0_0_512_512.png RGB/ann_dir/train/2_10_0_0_512_512.png L isprs
potsdam_rgb_rescue fit RGB/img_dir/train/2_10_0_0_512_512.png RGB/ann_dir/train/2_10_0_0_512_512.png L isprs-rescue
potsdam_irrg_rescue fit IRRG/img_dir/train/2_10_0_0_512_512.png IRRG/ann_dir/train/2_10_0_0_512_512.png L isprs-rescue
vaihingen val img_dir/val/area2_0_0_512_512.png ann_dir/val/area2_0_0_512_512.png L isprs
rescuenet test test/test-org-img/10778.jpg test/test-label-img/10778_lab.png L rescuenet
synthia all RGB/0000001.png GT/LABELS/0000001.png RGB16 synthia
urbansyn all rgb/rgb_0001.png ss/ss_0001.png L urbansyn
camvid day train/images/0006R0_f00930.jpg train/labels/0006R0_f00930.png L camvid
camvid dusk train/images/0001TP_006690.png train/labels/0001TP_006690.png L camvid
camvid val val/0016E5_07959.png valannot/0016E5_07959.png L camvid
dev_street val street/images/00000.png street/labels/00000.png L train
dev_weather val weather/images/00000.png weather/labels/00000.png L train
dev_overhead val overhead/images/00000.png overhead/labels/00000.png L isprs
"""
CASES = [Case(*words[:5], *IDS[words[5]]) for words in map(str.split, TABLE.strip().splitlines())]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.split}-{case.label[:6]}")
IMAGE, LABEL = "img_dir/val/area{}_0_0_512_512.png", "ann_dir/val/area{}_0_0_512_512.png"  # of Vaihingen


def write_case(root: Path, case: Case, size: tuple[int, int] = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Writes the pair; returns the label as stored and as it must be read (at full size)."""
    save(root / case.image, image_array(1, size))
    raw = np.resize(np.array(case.ids, dtype=np.uint8), size)
    save(root / case.label, raw, case.mode)
    return raw, np.resize(np.array(case.train_ids, dtype=np.uint8), size)


def write_vaihingen(root: Path, ids: Iterable[int]) -> Path:
    """Crops of Vaihingen val, one for each id, which fills its label."""
    for number, value in enumerate(ids):
        save(root / IMAGE.format(number), image_array(number))
        save(root / LABEL.format(number), np.full(SIZE, value, dtype=np.uint8))
    return root


def open_split(name: str, split: str, root: Path | str) -> SegmentationData:
    """A split of an official dataset that lies in `root`."""
    return official({official().layout(name).folder: str(root)}).open_split(name, split)


def problem(name: str, split: str, root: Path) -> str | None:
    """What the catalogue says of it."""
    return official({official().layout(name).folder: str(root)}).problem(name, split)


def refused(*fragments: object):
    """Expects a DatasetError whose message holds the fragments in this order."""
    return pytest.raises(DatasetError, match="(?s)" + ".*".join(re.escape(str(fragment)) for fragment in fragments))
