"""Datasets of empty files under official names: planning lists files and opens none."""

from pathlib import Path
from typing import Any

from gkd.datasets import official
from gkd.params import Params, load

NAMES = {
    "proxy": ["train/n01/a.JPEG"],
    "gtav": [f"{folder}/{i:05}.png" for folder in ("images", "labels") for i in (1, 2)],
    "cityscapes": [
        f"{folder}/{split}/ulm/ulm_000000_000019_{end}.png"
        for split in ("train", "val")
        for folder, end in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelTrainIds"))
    ],
    "bdd100k": ["images/10k/val/a-b.jpg", "labels/sem_seg/masks/val/a-b.png"],
    "mapillary": ["validation/images/k.jpg", "validation/v1.2/labels/k.png"],
    "synthia": ["RGB/0000000.png", "GT/LABELS/0000000.png"],
    "urbansyn": ["rgb/rgb_0001.png", "ss/ss_0001.png"],
    "acdc": [
        f"{folder}/{weather}/val/GOPR0356/GOPR0356_frame_000321_{end}.png"
        for weather in ("night", "snow", "fog", "rain")
        for folder, end in (("rgb_anon", "rgb_anon"), ("gt", "gt_labelTrainIds"))
    ],
    "camvid": [
        f"{name}{end}"
        for name in ("train/{}/0006R0_f1", "train/{}/0001TP_1", "val/{}/0016E5_1")
        for end in (".jpg", ".png")
    ],
}


def touch(data: Path, *folders: str) -> None:
    """Create the named datasets under `data`."""
    for folder in folders:
        for name in NAMES[folder]:
            file = data / folder / name.format("images" if name.endswith(".jpg") else "labels")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()


def plan(data: Path, profile: str = "tiny", **changes: Any) -> Params:
    """A profile whose datasets all lie under `data`, with changes of its `plan`."""
    params = load(profile)
    roots = {layout.folder: str(data / layout.folder) for layout in official().layouts.values()}
    return params.model_copy(update={"plan": params.plan.model_copy(update=changes), "roots": roots})
