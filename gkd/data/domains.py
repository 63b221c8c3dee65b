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

_DRIVING = ("cityscapes", "bdd100k", "mapillary")
_ACDC = ("acdc-night", "acdc-snow", "acdc-fog", "acdc-rain")
# Names as the paper prints them; plain means of our own say so.
AVERAGES: dict[str, tuple[str, ...]] = {
    "Avg(Citys,BDD,Map)": _DRIVING,
    "Avg(ACDC 4)": _ACDC,
    "Avg(P-I,V-I)": ("potsdam-irrg", "vaihingen-irrg"),
    "Avg(Citys,BDD,Map) (ours)": _DRIVING,
    "Avg(ACDC 4) (ours)": _ACDC,
}

# Of the official benchmarks: the title, and the mean that they enter.
TITLES: dict[str, tuple[str, str | None]] = {
    "gtav-cityscapes": ("GTAV to Cityscapes", "Avg(Citys,BDD,Map)"),
    "gtav-bdd100k": ("GTAV to BDD100K", "Avg(Citys,BDD,Map)"),
    "gtav-mapillary": ("GTAV to Mapillary", "Avg(Citys,BDD,Map)"),
    "gtav-acdc": ("GTAV to ACDC", "Avg(ACDC 4) (ours)"),
    "cityscapes-acdc": ("Cityscapes to ACDC", "Avg(ACDC 4)"),
    "potsdam-isprs": ("Potsdam-RGB to Potsdam-IRRG and Vaihingen-IRRG", "Avg(P-I,V-I)"),
    "camvid-dusk": ("CamVid day to dusk", None),
    "gtav-synthia-driving": ("GTAV and SYNTHIA to Cityscapes, BDD100K and Mapillary", "Avg(Citys,BDD,Map) (ours)"),
    "gtav-synthia-urbansyn-driving": (
        "GTAV, SYNTHIA and UrbanSyn to Cityscapes, BDD100K and Mapillary",
        "Avg(Citys,BDD,Map) (ours)",
    ),
    "potsdam-rescuenet": ("Potsdam-RGB to RescueNet (five classes, our grouping)", None),
    "potsdam-irrg-rescuenet": ("Potsdam-IRRG to RescueNet (five classes, our grouping)", None),
}
