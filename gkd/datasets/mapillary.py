"""Mapillary Vistas v1.2 and v1.1 (the same 66 ids), at half size as in the published evaluation.

The copy is made in memory: images bicubic to (w // 2, h // 2), then JPEG of quality 75; labels nearest.
"""

from gkd.data.domains import Domain
from gkd.data.layout import About, Layout, Place
from gkd.data.samples import Reader

TARGET = Domain("mapillary", "mapillary", "val")

MAPILLARY = Layout(
    name="mapillary",
    places=(
        Place("{split}/images/*.jpg", "{split}/v1.2/labels/*.png", "mapillary"),
        Place("{split}/images/*.jpg", "{split}/labels/*.png", "mapillary"),  # v1.1
    ),
    splits={"train": "training", "val": "validation"},
    reader=Reader(half=True),
    published={"train": 18_000, "val": 2_000},
    about=About(
        url="https://www.mapillary.com/dataset/vistas (v1.2)",
        licence="CC BY-NC-SA 4.0, after registration",
        size="18,000 train and 2,000 val images, up to more than 20 megapixels each",
    ),
)
