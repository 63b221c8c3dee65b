"""What a dataset and a benchmark of one's own cost where a declaration does not do: one file in gkd/datasets/."""

from pathlib import Path

import numpy as np
import pytest
from layout_files import Case, write_case

from gkd import datasets

FILE = '''
"""KITTI semantic segmentation, 2015: 200 street images with Cityscapes ids."""

from gkd.data.domains import Benchmark, Domain
from gkd.data.layout import About, Layout, Place

KITTI = Layout(
    name="kitti",
    places=(Place("training/image_2/*.png", "training/semantic/*.png", "cityscapes"),),
    splits={"all": ""},
    about=About(
        url="https://www.cvlibs.net/datasets/kitti/eval_semantics.php",
        licence="see the page",
        size="200 training images of about 1242x375",
    ),
)
GTAV_KITTI = Benchmark("gtav-kitti", "gtav", (Domain("kitti", "kitti", "all"),))
'''
CASE = Case("kitti", "all", "training/image_2/0_10.png", "training/semantic/0_10.png", "L", (7, 33, 3), (0, 18, 255))


def test_one_file_brings_a_dataset_and_a_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "kitti.py").write_text(FILE)
    monkeypatch.setattr(datasets, "__path__", [*datasets.__path__, str(folder)])
    _, expected = write_case(tmp_path / "kitti", CASE)
    known = datasets.official({"kitti": str(tmp_path / "kitti")})
    assert np.array_equal(known.open_split("kitti", "all")[0][1], expected)
    assert [target.name for target in known.targets_of("gtav", ["gtav-kitti"])] == ["kitti"]
    assert known.domains["kitti"].split == "all"
