"""Images a second of evaluation at the size of Cityscapes, against a plain loop over photos and windows.

PNG photos and labels of 2048x1024 are generated and read from the disk; ViT-S/16 of random weights under the light
decoder, protocol of Cityscapes. The ways take turns over blocks of photos, so that a slow minute meets all of them.
Equal results: in float64 the confusion matrices are the same; in float32 the windows of a photo are one batch, whose
products round differently, so a pixel between two classes of equal score may change sides. `--check` exits with 1 where
the fastest of our ways is less than 1.5 times as fast as the loop, where a float64 matrix differs, and where more than
one pixel in a hundred thousand changes sides.
"""

import multiprocessing
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from loading import photo, regions
from PIL import Image
from table import arguments, finish, show
from torch import Tensor, nn

from gkd.data.samples import SegmentationData
from gkd.data.workers import cores
from gkd.datasets import official
from gkd.models import Encoder
from gkd.segmentation.decoders import ConvDecoder, Segmentor
from gkd.segmentation.evaluation import evaluate
from gkd.segmentation.windows import Inference

WIDTH, HEIGHT, CLASSES, FASTER, MOVED = 2048, 1024, 19, 1.5, 1e-5
HOW = Inference(512, 341, bound=(1024, 512), multiple=16, batch_size=8)
Seconds = dict[str, float]


def domain(root: Path, count: int) -> SegmentationData:
    """`count` photos and labels in the layout of Cityscapes: one scene, turned about the vertical by another step."""
    image, label = photo(WIDTH, HEIGHT), regions(WIDTH, HEIGHT, CLASSES)
    label[:40] = 255
    for number in range(count):
        for folder, pixels, end in (("leftImg8bit", image, "leftImg8bit"), ("gtFine", label, "gtFine_labelTrainIds")):
            path = root / folder / "val" / "town" / f"town_{number:06}_000019_{end}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.roll(pixels, 37 * number, axis=1)).save(path)
    return official({"cityscapes": str(root)}).open_split("cityscapes", "val")


def segmentor(seed: int) -> Segmentor:
    """ViT-S/16 of random weights under the light decoder."""
    torch.manual_seed(seed)
    encoder = Encoder.create("vit_small_patch16_224", img_size=512)
    return Segmentor(encoder, ConvDecoder(encoder.dim, CLASSES, 128), frozen=True).eval()


@contextmanager
def clocked(parts: Seconds, name: str) -> Iterator[None]:
    """Adds the time that the block takes to a part."""
    start = time.perf_counter()
    yield
    parts[name] += time.perf_counter() - start


