"""Segmentation scores of a model on a domain, from one confusion matrix (protocol section 4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import nn

from gkd.inference import Inference, predict
from gkd.resume import Slot

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


def evaluate(
    model: nn.Module,
    data: Samples,
    classes: int,
    how: Inference,
    device: str | torch.device = "cpu",
    progress: Callable[[int, int], None] | None = None,
    slot: Slot | None = None,
    process: tuple[int, int] = (0, 1),
) -> np.ndarray:
    """Confusion matrix (K, K) int64 of `model` over one domain.

    `progress` is called with the number of photos done and 1 after each. With a slot, a killed evaluation continues
    after the last photo that it counted there. `process` = (index, count): every count-th photo alone, from index on;
    the matrices of the processes add up to that of the domain. The model is moved to `device`, runs in eval
    mode, and each module is left in its former mode.
    """
    modes = {module: module.training for module in model.modules()}  # a frozen encoder stays in eval mode
    model.to(device).eval()
    state = None if slot is None else slot.load()
    confusion = np.zeros((classes, classes), dtype=np.int64) if state is None else state["confusion"].numpy()
    try:
        for index in range(process[0] if state is None else state["next"], len(data), process[1]):
            photo, label = data[index]
            guess = predict(model, photo, label.shape, how, device)
            try:
                confusion += confusion_matrix(guess, label, classes)
            except ValueError as error:
                raise ValueError(f"sample {index}: {error}") from error
            if progress is not None:
                progress(index + 1, 1)
            if slot is not None and (slot.due() or index + process[1] >= len(data)):
                slot.save({"next": index + process[1], "confusion": torch.from_numpy(confusion)})
    finally:
        for module, mode in modes.items():
            module.training = mode
    return confusion


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _percent(fraction: float) -> float:
    return float(np.round(100 * fraction, 2))
