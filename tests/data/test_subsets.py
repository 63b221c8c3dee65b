from pathlib import Path
from types import SimpleNamespace

import pytest
from dataset_names import touch
from hypothesis import given
from hypothesis import strategies as st

from gkd.data.domains import SOURCES
from gkd.data.subsets import nested_subset, restrict, subset_file, write
from gkd.datasets import open_split
from gkd.params import load
from gkd.workspace.folders import open_training


@given(st.integers(16, 300), st.integers(0, 5))
def test_fractions_are_nested_and_of_the_stated_size(count, seed):
    names = [f"{i:04}.png" for i in range(count)]
    parts = {divisor: nested_subset(reversed(names), divisor, seed) for divisor in (1, 2, 4, 8, 16)}
    assert parts[1] == names
    for divisor, part in parts.items():
        assert len(part) == len(set(part)) == count // divisor and part == sorted(part)
    for larger, smaller in ((1, 2), (2, 4), (4, 8), (8, 16)):
        assert set(parts[smaller]) <= set(parts[larger])


def test_sizes_of_the_protocol():
    assert [len(nested_subset(map(str, range(24_964)), k, 0)) for k in (16, 8, 4)] == [1560, 3120, 6241]
    assert [len(nested_subset(map(str, range(2_975)), k, 0)) for k in (16, 8, 4)] == [185, 371, 743]


def test_seeds_draw_other_images():
    names = [str(i) for i in range(100)]
    assert nested_subset(names, 4, 0) != nested_subset(names, 4, 1)


def test_nothing_left_is_an_error():
    with pytest.raises(ValueError, match="1/16 of 15 labelled images is none"):
        nested_subset(map(str, range(15)), 16, 0)


def test_the_file_is_the_members_own_and_absent_for_all_labels():
    assert subset_file("gtav", 1, 3) is None
    assert subset_file("gtav", 16, 3) == "subsets/gtav-16-3.txt"


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    touch(tmp_path, "cityscapes")
    for i in range(20, 23):
        for folder, end in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelTrainIds")):
            (tmp_path / f"cityscapes/{folder}/train/ulm/ulm_000000_0000{i}_{end}.png").touch()
    return tmp_path


def test_what_is_written_is_what_is_read(cityscapes: Path) -> None:
    params = load("tiny")
    planned = params.plan.model_copy(update={"label_divisor": 2, "seeds": [0, 1], "sources": ["cityscapes"]})
    roots = {"cityscapes": str(cityscapes / "cityscapes")}
    params = params.model_copy(update={"plan": planned, "roots": roots})
    first, second = write(params, ["cityscapes"], cityscapes)
    assert first == cityscapes / "subsets/cityscapes-2-0.txt" and second.name == "cityscapes-2-1.txt"
    data = open_split("cityscapes", "train", roots)
    part = restrict(data, first)
    assert len(data) == 4 and [sample.name for sample in part.samples] == first.read_text().splitlines()
    assert len(part) == 2
    assert restrict(data, None) is data


def test_each_dataset_of_a_joined_source_gives_its_fraction(tmp_path: Path) -> None:
    for i in range(12):
        names = (f"images/{i:05}.png", f"labels/{i:05}.png", f"RGB/{i:07}.png", f"GT/LABELS/{i:07}.png")
        for file in (tmp_path / ("gtav", "synthia")[k // 2] / name for k, name in enumerate(names)):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    params = load("tiny")
    planned = params.plan.model_copy(update={"label_divisor": 4, "hold_out": False})
    roots = {name: str(tmp_path / name) for name in ("gtav", "synthia")}
    params = params.model_copy(update={"plan": planned, "roots": roots})
    alone, joined = write(params, ["gtav", "gtav-synthia"], tmp_path)
    lines = joined.read_text().splitlines()
    assert [line.split("/")[0] for line in lines] == 3 * ["gtav"] + 3 * ["synthia"]
    assert lines[:3] == [f"gtav/{line}" for line in alone.read_text().splitlines()]
    data = open_training(params, SOURCES["gtav-synthia"])
    assert len(data) == 24
    part = restrict(data, joined)
    assert [sample.name for sample in part.samples] == lines
    assert [sample.image for sample in part.samples] == [tmp_path / line for line in lines]
    for folder in ("RGB", "GT/LABELS"):
        for i in range(3, 12):
            (tmp_path / f"synthia/{folder}/{i:07}.png").unlink()
    with pytest.raises(ValueError, match="1/4 of 3 labelled images of synthia is none"):
        write(params, ["gtav-synthia"], tmp_path)


@pytest.mark.parametrize(("text", "message"), [("gone.png\n", "gone.png is not in the dataset"), ("", "it is empty")])
def test_a_file_of_other_data_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(ValueError, match=f"a.txt: {message}; `gkd plan` writes"):
        restrict(SimpleNamespace(samples=()), tmp_path / "a.txt")


def test_all_labels_need_no_file(tmp_path: Path) -> None:
    assert write(load("tiny"), ["gtav"], tmp_path) == [] and not list(tmp_path.iterdir())
