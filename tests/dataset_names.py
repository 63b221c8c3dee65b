"""Datasets of empty files under official names, which `gkd check` lists and does not open, and a checkout of them."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from gkd import params
from gkd.data import catalogue
from gkd.params import ROOT
from gkd.workspace import folders, jobs, manifests, members

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


def put(content: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key; mappings on the way are made."""
    *path, last = key.split(".")
    for part in path:
        content[part] = content.get(part) or {}
        content = content[part]
    content[last] = value


def written(folder: Path, changes: Mapping[str, Any] | None = None, profile: str = "tiny") -> Path:
    """params.yaml in `folder`: a profile with other values at some dotted keys."""
    yaml = YAML(typ="safe")
    content = yaml.load(ROOT / "profiles" / f"{profile}.yaml")
    for key, value in (changes or {}).items():
        put(content, key, value)
    yaml.dump(content, folder / "params.yaml")
    return folder / "params.yaml"


def make_checkout(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """A folder that the package takes for its checkout: the profile tiny, dvc.yaml, and what it reads, empty."""
    for module in (catalogue, folders, jobs, manifests, members, params):
        monkeypatch.setattr(module, "ROOT", folder)
    monkeypatch.setattr(manifests, "FOLDER", folder / "manifests")
    written(folder)
    shutil.copy(ROOT / "dvc.yaml", folder)
    (folder / "weights").symlink_to(ROOT / "weights")
    touch(folder / "data", "proxy", "gtav", "cityscapes", "bdd100k", "mapillary")
    return folder
