"""A split as a map-style dataset: `torch.utils.data.DataLoader` takes it as it is."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from gkd.data.layout import Layout
from gkd.data.pairing import Sample

Arrays = tuple[np.ndarray, np.ndarray | None]


@dataclass(frozen=True, eq=False)
class SegmentationData:
    """Samples of one split. Item i is (image, label): uint8 (H, W, 3) and uint8 train ids (H, W) or None.

    With `in_memory`, arrays are decoded when first asked for and kept, by each worker process for itself;
    items are then copies, so that a transform that works in place cannot change them.
    """

    layout: Layout
    samples: tuple[Sample, ...]
    in_memory: bool = False
    _kept: dict[str, Arrays] = field(default_factory=dict, repr=False)

    @property
    def label_space(self) -> str:
        return self.layout.label_space

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Arrays:
        sample = self.samples[index]
        if not self.in_memory:
            return self.layout.read(sample)
        if sample.name not in self._kept:
            self._kept[sample.name] = self.layout.read(sample)
        image, label = self._kept[sample.name]
        return image.copy(), None if label is None else label.copy()

    def subset(self, indices: Iterable[int]) -> "SegmentationData":
        """The samples at `indices`, in that order. Arrays already in memory are shared."""
        samples = tuple(self.samples[i] for i in indices)
        return SegmentationData(self.layout, samples, self.in_memory, self._kept)
