"""BDD100K, the 10k images with semantic labels (train ids). The release of 2018 used other folders."""

from gkd.data.domains import Domain
from gkd.data.layout import About, Layout, Place

TARGET = Domain("bdd100k", "bdd100k", "val")

BDD100K = Layout(
    name="bdd100k",
    places=(
        Place("images/10k/{split}/*.jpg", "labels/sem_seg/masks/{split}/*.png", "cityscapes_train_ids"),
        Place("seg/images/{split}/*.jpg", "seg/labels/{split}/*_train_id.png", "cityscapes_train_ids"),  # 2018
    ),
    splits={"train": "train", "val": "val"},
    published={"train": 7_000, "val": 1_000},
    about=About(
        url="https://bdd-data.berkeley.edu/ (10K Images, Segmentation)",
        licence="BDD100K licence: non-commercial, educational and research use, after registration",
        size="7,000 train and 1,000 val images of 1280x720",
    ),
)
