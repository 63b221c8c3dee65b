"""GTAV ("Playing for Data"), source of the driving benchmarks. Labels hold Cityscapes ids as palette PNGs.

The published code trains on every image ("all"); no official split is in use. We hold out every tenth image
("val") to choose learning rates and train on the others ("train").
"""

from gkd.data.layout import About, Layout, every_tenth_held_out
from gkd.data.pairing import Place

_PLACE = Place("images", (".png",), "labels", ".png", "cityscapes")

GTAV = Layout(
    name="gtav",
    folder="gtav",
    label_space="cityscapes",
    splits={"all": (_PLACE,), "train": (_PLACE,), "val": (_PLACE,)},
    # 15188, 17705: image and label differ in size. *_labelTrainIds: written beside the labels by other tools.
    skip=r"15188|17705|.*_labelTrainIds",
    part=every_tenth_held_out,
    about=About(
        url="https://download.visinf.tu-darmstadt.de/data/from_games/",
        licence="research and educational use only, see the page; direct download",
        size="24,966 images of 1914x1052, about 57 GB (10 image zips and 10 label zips)",
        tree="images/00001.png .. 24966.png\nlabels/00001.png .. 24966.png",
    ),
)