@torch.inference_mode()
def loop(model: Callable[[Tensor], Tensor], data: SegmentationData, parts: Seconds) -> np.ndarray:
    """What a first version does: one photo and one window after the other, scores at the size of the label."""
    confusion = np.zeros((CLASSES, CLASSES), np.int64)
    for sample in data.samples:
        with clocked(parts, "decode"):
            small = Image.open(sample.image).convert("RGB").resize(HOW.bound, Image.Resampling.BILINEAR)
            image = torch.from_numpy(np.array(small)).permute(2, 0, 1) / 255
            label = np.array(Image.open(sample.label))
        total, count = torch.zeros(1), torch.zeros(image.shape[1:])
        for x in (0, 341, 512):
            with clocked(parts, "model"):
                logits = model(image[None, :, :, x : x + 512])
            with clocked(parts, "resize and argmax"):
                if x == 0:
                    total = logits.new_zeros(CLASSES, *image.shape[1:])
                total[:, :, x : x + 512] += F.interpolate(logits, (512, 512), mode="bilinear", align_corners=False)[0]
                count[:, x : x + 512] += 1
        with clocked(parts, "resize and argmax"):
            whole = F.interpolate((total / count)[None], label.shape, mode="bilinear", align_corners=False)
            guess = whole[0].argmax(dim=0).numpy()
        with clocked(parts, "confusion"):
            valid = label != 255
            cells = CLASSES * label[valid].astype(np.int64) + guess[valid]
            confusion += np.bincount(cells, minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    return confusion


def ours(model: Segmentor, data: SegmentationData, _: Seconds, workers: int | None) -> np.ndarray:
    """`evaluate` with a number of loader processes, None = the default."""
    with loaders(workers):
        return evaluate(model, data, CLASSES, HOW)


@contextmanager
def loaders(count: int | None) -> Iterator[None]:
    """Sets GKD_WORKERS; None = the default."""
    with patch.dict(os.environ):
        os.environ.pop("GKD_WORKERS", None)
        os.environ.update({} if count is None else {"GKD_WORKERS": str(count)})
        yield


def side_by_side(model: Segmentor, data: SegmentationData, _: Seconds, processes: int) -> np.ndarray:
    """As the parameter `processes` does: each process of one thread takes every n-th photo."""
    with multiprocessing.get_context("fork").Pool(processes, torch.set_num_threads, (1,)) as pool:
        return sum(pool.map(partial(_share, model, data, processes), range(processes)))


def _share(model: Segmentor, data: SegmentationData, processes: int, index: int) -> np.ndarray:
    with loaders(0):
        return evaluate(model, data.subset(range(index, len(data), processes)), CLASSES, HOW)


def race(
    ways: dict[str, Callable[[SegmentationData, Seconds], object]], data: SegmentationData, block: int
) -> tuple[dict[str, Seconds], dict[str, list[object]]]:
    """Runs the ways in turn over blocks of photos: seconds by part and in all, and what each found, by block."""
    times = {name: defaultdict(float) for name in ways}
    found = {name: [] for name in ways}
    for start in range(0, len(data), block):
        rows = data.subset(range(start, min(start + block, len(data))))
        for name, way in ways.items():
            with clocked(times[name], "all"):
                found[name].append(way(rows, times[name]))
        print(f"  {start + len(rows)} of {len(data)} photos", file=sys.stderr, flush=True)
    return times, found


def doubles_agree(data: SegmentationData) -> bool:
    """Whether the loop and `evaluate` count the same in float64, where rounding decides no pixel."""
    model = segmentor(0).double()

    class Double(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return model(images.double())

    return np.array_equal(loop(Double(), data, defaultdict(float)), evaluate(Double(), data, CLASSES, HOW))


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--block", type=int, default=10, help="photos a turn")
    options = parser.parse_args()
    number = cores()
    torch.set_num_threads(number)
    model = segmentor(0)
    ways = {
        f"loop, {number} threads": partial(loop, model),
        f"ours, {number} threads": partial(ours, model, workers=None),
        f"ours, {number} threads, 1 worker": partial(ours, model, workers=1),
        f"ours, {number} processes of 1 thread": partial(side_by_side, model, processes=number),
    }
    with tempfile.TemporaryDirectory() as folder:
        data = domain(Path(folder), options.images)
        agree = doubles_agree(data.subset([0]))
        times, found = race(ways, data, options.block)
    first, *others = ways
    matrices = {name: sum(blocks) for name, blocks in found.items()}
    total, rows = int(matrices[first].sum()), {}
    for name, seconds in times.items():
        moved = int(np.abs(matrices[name] - matrices[first]).sum()) // 2
        each = {part: taken / len(data) for part, taken in seconds.items() if part != "all"}
        speed = {"images/s": len(data) / seconds["all"], "faster": times[first]["all"] / seconds["all"]}
        rows[name] = {**speed, "pixels moved": moved, "seconds an image": each}
    parts = ("decode", "model", "resize and argmax", "confusion")
    shown = (
        [name, f"{row['images/s']:.3f}", f"{row['faster']:.2f}"]
        + [f"{row['seconds an image'][part]:.3f}" if row["seconds an image"] else "" for part in parts]
        + [row["pixels moved"]]
        for name, row in rows.items()
    )
    show(["way", "images/s", "faster", *parts, f"of {total:,} pixels moved"], shown)
    print(f"float64: matrices {'equal' if agree else 'DIFFER'}")
    best = max(rows[name]["faster"] for name in others)
    wrong = [f"the fastest way is {best:.2f} times as fast as the loop, under {FASTER}"] if best < FASTER else []
    wrong += [] if agree else ["float64: the matrices differ"]
    far = {name: row["pixels moved"] for name, row in rows.items() if row["pixels moved"] > MOVED * total}
    wrong += [f"{name}: {moved} pixels moved" for name, moved in far.items()]
    return finish(options, {"rows": rows, "float64 equal": agree}, wrong)


if __name__ == "__main__":
    sys.exit(main())
