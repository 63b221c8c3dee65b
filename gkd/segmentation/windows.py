"""Sliding-window inference: a photo becomes a class map.

A photo is resized to the benchmark's bound and cut into overlapping windows, whose per-pixel class scores are
averaged as they come from the decoder (no softmax). The average is resized to the size of the label, which is
never resized itself, and the class map is its argmax.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gkd import params
from gkd.data.windows import window_starts
from gkd.models import Encoder

BAND = 64  # rows that are brought to the label's size at a time: their scores then stay in a CPU's cache


@dataclass(frozen=True)
class Inference:
    """How the photos of a domain become class maps."""

    window: int  # side of the square windows, in pixels
    stride: int  # from one window to the next
    bound: tuple[int, int] | None = None  # size (width, height) that photos are fitted into, None = their own size
    multiple: int = 1  # windows are padded to it: the patch size, or `window` where only one size fits
    batch_size: int = 1  # windows at a time
    fill: tuple[float, ...] = (0.0, 0.0, 0.0)  # colour of the padding

    @classmethod
    def of(cls, section: params.Inference, bound: tuple[int, int] | None, encoder: Encoder) -> Inference:
        """How models of `encoder` see photos by `inference` of the parameters, in a domain of this bound.

        What is smaller than the window is padded to it where the encoder takes no other size.
        """
        multiple = section.window if encoder.fixed_size else encoder.stride
        return cls(**section.model_dump(), bound=bound, multiple=multiple, fill=tuple(encoder.mean.flatten().tolist()))


def slide(model: Callable[[Tensor], Tensor], image: Tensor, how: Inference) -> Iterator[Tensor]:
    """Class scores of one photo (3, H, W), averaged over overlapping windows, from the top: bands (K, rows, W).

    `model` maps (B, 3, h, w) to (B, K, h', w') at any resolution; its scores are resized bilinearly to the
    window, in at least float32. A side shorter than the window gives a window of that side. Windows are padded with
    the colour `fill` at the bottom and on the right to the next multiple of `multiple`, and the scores of the padding
    are dropped.

    A band is given out as soon as no further window meets it, so that one row of windows is held at a time: 19 classes
    at 20 megapixels would take 1.5 GB.
    """
    height, width = image.shape[-2:]
    h, w = min(how.window, height), min(how.window, width)
    full = image.new_tensor(how.fill).view(3, 1, 1).repeat(1, h + -h % how.multiple, w + -w % how.multiple)
    rows, columns = (window_starts(side, how.window, how.stride) for side in (height, width))
    corners = [(y, x) for y in rows for x in columns]
    first, total, count = 0, None, None  # the sums held begin at row `first` of the photo
    for start in range(0, len(corners), how.batch_size):
        chunk = corners[start : start + how.batch_size]
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
        following = corners[start + how.batch_size :]
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


def view(photo: np.ndarray, how: Inference) -> Tensor:
    """A photo (H, W, 3) uint8 at its evaluation size, also uint8: what needs no model, so that workers can do it."""
    picture = Image.fromarray(photo)
    size = picture.size if how.bound is None else keep_ratio_size(*picture.size, how.bound)
    resized = picture if picture.size == size else picture.resize(size, Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized))


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
def class_map(model: Callable[[Tensor], Tensor], photo: Tensor, size: tuple[int, int], how: Inference) -> Tensor:
    """Class map `size` = (height, width) int64 of what `view` gave, on its device, which is not waited for.

    Memory is that of the scores of a row of windows, and of bands of them at the label's size.
    """
    image = photo.permute(2, 0, 1) / 255  # (3, h, w)
    return argmax_of_bands(slide(model, image, how), tuple(photo.shape[:2]), size)


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
