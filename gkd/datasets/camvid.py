"""CamVid with 11 classes, 480x360. One of its drives, 0001TP, was filmed at dusk and serves as unseen target.

File names begin with the drive. "day" and "dusk" are the two parts of the train folder.
"""

from gkd.data.layout import About, Layout
from gkd.data.pairing import Place, Sample

_DRIVES = {"day": ("0016E5", "0006R0"), "dusk": ("0001TP",)}


def _part(split: str, samples: list[Sample]) -> list[Sample]:
    wanted = _DRIVES.get(split)
    return [sample for sample in samples if wanted is None or sample.image.name.split("_")[0] in wanted]


def _places(folder: str) -> tuple[Place, ...]:
    return (
        Place(f"{folder}/images", (".jpg", ".png"), f"{folder}/labels", ".png", "camvid"),
        Place(folder, (".png",), f"{folder}annot", ".png", "camvid"),  # as in the SegNet tutorial
    )


CAMVID = Layout(
    name="camvid",
    folder="camvid",
    label_space="camvid",
    splits={"day": _places("train"), "dusk": _places("train"), "val": _places("val")},
    part=_part,
    about=About(
        url="http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/, with the 11 classes of SegNet",
        licence="academic use, cite Brostow et al. (2008, 2009); see the page",
        size="367 train and 101 val images of 480x360",
        tree="{train,val}/<drive>_<frame>.png and {train,val}annot/<same name>.png, as in the SegNet tutorial\n"
        "(ids 0..11, 11 = void), or {train,val}/images/<drive>_<frame>.jpg and {train,val}/labels/<drive>_<frame>.png",
    ),
)
