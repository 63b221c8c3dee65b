"""Batches whose content follows (seed, epoch, sample index) alone: the number of workers changes nothing.

batches = loader(data, DistillationView(section), Draw(steps=100, batch_size=64, seed=0))
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from gkd.data.transforms import seeded
from gkd.data.workers import worker_options, workers

Key = tuple[int, int, int]  # epoch, view, index of the image


@dataclass(frozen=True)
class Draw:
    """Which images a run sees, and in which batches.

    With `repeats`, an epoch still ends after as many views as there are images, as in repeated augmentation (Hoffer et
    al., 2020; Touvron et al., 2021): it sees 1/repeats of them.
    """

    steps: int  # batches of the whole run
    batch_size: int  # samples of a batch, over all processes
    seed: int  # of the order and of the augmentation
    repeats: int = 1  # views of each drawn image, in a row
    start: int = 0  # the first batch that is given, where a run continues
    process: tuple[int, int] = (0, 1)  # index and count of processes: each sees every count-th sample


class Views(Dataset):
    """A dataset of arrays seen through a random transform; items are asked for as (epoch, view, index)."""

    def __init__(self, data: Any, transform: Callable[..., Any], seed: int) -> None:
        self.data, self.transform, self.seed = data, transform, seed

    def __getitem__(self, key: Key) -> Any:
        epoch, view, index = key
        sample = self.data[index]
        with seeded(self.seed, epoch, view, index):
            return self.transform(*sample)


class EpochBatches:
    """Batches of (epoch, view, index) over `length` images: each epoch a seeded permutation, see `Draw`."""

    def __init__(self, length: int, draw: Draw) -> None:
        if length == 0:
            raise ValueError("the dataset is empty: nothing to train on")
        if draw.batch_size % draw.process[1]:
            raise ValueError(f"batch_size: {draw.process[1]} processes cannot share {draw.batch_size} samples evenly")
        self.length, self.draw = length, draw

    def __len__(self) -> int:
        return self.draw.steps - self.draw.start

    def __iter__(self) -> Iterator[list[Key]]:
        size, (index, count) = self.draw.batch_size, self.draw.process
        keys = self._keys(self.draw.start * size)
        for _ in range(len(self)):
            # In stripes: masked samples, which cost a second forward pass, stand at the front of a batch.
            yield [next(keys) for _ in range(size)][index::count]

    def _keys(self, drawn: int) -> Iterator[Key]:
        repeats, (epoch, first) = self.draw.repeats, divmod(drawn, self.length)
        while True:
            order = np.random.default_rng([self.draw.seed, epoch]).permutation(self.length)
            for position in range(first, self.length):
                yield epoch, position % repeats, int(order[position // repeats])
            epoch, first = epoch + 1, 0


def loader(data: Any, transform: Callable[..., Any], draw: Draw) -> DataLoader:
    """A loader of the batches that `draw` names: `transform` of `data[i]`, a uint8 image (H, W, 3) and label or None.

    Raises ValueError where there are no images, or the processes cannot share a batch evenly.
    """
    count = workers()
    return DataLoader(
        Views(data, transform, draw.seed),
        batch_sampler=EpochBatches(len(data), draw),
        num_workers=count,
        # Its own: from torch's it would draw a number, and a run that continues has drawn that already.
        generator=torch.Generator(),
        **worker_options(count, ahead=4),
    )
