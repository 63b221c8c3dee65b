"""The proxy set of task-agnostic distillation: any folder of images, at any depth, without labels.

As in ImageNet, only train/ is read where the root has such a folder. Where there are no image files, tar shards are
read.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gkd.data.layout import About, Layout
from gkd.data.pairing import Place, Sample, files_below
from gkd.data.reading import DatasetError
from gkd.data.shards import images_in, read_member, shard_of, shards_below

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


@dataclass(frozen=True, eq=False)
class ProxyLayout(Layout):
    """A folder of image files, or of tar shards with image files."""

    def find(self, root: Path, split: str) -> list[Sample]:
        """See `Layout.find`."""
        self.check_split(split)
        folder = next((root / place.images for place in self.splits[split] if not place.missing(root)), root)
        if any(files_below(folder, _SUFFIXES)) or not (shards := shards_below(folder)):
            return super().find(root, split)
        images = sorted(image for shard in shards for image in images_in(shard, _SUFFIXES))
        if not images:
            raise DatasetError(f"{folder}: expected images in its {len(shards)} tar shards, found none; check them")
        return [Sample(image.relative_to(root).as_posix(), image, None) for image in images]

    def read_image(self, path: Path) -> np.ndarray:
        """uint8 RGB (H, W, 3)."""
        return super().read_image(path) if shard_of(path) is None else read_member(path)


PROXY = ProxyLayout(
    name="proxy",
    folder="proxy",
    label_space="",
    splits={"train": (Place("train", _SUFFIXES), Place(".", _SUFFIXES))},
    about=About(
        url="https://www.image-net.org (ImageNet-1k, as in the paper), or any photographs",
        licence="ImageNet: non-commercial research, after registration",
        size="ImageNet-1k train: 1,281,167 images, about 138 GB",
        tree="train/<class>/<name>.JPEG, images in any folders below the root, or such images in *.tar",
    ),
)
