"""Cityscapes (gtFine): the official labelIds, or labelTrainIds (made by its scripts) where they are alone."""

from gkd.data.layout import About, Layout
from gkd.data.pairing import Place


def _places(split: str) -> tuple[Place, ...]:
    images, labels = (f"leftImg8bit/{split}", ("_leftImg8bit.png",)), f"gtFine/{split}"
    return (
        Place(*images, labels, "_gtFine_labelIds.png", "cityscapes"),
        Place(*images, labels, "_gtFine_labelTrainIds.png", "cityscapes_train_ids"),
    )


CITYSCAPES = Layout(
    name="cityscapes",
    folder="cityscapes",
    label_space="cityscapes",
    splits={split: _places(split) for split in ("train", "val")},  # the labels of "test" are not public
    about=About(
        url="https://www.cityscapes-dataset.com/downloads/ (leftImg8bit_ and gtFine_trainvaltest.zip)",
        licence="non-commercial terms of Cityscapes, after registration",
        size="2,975 train and 500 val images of 2048x1024, 11 GB and 241 MB",
        tree="leftImg8bit/{train,val}/<city>/<city>_<seq>_<frame>_leftImg8bit.png\n"
        "gtFine/{train,val}/<city>/<city>_<seq>_<frame>_gtFine_labelIds.png",
    ),
)
