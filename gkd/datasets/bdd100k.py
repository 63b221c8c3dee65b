"""BDD100K, the 10k images with semantic labels (train ids). The release of 2018 used other folders."""

from gkd.data.layout import About, Layout
from gkd.data.pairing import Place

_TABLE = "cityscapes_train_ids"


def _places(split: str) -> tuple[Place, ...]:
    return (
        Place(f"images/10k/{split}", (".jpg",), f"labels/sem_seg/masks/{split}", ".png", _TABLE),
        Place(f"seg/images/{split}", (".jpg",), f"seg/labels/{split}", "_train_id.png", _TABLE),
    )


BDD100K = Layout(
    name="bdd100k",
    folder="bdd100k",
    label_space="cityscapes",
    splits={split: _places(split) for split in ("train", "val")},
    about=About(
        url="https://bdd-data.berkeley.edu/ (10K Images, Segmentation)",
        licence="BDD100K licence: non-commercial, educational and research use, after registration",
        size="7,000 train and 1,000 val images of 1280x720",
        tree="images/10k/{train,val}/<name>.jpg\n"
        "labels/sem_seg/masks/{train,val}/<name>.png\n"
        "or, as released in 2018:\n"
        "seg/images/{train,val}/<name>.jpg\n"
        "seg/labels/{train,val}/<name>_train_id.png",
    ),
)
