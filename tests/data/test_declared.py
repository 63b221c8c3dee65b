"""Datasets and benchmarks that params.yaml declares: opened, planned, and every fault named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from layout_files import SIZE, image_array, save

from gkd.datasets import catalogue, official
from gkd.params import Params, ParamsError, load
from gkd.workspace.check import check
from gkd.workspace.folders import open_domain, open_training
from gkd.workspace.manifests import dependency
from gkd.workspace.plan import build

TABLE = "id,name,train_id,r,g,b\n1,water,0,0,0,255\n2,quay,1,9,9,9\n0,void,255,0,0,0\n"


@pytest.fixture
def harbour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photos and labels of three splits, two each, and the table of their ids."""
    for split in ("train", "val", "night"):
        for i in range(2):
            save(tmp_path / f"harbour/images/{split}/quay/{i}.jpg", image_array(i))
            save(tmp_path / f"harbour/labels/{split}/quay/{i}_ids.png", np.full(SIZE, i + 1, dtype=np.uint8))
    (tmp_path / "harbour.csv").write_text(TABLE)
    monkeypatch.setattr("gkd.workspace.manifests.ROOT", tmp_path)
    return tmp_path


def declare(folder: Path, datasets: dict[str, Any], benchmarks: dict[str, Any], **plan: Any) -> Params:
    """The profile tiny of a params.yaml with these declarations, as a file would have them."""
    content = yaml.safe_load(Path(load.__globals__["ROOT"] / "params.yaml").read_text())
    content |= {"datasets": datasets, "benchmarks": benchmarks, "roots": {"harbour": str(folder / "harbour")}}
    content["profiles"]["tiny"]["plan"] |= {"methods": ["teacher", "none"], **plan}
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return load("tiny", folder / "params.yaml")


def harbour_set(folder: Path, **changes: Any) -> dict[str, Any]:
    own = {
        "images": "images/{split}/*.jpg",
        "labels": "labels/{split}/*_ids.png",
        "table": str(folder / "harbour.csv"),
        "splits": ["train", "val", "night"],
    }
    return {key: value for key, value in (own | changes).items() if value is not None}


BENCHMARK = {"train": "harbour/train", "validation": "harbour/val", "targets": ["harbour/night"]}


def test_a_declared_dataset_is_trained_on_and_scored(harbour: Path) -> None:
    params = declare(harbour, {"harbour": harbour_set(harbour)}, {"harbour": BENCHMARK}, sources=["harbour"])
    known = catalogue(params)
    source = known.sources["harbour"]
    assert source.classes == ("water", "quay") and source.training(hold_out=False) == source.train
    for data in (open_training(params, source), *(open_domain(params, d) for d in known.targets_of("harbour"))):
        assert len(data) == 2 and data.label_space == source.label_space
        assert [int(label[0, 0]) for _, label in data] == [0, 1]
    found = check(params)
    assert found == (["harbour"], [], [], [])
    data = dependency(params)
    plan = build(params, found.sources, found.missing, data)
    assert plan["evaluate"]["f2l-harbour-0"]["targets"] == "harbour-night"
    assert plan["task_learning"]["f2l-none-harbour-0"]["data"] == "manifests/harbour.csv"
    assert (harbour / "manifests/harbour.csv").read_text().count("\n") == 13
    (harbour / "harbour/labels/night/quay/1_ids.png").unlink()
    assert "expected its label *_ids.png" in known.problem("harbour", "night")
    assert "images/{train,val,night}/*.jpg and labels/{train,val,night}/*_ids.png" in known.problem("harbour", "night")


def test_benchmarks_may_join_sets_and_add_targets_to_an_official_source(harbour: Path) -> None:
    own = harbour_set(harbour, label_space="cityscapes")
    benchmarks = {
        "gtav-harbour": {"source": "gtav", "targets": ["harbour/night", "acdc_night", "cityscapes/val"]},
        "ports": {"train": ["harbour/train", "gtav/all"], "validation": "harbour/val", "targets": ["mapillary"]},
        "ports-night": {"source": "ports", "targets": ["harbour/night"]},
    }
    known = catalogue(declare(harbour, {"harbour": own}, benchmarks))
    names = {name: [target.name for target in known.targets_of(name)] for name in ("gtav", "ports")}
    assert names == {
        "gtav": ["cityscapes", "bdd100k", "mapillary", "harbour-night", "acdc_night"],
        "ports": ["mapillary", "harbour-night"],
    }
    assert [domain.name for domain in known.sources["ports"].train] == ["harbour-train", "gtav_all"]
    assert "gtav-harbour" not in official().benchmarks  # nothing is kept


