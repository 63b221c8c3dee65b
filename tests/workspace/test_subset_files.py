"""The files that say which labels task learning sees."""

from pathlib import Path

import pytest
from dataset_names import plan, touch

from gkd.data.subsets import restrict
from gkd.datasets import official
from gkd.files import write_whole
from gkd.params import load
from gkd.workspace.folders import open_training
from gkd.workspace.subsets import subset_file, write_subsets


def test_the_file_is_the_members_own_and_absent_for_all_labels(tmp_path: Path) -> None:
    assert subset_file("gtav", 1, 3) is None
    assert subset_file("gtav", 16, 3) == "subsets/gtav-16-3.txt"
    assert write_subsets(load("tiny"), ["gtav"], tmp_path) == [] and not list(tmp_path.iterdir())


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    touch(tmp_path, "cityscapes")
    for i in range(20, 23):
        for folder, end in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelTrainIds")):
            (tmp_path / f"cityscapes/{folder}/train/ulm/ulm_000000_0000{i}_{end}.png").touch()
    params = plan(tmp_path, label_divisor=2, seeds=[0, 1], sources=["cityscapes"])
    first, second = write_subsets(params, ["cityscapes"], tmp_path)
    assert first == tmp_path / "subsets/cityscapes-2-0.txt" and second.name == "cityscapes-2-1.txt"
    data = official(params.roots).open_split("cityscapes", "train")
    part = restrict(data, first)
    assert len(data) == 4 and [sample.name for sample in part.samples] == first.read_text().splitlines()
    assert len(part) == 2


def test_each_dataset_of_a_joined_source_gives_its_fraction(tmp_path: Path) -> None:
    for name in ("gtav/images/{:05}", "gtav/labels/{:05}", "synthia/RGB/{:07}", "synthia/GT/LABELS/{:07}"):
        for i in range(12):
            write_whole(tmp_path / f"{name.format(i)}.png", "")
    params = plan(tmp_path, label_divisor=4, hold_out=False)
    alone, joined = write_subsets(params, ["gtav", "gtav_synthia"], tmp_path)
    lines = joined.read_text().splitlines()
    assert [line.split("/")[0] for line in lines] == 3 * ["gtav"] + 3 * ["synthia"]
    assert lines[:3] == [f"gtav/{line}" for line in alone.read_text().splitlines()]
    data = open_training(params, official().sources["gtav_synthia"])
    assert len(data) == 24
    part = restrict(data, joined)
    assert [sample.name for sample in part.samples] == lines
    assert [sample.image for sample in part.samples] == [tmp_path / line for line in lines]
    for folder in ("RGB", "GT/LABELS"):
        for i in range(3, 12):
            (tmp_path / f"synthia/{folder}/{i:07}.png").unlink()
    with pytest.raises(ValueError, match="1/4 of 3 labelled images of synthia is none"):
        write_subsets(params, ["gtav_synthia"], tmp_path)
