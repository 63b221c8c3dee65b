"""GTAV ("Playing for Data"), source of the driving benchmarks. Labels hold Cityscapes ids as palette PNGs.

The published code trains on every image ("all"); no official split is in use. We hold out every tenth image
("val") to choose learning rates and train on the others ("train").
"""

from gkd.data.domains import Domain, Source
from gkd.data.layout import About, Layout, Place, every_tenth_held_out
from gkd.datasets import synthia, urbansyn

GTAV = Layout(
    name="gtav",
    places=(Place("images/*.png", "labels/*.png", "cityscapes"),),
    published={"all": 24_964},  # 24,966 less the two that are left out
    # 15188, 17705: image and label differ in size. *_labelTrainIds: written beside the labels by other tools.
    skip=r"15188|17705|.*_labelTrainIds",
    part=every_tenth_held_out,
    about=About(
        url="https://download.visinf.tu-darmstadt.de/data/from_games/",
        licence="research and educational use only, see the page; direct download",
        size="24,966 images of 1914x1052, about 57 GB (10 image zips and 10 label zips)",
    ),
)

_TRAIN, _ALL, _VAL = (Domain(f"gtav_{split}", "gtav", split) for split in ("train", "all", "val"))


def _source(name: str, *others: Domain) -> Source:
    """GTAV, and other rendered streets.

    Learning rates are chosen on GTAV's validation part, so that all GTAV sources are judged on the same photos and
    nothing is held out of the others. SYNTHIA has no terrain, truck and train: its labels simply lack them.
    """
    return Source(name, (_TRAIN, *others), _VAL, "cityscapes", full=(_ALL, *others))


SOURCES = (
    _source("gtav"),
    _source("gtav_synthia", synthia.ALL),
    _source("gtav_synthia_urbansyn", synthia.ALL, urbansyn.ALL),
)