def test_without_split_every_tenth_image_is_held_out_and_splits_may_name_folders(harbour: Path) -> None:
    flat = harbour_set(harbour, images="images/*.jpg", labels="labels/*_ids.png", splits=None)
    known = catalogue(declare(harbour, {"harbour": flat}, {}))
    counts = [len(known.open_split("harbour", split)) for split in ("all", "val", "train")]
    assert counts == [6, 1, 5]
    named = harbour_set(harbour, splits={"dusk": "night"}, labels=None, table=None)
    data = catalogue(declare(harbour, {"harbour": named}, {})).open_split("harbour", "dusk")
    assert len(data) == 2 and data[0][1] is None and data.label_space == ""


def test_every_fault_is_named_at_once(harbour: Path) -> None:
    datasets = {
        "gtav": harbour_set(harbour),
        "a": harbour_set(harbour, splits=None),
        "b": harbour_set(harbour, table="ade20k"),
        "c": harbour_set(harbour, images="images/{split}/photo.jpg"),
        "d": harbour_set(harbour, table=None),
        "e": harbour_set(harbour, table="mapillary", label_space="camvid"),
        "harbour": harbour_set(harbour),
    }
    benchmarks = {
        "gtav-acdc": BENCHMARK,
        "f": BENCHMARK | {"train": "harbour/dusk"},
        "g": BENCHMARK | {"targets": ["cityscapes"]},
        "h": BENCHMARK | {"targets": ["harbour/val"]},
        "i": BENCHMARK | {"train": "harbour/val"},
        "j": {"source": "gta", "targets": ["cityscapes"]},
        "k": {"source": "gtav", "targets": ["proxy/train"]},
        "l": {"source": "gtav", "targets": ["citys"]},
    }
    with pytest.raises(ParamsError) as caught:
        catalogue(declare(harbour, datasets, benchmarks))
    table = harbour / "harbour.csv"
    expected = [
        "datasets.gtav: an official one has this name",
        "datasets.a: expected {split} in images and labels, and `splits`",
        "datasets.b: unknown label table 'ade20k'",
        "datasets.c: 'images/x/photo.jpg': expected a folder and names with one star",
        "datasets.d: expected labels and the table of their ids, or neither",
        "datasets.e: mapillary has the train id 18, label space camvid only 11 classes",
        "benchmarks.gtav-acdc: an official one has this name",
        "benchmarks.f: harbour has no split 'dusk', expected one of train, val, night",
        f"benchmarks.g: cityscapes: expected the classes of {table}, found cityscapes",
        "benchmarks.h: target harbour-val is a part of the source h",
        "benchmarks.i: harbour/val is for training and for validation",
        "benchmarks.j: unknown source 'gta'",
        "benchmarks.k: proxy/train: expected the classes of cityscapes, found no labels",
        "benchmarks.l: 'citys': expected DATASET/SPLIT, or one of ",
    ]
    lines = str(caught.value).split("\n")
    assert len(lines) == len(expected)
    for line, text in zip(lines, expected, strict=True):
        assert line.startswith(f"params.yaml: {text}")


@pytest.mark.parametrize(
    ("datasets", "benchmarks", "key"),
    [
        ({"Harbour 1": {"images": "*.jpg"}}, {}, "datasets.Harbour 1"),
        ({"a": {"image": "*.jpg"}}, {}, "datasets.a.image"),
        ({}, {"a": {"source": "gtav", "train": "gtav/all", "targets": ["acdc_fog"]}}, "benchmarks.a"),
        ({}, {"a": {"train": "gtav/all", "targets": ["acdc_fog"]}}, "benchmarks.a"),
        ({}, {"a": {"source": "gtav", "targets": []}}, "benchmarks.a.targets"),
    ],
)
def test_what_is_no_declaration_is_refused(tmp_path: Path, datasets: dict, benchmarks: dict, key: str) -> None:
    with pytest.raises(ParamsError, match=f"params.yaml: {key}"):
        declare(tmp_path, datasets, benchmarks)
