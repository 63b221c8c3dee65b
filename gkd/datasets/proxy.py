"""The proxy set of task-agnostic distillation: any folder of images, at any depth, without labels.

As in ImageNet, only train/ is read where the root has such a folder.
"""

from gkd.datasets.base import About, Layout
from gkd.datasets.pairing import Place

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

PROXY = Layout(
    name="proxy",
    folder="proxy",
    label_space="",
    splits={"train": (Place("train", _SUFFIXES), Place(".", _SUFFIXES))},
    about=About(
        url="https://www.image-net.org (ImageNet-1k, as in the paper), or any photographs",
        licence="ImageNet: non-commercial research, after registration",
        size="ImageNet-1k train: 1,281,167 images, about 138 GB",
        tree="train/<class>/<name>.JPEG, or images in any folders below the root",
    ),
)
