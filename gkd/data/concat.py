"""Several splits as one, such as GTAV and SYNTHIA: their samples one after another.

torch's ConcatDataset would do for reading; it has no names and no label space, and a Subset of it has neither.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gkd.data.pairing import Sample
from gkd.data.reading import DatasetError
from gkd.data.samples import Arrays, SegmentationData


@dataclass(frozen=True, eq=False)
class JoinedData:
    """Reads and is cut like `SegmentationData`. `rows` says which sample of which part item i is."""

    parts: tuple[SegmentationData, ...]
    rows: tuple[tuple[int, int], ...]

    @property
    def label_space(self) -> str:
        return self.parts[0].label_space

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The samples, their names preceded by the dataset's: two datasets may name a file alike."""
        pairs = ((self.parts[part].layout.name, self.parts[part].samples[i]) for part, i in self.rows)
        return tuple(sample._replace(name=joined_name(dataset, sample.name)) for dataset, sample in pairs)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Arrays:
        part, row = self.rows[index]
        return self.parts[part][row]

    def subset(self, indices: Iterable[int]) -> "JoinedData":
        """The samples at `indices`, in that order. Arrays already in memory are shared."""
        return JoinedData(self.parts, tuple(self.rows[i] for i in indices))


def joined_name(dataset: str, name: str) -> str:
    """The name of a sample among those of several datasets."""
    return f"{dataset}/{name}"


def join(parts: Sequence[SegmentationData]) -> SegmentationData | JoinedData:
    """The parts as one dataset; one part alone stays as it is. Raises DatasetError where label spaces differ."""
    spaces = {part.layout.name: part.label_space for part in parts}
    if len(set(spaces.values())) > 1:
        found = ", ".join(f"{name} ({space or 'no labels'})" for name, space in spaces.items())
        raise DatasetError(f"expected datasets of one label space to join, found {found}")
    if len(parts) == 1:
        return parts[0]
    return JoinedData(tuple(parts), tuple((p, i) for p, part in enumerate(parts) for i in range(len(part))))
