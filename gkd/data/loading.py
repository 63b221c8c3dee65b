"""Batches whose content follows (seed, epoch, sample index) alone: the number of workers changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from gkd.data.transforms import seeded
from gkd.data.workers import worker_options, workers

Key = tuple[int, int, int]  # epoch, view, index of the image


class Views(Dataset):
    """A dataset of arrays seen through a random transform; items are asked for as (epoch, view, index)."""

    def __init__(self, data: Any, transform: Callable[..., Any], seed: int, labelled: bool) -> None:
        self.data, self.transform, self.seed, self.labelled = data, transform, seed, labelled

    def __getitem__(self, key: Key) -> Any:
        epoch, view, index = key
        image, label = self.data[index]
        with seeded(self.seed, epoch, view, index):
            return self.transform(image, label) if self.labelled else self.transform(image)


class EpochBatches:
    """Batches of (epoch, view, index): each epoch a seeded permutation, each drawn image `repeats` times in a row.

    With repeats, an epoch ends after as many views as there are images, as in repeated augmentation (protocol
    section 2): it sees 1/repeats of the distinct images. `process` = (index, count): each process gets every count-th
    sample of every batch, from number `index` on, and together they see what one process would.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        steps: int,
        seed: int,
        repeats: int = 1,
        start: int = 0,
        process: tuple[int, int] = (0, 1),
    ) -> None:
        if length == 0:
            raise ValueError("the dataset is empty: nothing to train on")
        if batch_size % process[1]:
            raise ValueError(f"batch_size: {process[1]} processes cannot share {batch_size} samples evenly")
        self.process = process
        self.length, self.batch_size, self.seed, self.repeats = length, batch_size, seed, repeats
        self.steps, self.start = steps, start

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[Key]]:
        keys = self._keys(self.start * self.batch_size)
        index, count = self.process
        for _ in range(len(self)):
            # In stripes: masked samples, which cost a second forward pass, stand at the front of a batch.
            yield [next(keys) for _ in range(self.batch_size)][index::count]

    def _keys(self, drawn: int) -> Iterator[Key]:
        epoch, first = divmod(drawn, self.length)
        while True:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.length)
            for position in range(first, self.length):
                yield epoch, position % self.repeats, int(order[position // self.repeats])
            epoch, first = epoch + 1, 0


@dataclass(frozen=True)
class Draw:
    """Which samples are drawn: `steps` batches, those from number `start` on; the rest as of EpochBatches."""

    steps: int
    batch_size: int
    seed: int
    repeats: int = 1
    start: int = 0
    process: tuple[int, int] = (0, 1)


def loader(data: Any, transform: Callable[..., Any], draw: Draw, *, labelled: bool) -> DataLoader:
    """A loader of the batches of `draw`, of transformed samples of `data`: `data[i]` -> image, label.

    The number of workers (`gkd.data.workers`) changes nothing.
    """
    count, own = workers(), (draw.batch_size, draw.steps, draw.seed, draw.repeats, draw.start, draw.process)
    return DataLoader(
        Views(data, transform, draw.seed, labelled),
        batch_sampler=EpochBatches(len(data), *own),
        num_workers=count,
        **worker_options(count, ahead=4),
    )
