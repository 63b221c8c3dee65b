"""Domain generalisation in three terms: a domain, the source that a student is trained on, a benchmark of targets.

The official ones stand beside their datasets, in gkd/datasets/.
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
        """All of them."""
        return (*self.train, *self.full, self.validation)

    @property
    def classes(self) -> tuple[str, ...]:
        return class_names(self.label_space)


@dataclass(frozen=True)
class Benchmark:
    """Training on one source, by its name, scored on targets that training never saw.

    An `on_request` benchmark is scored only where `plan.benchmarks` names it: the paper's own targets stay as they are.
    """

    name: str
    source: str
    targets: tuple[Domain, ...]
    on_request: bool = False


# What task-agnostic distillation sees: unlabelled images of anything.
PROXY = Domain("proxy", "proxy", "train")
