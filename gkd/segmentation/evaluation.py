"""Confusion matrices of models on a domain.

how = Inference(window=512, stride=341, multiple=16)
scores(evaluate(model, data, 19, how)).miou                     # data[i] -> photo, label of train ids
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from gkd.data.labels import IGNORE
from gkd.data.workers import worker_options, workers
from gkd.segmentation.windows import Inference, class_map, view
from gkd.train.loop import engine
from gkd.train.processes import launch
from gkd.train.progress import Progress
from gkd.train.run import Run

Models = Mapping[str, tuple[nn.Module, Inference]]


class Samples(Protocol):
    """A dataset: `data[i]` is a photo (H, W, 3) uint8 and its train-id label (H, W) uint8."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]: ...


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
    values = label[label != IGNORE]
    if values.size and (values.min() < 0 or values.max() >= classes):
        raise ValueError(
            f"label holds {values.min()}..{values.max()}, expected 0..{classes - 1} or 255: check the class table of "
            "the dataset"
        )
    return torch.from_numpy(np.array(label, dtype=np.uint8))


def _matrices(counts: Tensor, classes: int) -> np.ndarray:
    """(N, K, K) of what `count` gave for N photos. Raises ValueError where a labelled pixel was given another class."""
    table = counts.view(-1, classes + 1, classes + 1).cpu().numpy()
    if (beyond := table[:, :classes, classes]).any():
        raise ValueError(
            f"prediction holds classes beyond 0..{classes - 1} at {beyond.sum():,} labelled pixels:"
            " the model was made for another class table"
        )
    return table[:, :classes, :classes].copy()


def evaluate(model: nn.Module, data: Samples, classes: int, how: Inference, run: Run | None = None) -> np.ndarray:
    """Confusion matrix (K, K) int64 of one model over one domain, see `evaluate_images`."""
    return evaluate_images({"": (model, how)}, data, classes, run)[""].sum(axis=0)


def evaluate_images(models: Models, data: Samples, classes: int, run: Run | None = None) -> dict[str, np.ndarray]:
    """Confusion matrices (N, K, K) int64 of each model, one a sample of a domain, of which each is read once.

    Workers (`gkd.data.workers`) read, resize and check while the models compute. A GPU is waited for at the end, and
    where a state is saved. Processes take every n-th photo.

    Args:
        models: each with how it is evaluated; photos are seen at one size by all. They are moved to the engine's
            device and run in eval mode, and each module is left in its former mode.
        data: the domain.
        classes: K.
        run: name of the progress lines, processes, and states from which a killed evaluation continues after the last
            photo that it counted; None = this process alone, without a word.

    Raises ValueError where a label or a prediction is beyond the classes, or the models see photos at different sizes.
    """
    if len(bounds := {how.bound for _, how in models.values()}) != 1:
        raise ValueError(f"one reading serves models of one bound, these have {bounds}")
    quiet, run = run is None, run or Run("")
    done = None if run.slot is None else run.slot.load()
    if done is None and run.processes > 1:
        launch(run, evaluate_images, models=models, data=data, classes=classes)
        done = run.slot.load()
    if done is not None:
        return {name: matrix.numpy() for name, matrix in done.items()}
    accelerator = engine()
    index, count_of = accelerator.process_index, accelerator.num_processes
    domain = _Domain(data, classes, next(iter(models.values()))[1])
    progress = Progress(run.name, len(data), quiet=quiet or not accelerator.is_main_process)
    part = run.part(f"{index} of {count_of}")
    counts = _count_rows(models, domain, range(index, len(data), count_of), part, progress, accelerator.device)
    matrices = {name: _matrices(accelerator.reduce(own, "sum"), classes) for name, own in counts.items()}
    if run.slot is not None and accelerator.is_main_process:
        run.slot.save({name: torch.from_numpy(matrix) for name, matrix in matrices.items()})
    return matrices


class _Domain(Dataset):
    """Samples as (number, photo at its evaluation size, label)."""

    def __init__(self, data: Samples, classes: int, how: Inference) -> None:
        self.data, self.classes, self.how = data, classes, how

    def __getitem__(self, index: int) -> tuple[int, Tensor, Tensor]:
        photo, label = self.data[index]
        try:
            return index, view(photo, self.how), _train_ids(label, self.classes)
        except ValueError as error:
            raise ValueError(f"sample {index}: {error}") from error

    def read(self, rows: Sequence[int], pinned: bool) -> DataLoader:
        """The samples of `rows`, in order."""
        count = min(workers(), len(rows))
        options = {"pin_memory": pinned, "num_workers": count, **worker_options(count)}
        return DataLoader(self, batch_size=None, sampler=rows, **options)


def _count_rows(
    models: Models, domain: _Domain, rows: range, run: Run, progress: Progress, device: torch.device
) -> dict[str, Tensor]:
    """What `count` gives for each model, a row a sample, from where the state of `run` was left; 0 beside `rows`."""
    slot, empty = run.slot, torch.zeros(len(domain.data), (domain.classes + 1) ** 2, dtype=torch.int64)
    state = None if slot is None else slot.load()
    state = state or {"next": rows.start, "counts": dict.fromkeys(models, empty)}
    modes = {module: module.training for model, _ in models.values() for module in model.modules()}
    for model, _ in models.values():
        model.to(device).eval()
    counts = {name: state["counts"][name].to(device, copy=True) for name in models}
    try:
        left = range(state["next"], rows.stop, rows.step)
        for row, photo, label in domain.read(left, pinned=device.type == "cuda"):
            photo, label = (x.to(device, non_blocking=True) for x in (photo, label))
            for name, (model, how) in models.items():
                counts[name][row] = count(class_map(model, photo, tuple(label.shape), how), label, domain.classes)
            progress(row + 1, 1)
            if slot is not None and (slot.due() or row + rows.step >= rows.stop):
                slot.save({"next": row + rows.step, "counts": {name: own.cpu() for name, own in counts.items()}})
    finally:  # one by one: a frozen encoder was in eval mode
        for module, mode in modes.items():
            module.training = mode
    return counts
