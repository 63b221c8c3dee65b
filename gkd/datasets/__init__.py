"""Datasets in their official layouts: uint8 RGB images (H, W, 3) and uint8 train-id labels (H, W) come out.

data = open_split("cityscapes", "val", roots={"cityscapes": "/somewhere"})
image, label = data[0]
"""

import os
from collections.abc import Mapping
from pathlib import Path

from gkd.data.concat import JoinedData, join, joined_name
from gkd.data.layout import Layout
from gkd.data.pairing import Sample
from gkd.data.reading import DatasetError
from gkd.data.samples import SegmentationData
from gkd.datasets.acdc import ACDC
from gkd.datasets.bdd100k import BDD100K
from gkd.datasets.camvid import CAMVID
from gkd.datasets.cityscapes import CITYSCAPES
from gkd.datasets.gtav import GTAV
from gkd.datasets.mapillary import MAPILLARY
from gkd.datasets.potsdam import (
    POTSDAM_IRRG,
    POTSDAM_IRRG_RESCUE,
    POTSDAM_RGB,
    POTSDAM_RGB_EXACT,
    POTSDAM_RGB_RESCUE,
)
from gkd.datasets.proxy import PROXY
from gkd.datasets.rescuenet import RESCUENET
from gkd.datasets.synthia import SYNTHIA
from gkd.datasets.urbansyn import URBANSYN
from gkd.datasets.vaihingen import VAIHINGEN
from gkd.params import ROOT

__all__ = [
    "DATASETS",
    "DatasetError",
    "JoinedData",
    "Sample",
    "SegmentationData",
    "join",
    "joined_name",
    "open_split",
    "problem",
    "root_of",
    "variable",
]

DATASETS: dict[str, Layout] = {
    "proxy": PROXY,
    "gtav": GTAV,
    "synthia": SYNTHIA,
    "urbansyn": URBANSYN,
    "cityscapes": CITYSCAPES,
    "bdd100k": BDD100K,
    "mapillary": MAPILLARY,
    "acdc": ACDC,
    "potsdam-rgb": POTSDAM_RGB,
    "potsdam-irrg": POTSDAM_IRRG,
    "potsdam-rgb-exact": POTSDAM_RGB_EXACT,
    "potsdam-rgb-rescue": POTSDAM_RGB_RESCUE,
    "potsdam-irrg-rescue": POTSDAM_IRRG_RESCUE,
    "vaihingen": VAIHINGEN,
    "rescuenet": RESCUENET,
    "camvid": CAMVID,
}


def variable(folder: str) -> str:
    """The environment variable that names the root of a dataset folder."""
    return f"GKD_{folder.upper()}_ROOT"


def root_of(name: str, roots: Mapping[str, str] | None = None) -> Path:
    """The root folder of a dataset: its environment variable, else roots[folder], else data/<folder>.

    Relative paths count from the repository root, `~` is expanded. Whether the folder exists is not checked.
    Raises DatasetError on an unknown dataset and on a key of `roots` that is no dataset folder.
    """
    folder = _layout(name).folder
    roots = roots or {}
    folders = sorted({layout.folder for layout in DATASETS.values()})
    for key in roots:
        if key not in folders:
            raise DatasetError(f"roots.{key}: no dataset has this folder, expected one of {', '.join(folders)}")
    root = os.environ.get(variable(folder)) or roots.get(folder) or f"data/{folder}"
    return ROOT / Path(root).expanduser()


def open_split(
    name: str, split: str, roots: Mapping[str, str] | None = None, in_memory: bool = False
) -> SegmentationData:
    """A split of a dataset, its files listed and paired. Raises DatasetError where something is missing."""
    samples = _layout(name).find(root_of(name, roots), split)
    return SegmentationData(_layout(name), tuple(samples), in_memory)


def problem(name: str, split: str, roots: Mapping[str, str] | None = None) -> str | None:
    """None where the files of a split are there and paired, else what is wrong and how to get the dataset.

    Files are listed, not opened (of tiles the headers are read). An unknown dataset, split or key of `roots` raises
    DatasetError.
    """
    layout, root = _layout(name), root_of(name, roots)
    layout.check_split(split)
    try:
        layout.find(root, split)
    except DatasetError as error:
        about = layout.about
        return (
            f"{error}\n"
            f"Download: {about.url}\n"
            f"Licence: {about.licence}\n"
            f"Size: {about.size}\n"
            f"Layout:\n{about.tree}\n"
            f"Put it in {root}, or name its folder in params.yaml (roots.{layout.folder})"
            f" or in the environment ({variable(layout.folder)})"
        )
    return None


def _layout(name: str) -> Layout:
    if name not in DATASETS:
        raise DatasetError(f"unknown dataset {name!r}, expected one of {', '.join(DATASETS)}")
    return DATASETS[name]
