"""Sliding-window inference and segmentation scores (protocol section 4).

A photo is resized to the benchmark's bound and cut into overlapping windows, whose per-pixel class scores are
averaged as they come from the decoder (no softmax). The average is resized to the size of the label, which is
never resized itself, and the argmax enters one confusion matrix per domain.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

IGNORE = 255


class Samples(Protocol):
    """A dataset: `data[i]` is a photo (H, W, 3) uint8 and its train-id label (H, W) uint8."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]: ...


class Scores(NamedTuple):
    """Scores in per cent, rounded to two decimals; NaN marks a class that the score does not count."""

    iou: np.ndarray  # (K,)
    miou: float
    macc: float
    aacc: float
    acc: np.ndarray  # (K,)


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
    """Class scores (K, H, W) of one photo (3, H, W), averaged over overlapping windows, at least float32.

    `model` maps (B, 3, h, w) to (B, K, h', w') at any resolution; its scores are resized bilinearly to the
    window. A side shorter than the window gives a window of that side. Windows are padded with the colour `fill`
    at the bottom and on the right to the next multiple of `multiple`, and the scores of the padding are dropped.
    `multiple` is the patch size; a backbone with a fixed input size takes `multiple=window`.
    """
    height, width = image.shape[-2:]
    h, w = min(window, height), min(window, width)
    full = image.new_tensor(fill).view(3, 1, 1).repeat(1, h + -h % multiple, w + -w % multiple)  # (3, h+, w+)
    corners = [(y, x) for y in window_starts(height, window, stride) for x in window_starts(width, window, stride)]
    total: Tensor | None = None
    for chunk in _chunks(corners, batch_size):
        crops = full.repeat(len(chunk), 1, 1, 1)  # (B, 3, h+, w+)
        for crop, (y, x) in zip(crops, chunk, strict=True):
            crop[:, :h, :w] = image[:, y : y + h, x : x + w]
        logits = model(crops)  # (B, K, h', w')
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        logits = F.interpolate(logits, size=crops.shape[-2:], mode="bilinear", align_corners=False)[..., :h, :w]
        if total is None:
            total = logits.new_zeros(logits.shape[1], height, width)  # (K, H, W)
            count = logits.new_zeros(height, width)
        for (y, x), scores_of_window in zip(chunk, logits, strict=True):
            total[:, y : y + h, x : x + w] += scores_of_window
            count[y : y + h, x : x + w] += 1
    return total / count


def keep_ratio_size(width: int, height: int, bound: tuple[int, int]) -> tuple[int, int]:
    """Size (width, height) of a photo resized to `bound` with its aspect ratio kept.

    scale = min(long bound / long side, short bound / short side), so the order within `bound` does not matter
    and portraits fit the turned bound; sides are rounded half up and never below one pixel.
    """
    scale = min(max(bound) / max(width, height), min(bound) / min(width, height))
    return max(int(width * scale + 0.5), 1), max(int(height * scale + 0.5), 1)


def confusion_matrix(prediction: np.ndarray, label: np.ndarray, classes: int) -> np.ndarray:
    """Pixel counts (K, K) int64, rows = truth, columns = prediction; pixels labelled 255 are removed first.

    `prediction` and `label` are integer arrays of one shape. Values outside 0..K-1 raise ValueError.
    """
    prediction, label = np.asarray(prediction), np.asarray(label)
    if prediction.shape != label.shape:
        raise ValueError(f"prediction {prediction.shape} and label {label.shape} must have one shape")
    valid = label != IGNORE
    truth, guess = label[valid].astype(np.int64), prediction[valid].astype(np.int64)
    for name, values in (("label", truth), ("prediction", guess)):
        if values.size and (values.min() < 0 or values.max() >= classes):
            raise ValueError(
                f"{name} holds {values.min()}..{values.max()}, expected 0..{classes - 1}"
                f"{' or 255' if name == 'label' else ''}: check the class table of the dataset"
            )
    return np.bincount(classes * truth + guess, minlength=classes**2).reshape(classes, classes)


def scores(confusion: np.ndarray) -> Scores:
    """Scores of one domain from its confusion matrix (K, K), rows = truth.

    By class, IoU = I / (P + G - I) and accuracy = I / G; the means leave out classes with a denominator of 0.
    """
    hits = np.diag(confusion).astype(np.float64)
    truth, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    if not truth.sum():
        raise ValueError("the confusion matrix is empty: no pixel of the domain carries a label other than 255")
    iou, acc = _ratio(hits, truth + predicted - hits), _ratio(hits, truth)
    return Scores(
        iou=np.round(100 * iou, 2),
        miou=_percent(np.nanmean(iou)),
        macc=_percent(np.nanmean(acc)),
        aacc=_percent(hits.sum() / truth.sum()),
        acc=np.round(100 * acc, 2),
    )


@torch.inference_mode()
def predict(
    model: Callable[[Tensor], Tensor],
    photo: np.ndarray,
    size: tuple[int, int],
    bound: tuple[int, int] | None,
    window: int,
    stride: int,
    multiple: int = 1,
    batch_size: int = 1,
    device: str | torch.device = "cpu",
    fill: Sequence[float] = (0, 0, 0),
) -> np.ndarray:
    """Class map `size` = (height, width) int64 of one photo (H, W, 3) uint8; see `evaluate` for the rest."""
    picture = Image.fromarray(photo)
    if bound is not None:
        picture = picture.resize(keep_ratio_size(*picture.size, bound), Image.Resampling.BILINEAR)
    image = torch.from_numpy(np.array(picture)).to(device).permute(2, 0, 1) / 255  # (3, h, w)
    averaged = slide(model, image, window, stride, multiple, batch_size, fill)[None]  # (1, K, h, w)
    averaged = F.interpolate(averaged, size=size, mode="bilinear", align_corners=False)
    return averaged[0].argmax(dim=0).cpu().numpy()


def evaluate(
    model: nn.Module,
    data: Samples,
    classes: int,
    bound: tuple[int, int] | None,
    window: int,
    stride: int,
    multiple: int = 1,
    batch_size: int = 1,
    device: str | torch.device = "cpu",
    fill: Sequence[float] = (0, 0, 0),
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Confusion matrix (K, K) int64 of `model` over one domain, at single scale and without flips.

    `bound` (width, height) in pixels is the evaluation size, None the native one; `window`, `stride`,
    `multiple`, `batch_size` and `fill` are those of `slide`. `progress` is called with the number of photos done
    and 1 after each. The model is moved to `device`, runs in eval mode, and
    each module is left in its former mode.
    """
    modes = {module: module.training for module in model.modules()}  # a frozen encoder stays in eval mode
    model.to(device).eval()
    confusion = np.zeros((classes, classes), dtype=np.int64)
    try:
        for index in range(len(data)):
            photo, label = data[index]
            guess = predict(model, photo, label.shape, bound, window, stride, multiple, batch_size, device, fill)
            try:
                confusion += confusion_matrix(guess, label, classes)
            except ValueError as error:
                raise ValueError(f"sample {index}: {error}") from error
            if progress is not None:
                progress(index + 1, 1)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return confusion


def _chunks(items: list, size: int) -> Iterator[list]:
    return (items[i : i + size] for i in range(0, len(items), size))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _percent(fraction: float) -> float:
    return float(np.round(100 * fraction, 2))
