"""A split, or several as one, as a map-style dataset: `torch.utils.data.DataLoader` takes it as it is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from gkd.data.layout import Sample
from gkd.data.reading import DatasetError

Arrays = tuple[np.ndarray, np.ndarray | None]


@dataclass(frozen=True, eq=False)
class SegmentationData:
    """Labelled or unlabelled images. Item i is (image, label): uint8 (H, W, 3) and uint8 train ids (H, W) or None.

    With `in_memory`, arrays are decoded when first asked for and kept, by each worker process for itself;
    items are then copies, so that a transform that works in place cannot change them.
    """

    samples: tuple[Sample, ...]
    label_space: str
    in_memory: bool = False
    _arrays: dict[str, Arrays] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Arrays:
        sample = self.samples[index]
        if not self.in_memory:
            return sample.layout.read(sample)
        if sample.name not in self._arrays:
            self._arrays[sample.name] = sample.layout.read(sample)
        image, label = self._arrays[sample.name]
        return image.copy(), None if label is None else label.copy()

    def subset(self, indices: Iterable[int]) -> "SegmentationData":
        """The samples at `indices`, in that order. Arrays already in memory are shared."""
        samples = tuple(self.samples[i] for i in indices)
        return SegmentationData(samples, self.label_space, self.in_memory, self._arrays)


def concatenate(parts: Sequence[SegmentationData]) -> SegmentationData:
    """The samples of several datasets one after another, their names preceded by the dataset's: two may name a file
    alike. One part alone stays as it is. Raises DatasetError where label spaces differ.
    """
    if len(parts) == 1:
        return parts[0]
    spaces = {part.samples[0].layout.name: part.label_space for part in parts}
    if len(set(spaces.values())) > 1:
        found = ", ".join(f"{name} ({space or 'no labels'})" for name, space in spaces.items())
        raise DatasetError(f"expected datasets of one label space to join, found {found}")
    samples = [s._replace(name=f"{s.layout.name}/{s.name}") for part in parts for s in part.samples]
    return SegmentationData(tuple(samples), parts[0].label_space, parts[0].in_memory)
