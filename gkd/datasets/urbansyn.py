"""UrbanSyn: rendered streets, a second source. Labels hold train ids, 19 = unlabelled.

There is no official split: every tenth image is held out ("val"), as for GTAV.
"""

from gkd.data.layout import About, Layout, every_tenth_held_out
from gkd.data.pairing import Place

_PLACES = (
    Place("rgb", (".png",), "ss", ".png", "urbansyn", image_prefix="rgb_", label_prefix="ss_"),
    Place("rgb", (".png",), "ss", ".png", "urbansyn"),  # labels renamed after the images for other code
)

URBANSYN = Layout(
    name="urbansyn",
    folder="urbansyn",
    label_space="cityscapes",
    splits={"all": _PLACES, "train": _PLACES, "val": _PLACES},
    part=every_tenth_held_out,
    about=About(
        url="https://www.urbansyn.org, https://huggingface.co/datasets/UrbanSyn/UrbanSyn (rgb, ss)",
        licence="CC BY-SA 4.0",
        size="7,539 images of 2048x1024; rgb 21 GB, ss 385 MB",
        tree="rgb/rgb_0001.png .. rgb_7539.png\nss/ss_0001.png .. ss_7539.png",
    ),
)
