"""Domain generalisation in two terms: a domain, and the source that a student is trained on.

The official ones stand beside their datasets, in gkd/datasets/. What is scored are the targets of params.yaml.
"""

from dataclasses import dataclass
from typing import NamedTuple

from gkd.data.labels import class_names


class Domain(NamedTuple):
    """A split of a dataset, under the name that tables use."""

    name: str
    dataset: str
    split: str


@dataclass(frozen=True)
class Source:
    """What a student is trained on, and the part of the same domain on which learning rates are chosen.

    A source may have several datasets, whose images are simply put together.
    """

    name: str
    train: tuple[Domain, ...]
    validation: Domain
    label_space: str
    full: tuple[Domain, ...] = ()  # what the paper trains on, where that leaves no validation part; () = `train`

    def training(self, hold_out: bool) -> tuple[Domain, ...]:
        """The training images: without the validation part, or all that the paper trains on."""
        return self.train if hold_out or not self.full else self.full

    @property
    def domains(self) -> tuple[Domain, ...]:
        """What is trained on, in either way, and the validation part."""
        return (*self.train, *self.full, self.validation)

    @property
    def classes(self) -> tuple[str, ...]:
        return class_names(self.label_space)


# What task-agnostic distillation sees: unlabelled images of anything.
PROXY = Domain("proxy", "proxy", "train")
