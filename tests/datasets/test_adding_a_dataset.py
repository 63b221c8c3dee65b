"""What a dataset of one's own costs where a declaration does not do: one file in gkd/datasets/."""

from pathlib import Path

import numpy as np
import pytest
from layout_files import Case, write_case

from gkd import datasets

FILE = '''
"""KITTI semantic segmentation, 2015: 200 street images with Cityscapes ids."""

from gkd.data.domains import Domain, Source
from gkd.data.layout import About, Layout, Place, every_tenth_held_out

KITTI = Layout(
    name="kitti",
    places=(Place("training/image_2/*.png", "training/semantic/*.png", "cityscapes"),),
    part=every_tenth_held_out,
    about=About(
        url="https://www.cvlibs.net/datasets/kitti/eval_semantics.php",
        licence="see the page",
        size="200 training images of about 1242x375",
    ),
)
TARGET = Domain("kitti", "kitti", "all")
SOURCE = Source("kitti", (Domain("kitti_train", "kitti", "train"),), Domain("kitti_val", "kitti", "val"), "cityscapes")
'''
CASE = Case("kitti", "all", "training/image_2/0_10.png", "training/semantic/0_10.png", "L", (7, 33, 3), (0, 18, 255))


def test_one_file_brings_a_dataset_its_domains_and_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "kitti.py").write_text(FILE)
    monkeypatch.setattr(datasets, "__path__", [*datasets.__path__, str(folder)])
    _, expected = write_case(tmp_path / "kitti", CASE)
    known = datasets.official({"kitti": str(tmp_path / "kitti")})
    assert np.array_equal(known.open_split("kitti", "all")[0][1], expected)
    assert known.targets("gtav", ["kitti"]) == (known.domain("kitti/all"),)
    assert [domain.name for domain in known.source("kitti").domains] == ["kitti_train", "kitti_val"]
