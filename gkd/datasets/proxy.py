"""The proxy set of task-agnostic distillation: any folder of images, at any depth, without labels.

As in ImageNet, only train/ is read where the root has such a folder. The images may lie in tar files, all of them.
"""

from dataclasses import dataclass
from pathlib import Path

from gkd.data.layout import About, Layout, Place
from gkd.data.patterns import Pattern
from gkd.data.reading import DatasetError
from gkd.data.samples import Sample
from gkd.data.tars import members

_IMAGES = "*.{jpg,jpeg,png,bmp,webp,tif,tiff}"


@dataclass(frozen=True, eq=False, kw_only=True)
class ProxyLayout(Layout):
    """A folder of image files, or of tar files that hold some."""

    def find(self, root: Path, split: str) -> list[Sample]:
        """See `Layout.find`."""
        place = next((place for place in self.places_of(split) if not place.missing(root)), self.places[-1])
        pattern, folder = Pattern.parse(place.images), root / place.folders[0]
        tars = [folder / name for _, name in Pattern.parse("*.tar").below(folder)]
        if not tars:
            return super().find(root, split)
        if any(pattern.below(root)):
            raise DatasetError(
                f"{folder}: expected image files or tar files, found both; unpack all tar files, or move one kind away"
            )
        images = sorted(image for tar in tars for image in members(tar, pattern.ends))
        if not images:
            raise DatasetError(
                f"{folder}: expected images in its {len(tars)} tar files, found none; check them, and unpack those that"
                " hold further archives"
            )
        return [Sample(image.relative_to(root).as_posix(), image) for image in images]


PROXY = ProxyLayout(
    name="proxy",
    places=(Place(f"train/{_IMAGES}"), Place(_IMAGES)),
    splits={"train": ""},
    published={"train": 1_281_167},  # ImageNet-1k; any other folder of images serves as well
    about=About(
        url="https://www.image-net.org (ImageNet-1k, as in the paper), or any photographs",
        licence="ImageNet: non-commercial research, after registration",
        size="ImageNet-1k train: 1,281,167 images, about 138 GB; the images may lie in *.tar",
    ),
)
