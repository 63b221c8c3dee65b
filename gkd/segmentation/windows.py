"""Sliding-window inference (protocol section 4).

A photo is resized to the benchmark's bound and cut into overlapping windows, whose per-pixel class scores are
averaged as they come from the decoder (no softmax). The average is resized to the size of the label, which is
never resized itself, and the class map is its argmax.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

BAND = 64  # rows that are brought to the label's size at a time: their scores then stay in a CPU's cache


@dataclass(frozen=True)
class Inference:
    """How the photos of a domain become class maps.

    Attributes:
        window: side of the square windows, in pixels.
        stride: from one window to the next.
        bound: size (width, height) that photos are fitted into, None = their own size.
        multiple: windows are padded to multiples of this: the patch size.
        batch_size: windows at a time.
        fill: colour of the padding.
        flip: average with the mirrored photo. Off in the published protocol.
        scales: average over these multiples of the evaluation size. (1.0,) in the published protocol.
    """

    window: int
    stride: int
    bound: tuple[int, int] | None = None
    multiple: int = 1
    batch_size: int = 1
    fill: tuple[float, ...] = (0.0, 0.0, 0.0)
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)


def window_starts(length: int, size: int, stride: int) -> list[int]:
    """First pixels of the windows along a side of `length` pixels: 0, stride, ..., the last at length - size.

    A side that is no longer than the window has the one start 0.
    """
    if min(length, size, stride) < 1:
        raise ValueError(f"length, window and stride must be positive, got {length}, {size} and {stride}")
    if stride > size:
        raise ValueError(f"stride {stride} exceeds the window {size}: pixels between windows would get no score")
    last = max(length - size, 0)
    return [*range(0, last, stride), last]


def slide(
    model: Callable[[Tensor], Tensor],
    image: Tensor,
    window: int,
    stride: int,
    multiple: int = 1,
    batch_size: int = 1,
    fill: Sequence[float] = (0, 0, 0),
) -> Tensor:
    """Class scores (K, H, W) of one photo (3, H, W), averaged over overlapping windows: the bands of `slide_bands`."""
    return torch.cat(list(slide_bands(model, image, window, stride, multiple, batch_size, fill)), dim=1)


def slide_bands(
    model: Callable[[Tensor], Tensor],
    image: Tensor,
    window: int,
    stride: int,
    multiple: int = 1,
    batch_size: int = 1,
    fill: Sequence[float] = (0, 0, 0),
) -> Iterator[Tensor]:
    """Class scores of one photo (3, H, W), averaged over overlapping windows, from the top: bands (K, rows, W).

    `model` maps (B, 3, h, w) to (B, K, h', w') at any resolution; its scores are resized bilinearly to the
    window, in at least float32. A side shorter than the window gives a window of that side. Windows are padded with
    the colour `fill` at the bottom and on the right to the next multiple of `multiple`, and the scores of the padding
    are dropped. `multiple` is the patch size; a backbone with a fixed input size takes `multiple=window`.

    A band is given out as soon as no further window meets it, so that one row of windows is held at a time: 19 classes
    at 20 megapixels would take 1.5 GB.
    """
    height, width = image.shape[-2:]
    h, w = min(window, height), min(window, width)
    full = image.new_tensor(fill).view(3, 1, 1).repeat(1, h + -h % multiple, w + -w % multiple)  # (3, h+, w+)
    corners = [(y, x) for y in window_starts(height, window, stride) for x in window_starts(width, window, stride)]
    first, total, count = 0, None, None  # the sums held begin at row `first` of the photo
    for number, chunk in enumerate(_chunks(corners, batch_size), 1):
        crops = full.repeat(len(chunk), 1, 1, 1)  # (B, 3, h+, w+)
        for crop, (y, x) in zip(crops, chunk, strict=True):
            crop[:, :h, :w] = image[:, y : y + h, x : x + w]
        logits = model(crops)  # (B, K, h', w')
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        logits = F.interpolate(logits, size=crops.shape[-2:], mode="bilinear", align_corners=False)[..., :h, :w]
        if total is None:
            total = logits.new_zeros(logits.shape[1], 0, width)  # (K, rows, W)
            count = logits.new_zeros(0, width)
        more = chunk[-1][0] + h - first - len(count)
        total, count = F.pad(total, (0, 0, 0, more)), F.pad(count, (0, 0, 0, more))
        for (y, x), scores_of_window in zip(chunk, logits, strict=True):
            total[:, y - first : y - first + h, x : x + w] += scores_of_window
            count[y - first : y - first + h, x : x + w] += 1
        following = corners[number * batch_size :]
        done = (following[0][0] if following else height) - first
        if done:
            yield total[:, :done] / count[:done]
            first, total, count = first + done, total[:, done:].clone(), count[done:].clone()


def keep_ratio_size(width: int, height: int, bound: tuple[int, int]) -> tuple[int, int]:
    """Size (width, height) of a photo resized to `bound` with its aspect ratio kept.

    scale = min(long bound / long side, short bound / short side), so the order within `bound` does not matter
    and portraits fit the turned bound; sides are rounded half up and never below one pixel.
    """
    scale = min(max(bound) / max(width, height), min(bound) / min(width, height))
    return max(int(width * scale + 0.5), 1), max(int(height * scale + 0.5), 1)


class View(NamedTuple):
    """A photo as it is evaluated.

    Attributes:
        images: uint8 (h, w, 3), one of each of the scales.
        size: the evaluation size, (height, width).
    """

    images: list[Tensor]
    size: tuple[int, int]

    def to(self, device: str | torch.device) -> View:
        """On another device; from pinned memory without waiting. A DataLoader makes a list of `size`: a tuple again."""
        return View([image.to(device, non_blocking=True) for image in self.images], tuple(self.size))


def view(photo: np.ndarray, how: Inference) -> View:
    """A photo (H, W, 3) uint8 at the sizes that `how` asks for: what needs no model, so that workers can do it."""
    picture = Image.fromarray(photo)
    width, height = picture.size if how.bound is None else keep_ratio_size(*picture.size, how.bound)
    images = []
    for scale in how.scales:
        sides = max(int(width * scale + 0.5), 1), max(int(height * scale + 0.5), 1)
        resized = picture if picture.size == sides else picture.resize(sides, Image.Resampling.BILINEAR)
        images.append(torch.from_numpy(np.array(resized)))
    return View(images, (height, width))


def predict(
    model: Callable[[Tensor], Tensor],
    photo: np.ndarray,
    size: tuple[int, int],
    how: Inference,
    device: str | torch.device = "cpu",
) -> np.ndarray:
    """Class map `size` = (height, width) int64 of one photo (H, W, 3) uint8, see `class_map`."""
    return class_map(model, view(photo, how).to(device), size, how).cpu().numpy()


@torch.inference_mode()
def class_map(model: Callable[[Tensor], Tensor], photo: View, size: tuple[int, int], how: Inference) -> Tensor:
    """Class map `size` = (height, width) int64 of one photo, on its device, which is not waited for.

    Memory is that of the scores of a row of windows; with `flip` or several scales, of the scores at the evaluation
    size, K x h x w floats. At the label's size they are never whole.
    """
    total: Tensor | None = None
    for pixels in photo.images:
        image = pixels.permute(2, 0, 1) / 255  # (3, h, w)
        if how.scales == (1.0,) and not how.flip:
            bands = slide_bands(model, image, how.window, how.stride, how.multiple, how.batch_size, how.fill)
            return argmax_of_bands(bands, photo.size, size)
        for mirrored in (False, True)[: 1 + how.flip]:
            seen = image.flip(-1) if mirrored else image
            part = slide(model, seen, how.window, how.stride, how.multiple, how.batch_size, how.fill)  # (K, h, w)
            part = part.flip(-1) if mirrored else part
            if part.shape[-2:] != photo.size:
                part = F.interpolate(part[None], photo.size, mode="bilinear", align_corners=False)[0]
            total = part if total is None else total.add_(part)
    return argmax_of_bands([total], photo.size, size)


def argmax_of_bands(
    bands: Iterable[Tensor], shape: tuple[int, int], size: tuple[int, int], at_once: int = BAND
) -> Tensor:
    """Argmax (H, W) over the classes of scores resized bilinearly to `size` = (H, W).

    As `F.interpolate(..., align_corners=False).argmax` of the scores (K, h, w), `shape` = (h, w), that come as `bands`
    (K, rows, w) from the top. `at_once` rows are resized at a time: whole, 19 classes at 20 megapixels would take
    1.5 GB. Rows are blended first, as the source of such a piece is not a whole number of rows.
    """
    if shape == tuple(size):
        return torch.cat([_first_best(band) for band in bands])
    centres = ((torch.arange(size[0]) + 0.5) * (shape[0] / size[0]) - 0.5).clamp(min=0)
    above = centres.long().clamp(max=shape[0] - 1)
    below = (above + 1).clamp(max=shape[0] - 1)
    held, first, found = None, 0, []  # scores from row `first` on; class maps of the rows above
    for band in bands:
        held = band if held is None else torch.cat([held, band], dim=1)
        weight = (centres - above).to(held)[:, None]  # (H, 1)
        start, ready = sum(map(len, found)), int((below < first + held.shape[1]).sum())
        for rows in torch.arange(start, ready).split(at_once) if ready > start else ():
            w = weight[rows.to(held.device)]
            top, bottom = ((index[rows] - first).to(held.device) for index in (above, below))
            # index_select copies whole rows: several times as fast as indexing on a CPU, with the same bits.
            blended = held.index_select(1, top).mul_(1 - w)  # (K, rows, w)
            blended += held.index_select(1, bottom).mul_(w)
            wide = F.interpolate(blended[None], (len(rows), size[1]), mode="bilinear", align_corners=False)
            found.append(_first_best(wide[0]))
        if ready < size[0]:
            drop = min(int(above[ready]) - first, held.shape[1])  # rows above what the next one is blended from
            held, first = held[:, drop:].clone(), first + drop
    return torch.cat(found)


def _first_best(scores: Tensor) -> Tensor:
    """Argmax over the first dimension, the first of equals: `argmax` itself takes three times as long on a CPU."""
    return scores.max(dim=0).indices


def _chunks(items: list, size: int) -> Iterator[list]:
    return (items[i : i + size] for i in range(0, len(items), size))
