"""SYNTHIA-RAND-CITYSCAPES: rendered streets, a second source. Labels are 16-bit RGB PNGs with the class id in red.

There is no official split: every tenth image is held out ("val"), as for GTAV. Terrain, truck and train never occur.
"""

from gkd.data.domains import Domain
from gkd.data.layout import About, Layout, Place, every_tenth_held_out
from gkd.data.samples import Reader

ALL = Domain("synthia", "synthia", "all")

SYNTHIA = Layout(
    name="synthia",
    places=(
        Place("RGB/*.png", "GT/LABELS/*.png", "synthia"),
        Place("RAND_CITYSCAPES/RGB/*.png", "RAND_CITYSCAPES/GT/LABELS/*.png", "synthia"),
    ),
    published={"all": 9_400},
    skip=r".*_labelTrainIds",  # written beside the labels by other tools
    part=every_tenth_held_out,
    reader=Reader("red"),
    about=About(
        url="https://synthia-dataset.net (SYNTHIA-RAND-CITYSCAPES)",
        licence="CC BY-NC-SA 3.0, see the page; direct download",
        size="9,400 images of 1280x760",
    ),
)
