"""CamVid with 11 classes, 480x360. One of its drives, 0001TP, was filmed at dusk and serves as unseen target.

File names begin with the drive. "day" and "dusk" are the two parts of the train folder.
"""

from gkd.data.domains import Domain, Source
from gkd.data.layout import About, Layout, Place
from gkd.data.samples import Sample

_DRIVES = {"day": ("0016E5", "0006R0"), "dusk": ("0001TP",)}


def _part(split: str, samples: list[Sample]) -> list[Sample]:
    wanted = _DRIVES.get(split)
    return [sample for sample in samples if wanted is None or sample.image.name.split("_")[0] in wanted]


CAMVID = Layout(
    name="camvid",
    places=(
        Place("{split}/images/*.{jpg,png}", "{split}/labels/*.png", "camvid"),
        Place("{split}/*.png", "{split}annot/*.png", "camvid"),  # as in the SegNet tutorial
    ),
    splits={"day": "train", "dusk": "train", "val": "val"},
    published={"val": 101},  # "day" and "dusk" are parts of the 367 of train
    part=_part,
    about=About(
        url="http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/, with the 11 classes of SegNet",
        licence="academic use, cite Brostow et al. (2008, 2009); see the page",
        size="367 train and 101 val images of 480x360, names <drive>_<frame>, ids 0..11 (11 = void)",
    ),
)
SOURCES = (Source("camvid", (Domain("camvid_day", "camvid", "day"),), Domain("camvid_val", "camvid", "val"), "camvid"),)
TARGET = Domain("camvid_dusk", "camvid", "dusk")
