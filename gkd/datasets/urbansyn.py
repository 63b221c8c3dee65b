"""UrbanSyn: rendered streets, a second source. Labels hold train ids, 19 = unlabelled.

There is no official split: every tenth image is held out ("val"), as for GTAV.
"""

from gkd.data.domains import Domain
from gkd.data.layout import About, Layout, Place, every_tenth_held_out

ALL = Domain("urbansyn", "urbansyn", "all")

URBANSYN = Layout(
    name="urbansyn",
    places=(
        Place("rgb/rgb_*.png", "ss/ss_*.png", "urbansyn"),
        Place("rgb/*.png", "ss/*.png", "urbansyn"),  # labels renamed after the images for other code
    ),
    published={"all": 7_539},
    part=every_tenth_held_out,
    about=About(
        url="https://www.urbansyn.org, https://huggingface.co/datasets/UrbanSyn/UrbanSyn (rgb, ss)",
        licence="CC BY-SA 4.0",
        size="7,539 images of 2048x1024; rgb 21 GB, ss 385 MB",
    ),
)
