"""Segmentation scores of a model on a domain, from one confusion matrix (protocol section 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from gkd.data.workers import worker_options, workers
from gkd.segmentation.windows import Inference, View, class_map, view
from gkd.train.resume import Slot

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
    """Pixel counts (K, K) int64, rows = truth, columns = prediction; pixels labelled 255 are left out.

    `prediction` and `label` are integer arrays of one shape. Values outside 0..K-1 raise ValueError.
    """
    prediction, label = np.asarray(prediction), np.asarray(label)
    if prediction.shape != label.shape:
        raise ValueError(f"prediction {prediction.shape} and label {label.shape} must have one shape")
    valid = label != IGNORE
    for name, values in (("label", label[valid]), ("prediction", prediction[valid])):
        _check(name, values, classes)
    guess, truth = (torch.from_numpy(values[valid].astype(np.int64)) for values in (prediction, label))
    return _matrix(count(guess, truth, classes), classes)


def count(prediction: Tensor, label: Tensor, classes: int) -> Tensor:
    """Pixels by truth and prediction, ((K + 1) * (K + 1),) int64, on the device of the two, which is not waited for.

    The last row holds the pixels labelled 255, the last column predictions beyond the classes. Labels are 0..K-1
    or 255, and predictions not negative. This is `torch.bincount`, which would ask a GPU for its largest value.
    """
    cells = label.long().clamp(max=classes).mul_(classes + 1).add_(prediction.clamp(max=classes)).flatten()
    counts = torch.zeros((classes + 1) ** 2, dtype=torch.int64, device=cells.device)
    return counts.scatter_add_(0, cells, counts.new_ones(()).expand_as(cells))


def _train_ids(label: np.ndarray, classes: int) -> Tensor:
    """A label as uint8, a copy. Raises ValueError where it holds more than 0..K-1 and 255."""
    _check("label", label[label != IGNORE], classes)
    return torch.from_numpy(np.array(label, dtype=np.uint8))


def _check(name: str, values: np.ndarray, classes: int) -> None:
    if values.size and (values.min() < 0 or values.max() >= classes):
        raise ValueError(
            f"{name} holds {values.min()}..{values.max()}, expected 0..{classes - 1}"
            f"{' or 255' if name == 'label' else ''}: check the class table of the dataset"
        )


def _matrix(counts: Tensor, classes: int) -> np.ndarray:
    """(K, K) of what `count` gave. Raises ValueError where a labelled pixel was given another class."""
    table = counts.view(classes + 1, classes + 1).cpu().numpy()
    if table[:classes, classes].any():
        raise ValueError(
            f"prediction holds classes beyond 0..{classes - 1} at {table[:classes, classes].sum():,} labelled pixels:"
            " the model was made for another class table"
        )
    return table[:classes, :classes].copy()


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
    """Confusion matrix (K, K) int64 of one model over one domain, see `evaluate_all`."""
    return evaluate_all({"": (model, how)}, data, classes, device, progress, slot, process)[""]


def evaluate_all(
    models: Mapping[str, tuple[nn.Module, Inference]],
    data: Samples,
    classes: int,
    device: str | torch.device = "cpu",
    progress: Callable[[int, int], None] | None = None,
    slot: Slot | None = None,
    process: tuple[int, int] = (0, 1),
) -> dict[str, np.ndarray]:
    """Confusion matrix (K, K) int64 of each model over one domain, of which each sample is read once.

    Workers (`gkd.data.workers`) read, resize and check while the models compute; what is kept in memory is read here. A
    GPU is waited for at the end, and where a slot is saved.

    Args:
        models: each with how it is evaluated; photos are seen at the same sizes by all. They are moved to `device`
            and run in eval mode, and each module is left in its former mode.
        data: the domain.
        classes: K.
        device: where the models run.
        progress: is called with the number of photos done and 1 after each.
        slot: a killed evaluation continues after the last photo that it counted there.
        process: (index, count): every count-th photo alone, from index on; the matrices of the processes add up to
            that of the domain.

    Raises:
        ValueError: a label or a prediction is beyond the classes; the models see photos at different sizes.
    """
    sizes = {(how.bound, how.scales) for _, how in models.values()}
    if len(sizes) != 1:
        raise ValueError(f"one reading serves models of one bound and one list of scales, these have {sorted(sizes)}")
    how = next(iter(models.values()))[1]
    modes = {module: module.training for model, _ in models.values() for module in model.modules()}
    state = None if slot is None else slot.load()
    # A frozen encoder stays in eval mode when `modes` are restored.
    for model, _ in models.values():
        model.to(device).eval()
    empty = torch.zeros((classes + 1) ** 2, dtype=torch.int64)
    counts = {name: (empty if state is None else state["counts"][name]).to(device, copy=True) for name in models}
    rows = range(process[0] if state is None else state["next"], len(data), process[1])
    try:
        for index, photo, label in _read(data, classes, how, rows, torch.device(device).type == "cuda"):
            photo, label = photo.to(device), label.to(device, non_blocking=True)
            for name, (model, way) in models.items():
                counts[name] += count(class_map(model, photo, tuple(label.shape), way), label, classes)
            if progress is not None:
                progress(index + 1, 1)
            if slot is not None and (slot.due() or index + process[1] >= len(data)):
                slot.save({"next": index + process[1], "counts": {name: c.cpu() for name, c in counts.items()}})
    finally:
        for module, mode in modes.items():
            module.training = mode
    return {name: _matrix(c, classes) for name, c in counts.items()}


class _Domain(Dataset):
    """Samples as (number, photo at its evaluation sizes, label)."""

    def __init__(self, data: Samples, classes: int, how: Inference) -> None:
        self.data, self.classes, self.how = data, classes, how

    def __getitem__(self, index: int) -> tuple[int, View, Tensor]:
        photo, label = self.data[index]
        try:
            return index, view(photo, self.how), _train_ids(label, self.classes)
        except ValueError as error:
            raise ValueError(f"sample {index}: {error}") from error


def _read(data: Samples, classes: int, how: Inference, rows: Sequence[int], pinned: bool) -> Iterable:
    """The samples of `rows`, in order."""
    # Workers would decode anew what this process keeps, and forget it.
    kept = getattr(data, "in_memory", False)
    count = 0 if kept else min(workers(), len(rows))
    return DataLoader(
        _Domain(data, classes, how),
        batch_size=None,
        sampler=rows,
        pin_memory=pinned,
        num_workers=count,
        **worker_options(count),
    )


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _percent(fraction: float) -> float:
    return float(np.round(100 * fraction, 2))
