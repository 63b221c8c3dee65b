"""Cityscapes (gtFine): the official labelIds, or labelTrainIds (made by its scripts) where they are alone."""

from gkd.data.domains import Domain, Source
from gkd.data.layout import About, Layout, Place

_IMAGES = "leftImg8bit/{split}/*_leftImg8bit.png"
TARGET = Domain("cityscapes", "cityscapes", "val")

CITYSCAPES = Layout(
    name="cityscapes",
    places=(
        Place(_IMAGES, "gtFine/{split}/*_gtFine_labelIds.png", "cityscapes"),
        Place(_IMAGES, "gtFine/{split}/*_gtFine_labelTrainIds.png", "cityscapes_train_ids"),
    ),
    splits={"train": "train", "val": "val"},  # the labels of "test" are not public
    published={"train": 2_975, "val": 500},
    about=About(
        url="https://www.cityscapes-dataset.com/downloads/ (leftImg8bit_ and gtFine_trainvaltest.zip)",
        licence="non-commercial terms of Cityscapes, after registration",
        size="2,975 train and 500 val images of 2048x1024, 11 GB and 241 MB",
    ),
)

SOURCE = Source("cityscapes", (Domain("cityscapes_train", "cityscapes", "train"),), TARGET, "cityscapes")
