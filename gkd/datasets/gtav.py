"""GTAV ("Playing for Data"), source of the driving benchmarks. Labels hold Cityscapes ids as palette PNGs.

The published code trains on every image ("all"); no official split is in use. We hold out every tenth image
("val") to choose learning rates and train on the others ("train").
"""

from gkd.datasets.base import About, Layout
from gkd.datasets.pairing import Place, Sample


def _part(split: str, samples: list[Sample]) -> list[Sample]:
    if split == "val":
        return samples[::10]
    if split == "train":
        return [sample for i, sample in enumerate(samples) if i % 10]
    return samples


_PLACE = Place("images", (".png",), "labels", ".png", "cityscapes")

GTAV = Layout(
    name="gtav",
    folder="gtav",
    label_space="cityscapes",
    splits={"all": (_PLACE,), "train": (_PLACE,), "val": (_PLACE,)},
    # 15188, 17705: image and label differ in size. *_labelTrainIds: written beside the labels by other tools.
    skip=r"15188|17705|.*_labelTrainIds",
    part=_part,
    about=About(
        url="https://download.visinf.tu-darmstadt.de/data/from_games/",
        licence="research and educational use only, see the page; direct download",
        size="24,966 images of 1914x1052, about 57 GB (10 image zips and 10 label zips)",
        tree="images/00001.png .. 24966.png\nlabels/00001.png .. 24966.png",
    ),
)
