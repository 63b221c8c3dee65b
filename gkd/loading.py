"""Batches whose content follows (seed, epoch, sample index) alone: the number of workers changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from gkd.transforms import seeded
from gkd.workers import worker_options, workers


class Views(Dataset):
    """A dataset of arrays seen through a random transform; items are asked for as (epoch, view, index)."""

    def __init__(self, data: Any, transform: Callable[..., Any], seed: int, labelled: bool) -> None:
        self.data, self.transform, self.seed, self.labelled = data, transform, seed, labelled

    def __getitem__(self, key: tuple[int, int, int]) -> Any:
        epoch, view, index = key
        image, label = self.data[index]
        with seeded(self.seed, epoch, view, index):
            return self.transform(image, label) if self.labelled else self.transform(image)


class EpochBatches:
    """Batches of (epoch, view, index): each epoch a seeded permutation, each drawn image `repeats` times in a row.

    With repeats, an epoch ends after as many views as there are images, as in repeated augmentation (protocol
    section 2): it sees 1/repeats of the distinct images. `process` = (index, count): each process gets its part of
    every batch, and together they see what one process would.
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

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        keys = self._keys(self.start * self.batch_size)
        index, count = self.process
        share = self.batch_size // count
        for _ in range(len(self)):
            yield [next(keys) for _ in range(self.batch_size)][index * share : (index + 1) * share]

    def _keys(self, drawn: int) -> Iterator[tuple[int, int, int]]:
        epoch, first = divmod(drawn, self.length)
        while True:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.length)
            for position in range(first, self.length):
                yield epoch, position % self.repeats, int(order[position // self.repeats])
            epoch, first = epoch + 1, 0


def loader(
    data: Any,
    transform: Callable[..., Any],
    steps: int,
    batch_size: int,
    seed: int,
    *,
    labelled: bool,
    repeats: int = 1,
    start: int = 0,
    process: tuple[int, int] = (0, 1),
) -> DataLoader:
    """A loader of `steps` batches, or of those from number `start` on, of transformed samples of `data`.

    `data[i]` -> image, label. The number of workers (`gkd.workers`) changes nothing.
    """
    count = workers()
    return DataLoader(
        Views(data, transform, seed, labelled),
        batch_sampler=EpochBatches(len(data), batch_size, steps, seed, repeats, start, process),
        num_workers=count,
        **worker_options(count, ahead=4),
    )
