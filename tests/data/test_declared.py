"""Datasets that params.yaml declares: opened, named as sources and targets, and every fault at once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from layout_files import SIZE, image_array, save

from gkd.data.catalogue import Catalogue
from gkd.data.samples import concatenate
from gkd.datasets import catalogue, official
from gkd.params import ROOT, ParamsError, load

TABLE = "id,name,train_id,r,g,b\n1,water,0,0,0,255\n2,quay,1,9,9,9\n0,void,255,0,0,0\n"


@pytest.fixture
def harbour(tmp_path: Path) -> dict[str, Any]:
    """The declaration of photos and labels of three splits, two each, with a table of their own."""
    for split in ("train", "val", "night"):
        for i in range(2):
            save(tmp_path / f"harbour/images/{split}/quay/{i}.jpg", image_array(i))
            save(tmp_path / f"harbour/labels/{split}/quay/{i}_ids.png", np.full(SIZE, i + 1, dtype=np.uint8))
    (tmp_path / "harbour.csv").write_text(TABLE)
    return {
        "images": "images/{split}/*.jpg",
        "labels": "labels/{split}/*_ids.png",
        "table": str(tmp_path / "harbour.csv"),
        "splits": ["train", "val", "night"],
    }


def declare(folder: Path, **datasets: Any) -> Catalogue:
    """The catalogue of a params.yaml with these declarations; a key that is None is left out."""
    content = yaml.safe_load((ROOT / "profiles/tiny.yaml").read_text())
    content["datasets"] = {n: {k: v for k, v in own.items() if v is not None} for n, own in datasets.items()}
    content["roots"] = {name: str(folder / "harbour") for name in datasets if name == "harbour"}
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return catalogue(load(folder / "params.yaml"))


def names(domains) -> list[str]:
    return [domain.name for domain in domains]


@pytest.mark.parametrize("longer", ["label", "photo"])
def test_labels_may_lie_beside_their_photos(tmp_path: Path, harbour: dict, longer: str) -> None:
    """Whichever of the two has the longer name: the pattern of the other fits both."""
    photo, label = ("*.png", "*_ids.png") if longer == "label" else ("*_rgb.png", "*.png")
    for split in ("train", "val", "night"):
        for i in range(2):
            beside = tmp_path / f"harbour/images/{split}/quay/{label.replace('*', str(i))}"
            (tmp_path / f"harbour/labels/{split}/quay/{i}_ids.png").rename(beside)
        for i in range(2):
            (tmp_path / f"harbour/images/{split}/quay/{i}.jpg").unlink()
            save(tmp_path / f"harbour/images/{split}/quay/{photo.replace('*', str(i))}", image_array(i))
    own = harbour | {"images": f"images/{{split}}/{photo}", "labels": f"images/{{split}}/{label}"}
    data = declare(tmp_path, harbour=own).open_split("harbour", "night")
    assert [sample.name for sample in data.samples] == [f"images/night/quay/{photo.replace('*', i)}" for i in "01"]
    assert [int(label[0, 0]) for _, label in data] == [0, 1]


def test_a_dataset_is_a_source_by_its_splits_and_any_split_a_target(tmp_path: Path, harbour: dict) -> None:
    known = declare(tmp_path, harbour=harbour)
    source, targets = known.source("harbour"), known.targets("harbour", ["harbour/night"])
    assert (names(source.train), source.validation.name, names(targets)) == (
        ["harbour_train"],
        "harbour_val",
        ["harbour_night"],
    )
    assert source.classes == ("water", "quay") and source.training(hold_out=False) == source.train
    for domain in (*source.domains, *targets):
        data = known.open_split(domain.dataset, domain.split)
        assert data.label_space == source.label_space and [int(label[0, 0]) for _, label in data] == [0, 1]
    (tmp_path / "harbour/labels/night/quay/1_ids.png").unlink()
    text = known.problem("harbour", "night")
    assert "expected its label *_ids.png" in text and "roots.harbour" in text and "GKD_HARBOUR_ROOT" in text
    assert "images/{train,val,night}/*.jpg and labels/{train,val,night}/*_ids.png" in text
    assert "harbour" not in official().sources  # nothing is kept


def test_sources_may_join_sets_and_official_ones_get_targets(tmp_path: Path, harbour: dict) -> None:
    own = harbour | {"label_space": "cityscapes"}
    ports = own | {"train": ["night", "gtav/train", "harbour/train"], "validation": "harbour/val"}
    known = declare(tmp_path, ports=ports, harbour=own | {"train": "night"})  # the later one may be named
    assert names(known.source("ports").train) == ["ports_night", "gtav_train", "harbour_train"]
    assert known.source("ports").validation.name == "harbour_val"
    assert names(known.source("harbour").domains) == ["harbour_night", "harbour_val"]
    assert names(known.targets("gtav", ["cityscapes", "harbour/night", "acdc_night"])) == [
        "cityscapes",
        "harbour_night",
        "acdc_night",
    ]
    with pytest.raises(ValueError, match="harbour_val is a part of the source ports"):
        known.targets("ports", ["ports/val", "harbour/val"])
    parts = [known.open_split("harbour", split) for split in ("train", "night")]
    assert len(concatenate(parts, ["a", "b"])) == 4


def test_without_split_every_tenth_image_is_held_out_and_splits_may_name_folders(tmp_path: Path, harbour: dict) -> None:
    flat = harbour | {"images": "images/*.jpg", "labels": "labels/*_ids.png", "splits": None}
    known = declare(tmp_path, harbour=flat)
    assert [len(known.open_split("harbour", split)) for split in ("all", "val", "train")] == [6, 1, 5]
    assert names(known.source("harbour").domains) == ["harbour_train", "harbour_val"]
    bare = harbour | {"splits": {"dusk": "night", "train": "train", "val": "val"}, "labels": None, "table": None}
    known = declare(tmp_path, harbour=bare)
    data = known.open_split("harbour", "dusk")
    assert len(data) == 2 and data[0][1] is None and data.label_space == "" and "harbour" not in known.sources


def test_every_fault_is_named_at_once(tmp_path: Path, harbour: dict) -> None:
    bare = {"labels": None, "table": None}
    faulty = {
        "gtav": ({}, "an official one has this name"),
        "potsdam": ({}, "an official one has this name"),  # of a folder
        "a": ({"splits": None}, "expected {split} in images and labels, and `splits`"),
        "b": ({"table": "ade20k"}, "unknown label table 'ade20k'"),
        "c": ({"images": "images/{split}/a.jpg"}, "'images/x/a.jpg': expected a folder and names with one star"),
        "k": ({"images": "/photos/{split}/*.jpg"}, "'/photos/{split}/*.jpg': expected a path below the dataset's"),
        "d": ({"table": None}, "expected labels and the table of their ids, or neither"),
        "e": (bare | {"label_space": "camvid"}, "expected labels and the table of their ids, or neither"),
        "f": ({"table": "mapillary", "label_space": "camvid"}, "mapillary has the train id 18, label space camvid"),
        "g": ({"train": "dusk"}, "g has no split 'dusk', expected one of train, val, night"),
        "h": ({"train": "gtav/all"}, f"gtav/all: expected the classes of {harbour['table']}, found cityscapes"),
        "i": ({"validation": "train"}, "expected each split once in train (train) and validation (train)"),
        "j": (bare | {"train": "night"}, "train and validation are of a source: expected labels"),
    }  # fmt: skip
    with pytest.raises(ParamsError) as caught:
        declare(tmp_path, harbour=harbour, **{name: harbour | changes for name, (changes, _) in faulty.items()})
    for line, (name, (_, text)) in zip(caught.value.faults, faulty.items(), strict=True):
        assert line.startswith(f"params.yaml: datasets.{name}: {text}")


@pytest.mark.parametrize(
    ("dataset", "key"),
    [
        ({"Harbour 1": {"images": "*.jpg"}}, "datasets.Harbour 1"),
        ({"a": {"image": "*.jpg"}}, "datasets.a.image"),
        ({"a": {"images": "*.jpg", "train": 5}}, "datasets.a.train"),
        ({"a": {"images": "{split}/*.jpg", "splits": ["night/rain"]}}, "datasets.a.splits: expected names of letters"),
    ],
)
def test_what_is_no_declaration_is_refused(tmp_path: Path, dataset: dict, key: str) -> None:
    with pytest.raises(ParamsError, match=f"params.yaml: {key}"):
        declare(tmp_path, **dataset)
