"""How many images a core loads in a second: decoding, label look-up and augmentation, each by itself.

Files are generated with the sizes of real ones. Figures are medians of processor time on one thread, so that other
work on the machine counts little; waiting for the disk does not count. `--check` exits with 1 where the project's
reader takes over 10 % longer than Pillow alone, where looking up the ids of a label takes longer than decoding its
photo, or where a window of a tile takes over a tenth of the time of decoding that tile.
"""

import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from table import arguments, finish, medians, turns

from gkd.data import reading
from gkd.data.labels import colours, lut, unknown_ids
from gkd.data.reading import read_label, read_photo, read_window
from gkd.data.tiles import windows
from gkd.data.transforms import DistillationView, LabelledView
from gkd.params import ROOT, load

SLACK, WINDOW_SHARE, TILE = 1.10, 0.1, 6000
RATIO, LOOK_UP = "decode / Pillow alone", "ids checked and mapped"


def photo(width: int, height: int, noise: int = 1) -> np.ndarray:
    """uint8 (height, width, 3): smooth shapes, edges and sensor noise, so that files have the size of photos."""
    rng = np.random.default_rng(0)
    total = np.zeros((height, width, 3), np.float32)
    for cells, strength in ((4, 60), (16, 40), (64, 20), (256, 16), (1024, 12)):
        coarse = rng.integers(0, 256, (cells // 2, cells, 3), dtype=np.uint8)
        total += strength / 128 * np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))
    return (total / 2 + rng.integers(0, noise + 1, total.shape)).clip(0, 255).astype(np.uint8)


def regions(width: int, height: int, values: int) -> np.ndarray:
    """uint8 (height, width): regions of ids 0 ... values - 1 with irregular borders."""
    smooth = photo(width, height, noise=1)[..., 0].astype(int)
    return (smooth // 8 % values).astype(np.uint8)


def milliseconds(times: dict[str, list[float]]) -> dict[str, float]:
    """The median of each part."""
    return {name: 1000 * seconds for name, seconds in medians(times).items()}


def photos(folder: Path, width: int, height: int, suffix: str, repeats: int) -> tuple[str, dict[str, float]]:
    """The parts of loading one photo of this size and its label."""
    image, label = folder / f"{width}.{suffix}", folder / f"{width}_label.png"
    Image.fromarray(photo(width, height)).save(image, quality=90)  # of JPEG alone
    Image.fromarray(regions(width, height, 34)).save(label)
    pixels, train_ids, ids = read_photo(image), read_label(label, "cityscapes"), np.array(Image.open(label))
    paper = load(ROOT / "profiles" / "paper.yaml")
    distil, learn = DistillationView(paper.domain_agnostic), LabelledView(paper.task_learning)
    parts = {
        "decode, Pillow alone": lambda: np.array(Image.open(image).convert("RGB")),
        "decode": lambda: read_photo(image),
        "decode of the label, ids checked and mapped": lambda: read_label(label, "cityscapes"),
        LOOK_UP: lambda: (unknown_ids(ids, "cityscapes"), lut("cityscapes")[ids]),
        "augment, distillation 512": lambda: distil(pixels),
        "augment, task learning 512": lambda: learn(pixels, train_ids),
    }
    if suffix == "jpg":
        parts["decode at half size (draft)"] = lambda: _draft(image, width // 2)
    megabytes = [path.stat().st_size / 1e6 for path in (image, label)]
    name = f"{width}x{height} {suffix.upper()} ({megabytes[0]:.2f} MB, label {megabytes[1]:.2f} MB)"
    times = turns(parts, repeats)
    pairs = zip(times["decode"], times["decode, Pillow alone"], strict=True)
    return name, {**milliseconds(times), RATIO: statistics.median(ours / plain for ours, plain in pairs)}


def _draft(path: Path, width: int) -> np.ndarray:
    image = Image.open(path)
    image.draft("RGB", (width, 1))
    assert image.width == width
    return np.array(image)


def tiles(folder: Path, compression: str | None, repeats: int) -> tuple[str, dict[str, float]]:
    """The parts of reading a random window of 512x512 and its label from tiles."""
    image, label = (folder / f"{name}_{compression}.tif" for name in ("image", "label"))
    palette = np.array([colours("isprs")[i] for i in range(7)], np.uint8)
    part = TILE // 4  # sixteen times the same part: quickly made, and no reader can profit from it
    Image.fromarray(np.tile(photo(part, part), (4, 4, 1))).save(image, compression=compression)
    Image.fromarray(np.tile(palette[regions(part, part, 7)], (4, 4, 1))).save(label, compression=compression)
    rng, boxes = np.random.default_rng(0), windows(TILE, TILE)

    def read(path: Path) -> object:
        box = boxes[rng.integers(len(boxes))]
        return read_window(path, box) if path == image else read_label(path, "isprs", "colours", box)

    start = time.process_time()
    read(image), read(label)
    first = 1000 * (time.process_time() - start)
    whole = {"decode both tiles, Pillow": lambda: [np.array(Image.open(path)) for path in (image, label)]}
    few = turns(whole, repeats)
    many = turns({"window": lambda: read(image), "label window": lambda: read(label)}, 10 * repeats)
    name = f"{TILE}x{TILE} TIFF {compression or 'uncompressed'} ({image.stat().st_size / 1e6:.0f} MB)"
    return name, {**milliseconds(few), "first window of a tile": first, **milliseconds(many)}


def limits(parts: dict[str, float]) -> list[str]:
    """What a training sample is made of, as lines."""
    lines = []
    label = "decode of the label, ids checked and mapped"
    for what, names in (
        ("distillation", ("decode", "augment, distillation 512")),
        ("task learning", ("decode", label, "augment, task learning 512")),
    ):
        total = sum(parts[name] for name in names)
        shares = ", ".join(f"{name} {100 * parts[name] / total:.0f} %" for name in names)
        lines.append(f"  {what}: {1000 / total:.1f} images/s per core ({shares})")
    return lines


def missed(table: dict[str, dict[str, float]]) -> list[str]:
    """The figures that `--check` refuses."""
    wrong = []
    for name, parts in table.items():
        if "window" in parts:
            part, limit = parts["window"] + parts["label window"], WINDOW_SHARE * parts["decode both tiles, Pillow"]
            wrong += [f"{name}: windows take {part:.0f} ms, over {limit:.0f}"] if part > limit else []
            continue
        if parts[RATIO] > SLACK:
            wrong.append(f"{name}: decode takes {parts[RATIO]:.2f} times as long as Pillow alone, over {SLACK}")
        if parts[LOOK_UP] > parts["decode, Pillow alone"]:
            wrong.append(f"{name}: looking up the ids takes longer than decoding the photo")
    return wrong


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    table: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        reading.ROOT = folder  # copies of compressed tiles go there
        sizes, few = ((2048, 1024, "png"), (1024, 512, "jpg"), (2048, 1024, "jpg")), max(5, options.repeats // 2)
        rows = [partial(photos, folder, *size, options.repeats) for size in sizes]
        for row in (*rows, partial(tiles, folder, None, few), partial(tiles, folder, "tiff_lzw", few)):
            name, parts = row()
            table[name] = parts
            print(name)
            for part, ms in parts.items():
                unit = f"ms {1000 / ms:9.1f} /s" if part != RATIO else ""
                print(f"  {part:<28} {ms:9.2f} {unit}")
            print("\n".join(limits(parts)) if "decode" in parts else "", flush=True)
    return finish(options, table, missed(table))


if __name__ == "__main__":
    sys.exit(main())
