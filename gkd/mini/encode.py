"""Images and label files as the official datasets store them."""

import csv
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image

JPEG_QUALITY = 92


def label_table(name: str) -> list[dict[str, str]]:
    """Rows (id, name, train_id, r, g, b) of a class table of `gkd.data.labels`, such as "mapillary"."""
    text = (resources.files("gkd.data") / "tables" / f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def palette(table: str) -> list[int]:
    """The 768 values of a PNG palette that shows every id of a table in its colour, and black elsewhere."""
    colours = np.zeros((256, 3), np.uint8)
    for row in label_table(table):
        colours[int(row["id"])] = int(row["r"]), int(row["g"]), int(row["b"])
    return colours.ravel().tolist()


def with_boundary(label: np.ndarray) -> np.ndarray:
    """ISPRS train ids (H, W) to raw ids: 1..6, and 0 on the pixel before each change of class.

    The noBoundary labels leave out a 6 px wide strip along class borders: about one pixel at 1/8 size.
    """
    raw = label + 1
    raw[:, :-1][label[:, :-1] != label[:, 1:]] = 0
    raw[:-1][label[:-1] != label[1:]] = 0
    return raw


def save_image(path: Path, image: np.ndarray) -> None:
    """Write uint8 RGB (H, W, 3) as PNG, or as JPEG if the suffix says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=JPEG_QUALITY)  # of JPEG alone


def save_label(path: Path, ids: np.ndarray, colours: list[int] | None = None) -> None:
    """Write uint8 ids (H, W) as PNG: mode "P" if a palette is given, else "L"."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(ids)
    if colours is not None:
        picture.putpalette(colours)
    picture.save(path, "PNG")
