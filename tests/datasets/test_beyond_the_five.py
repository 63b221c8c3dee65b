"""Sources of several datasets, GTAV to ACDC and Potsdam to RescueNet: planned and opened from official layouts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from layout_files import CASES, Case, image_array, save, write_case

from gkd.datasets import catalogue, official
from gkd.params import Params, load
from gkd.workspace.check import check
from gkd.workspace.folders import open_domain, open_training
from gkd.workspace.plan import build, member

NEW = ("gtav_synthia", "gtav_synthia_urbansyn", "potsdam_rescue", "potsdam_irrg_rescue")
GREY = {"gtav": 50, "synthia": 120, "urbansyn": 200}  # by which an image shows where it is from
COPIES = 3
# A stored number that becomes another one in a copy, at the place where each layout keeps it.
NUMBERS = {"gtav": "00001", "synthia": "0000001", "urbansyn": "0001", "potsdam": "2_10"}


def case(name: str, split: str) -> Case:
    """The layout's first fixture case of a split."""
    return next(case for case in CASES if (case.name, case.split) == (name, split))


def write_copies(root: Path, first: Case, tiles: tuple[str, ...] = ()) -> None:
    """A case with its number replaced: by 1, 2, ..., or by the tiles."""
    number = NUMBERS[first.name.split("-")[0]]
    for other in tiles or [f"{i + 1:0{len(number)}}" for i in range(COPIES)]:
        copy = replace(first, image=first.image.replace(number, other), label=first.label.replace(number, other))
        write_case(root, copy)
        if first.name in GREY:
            save(root / copy.image, np.full((6, 8, 3), GREY[first.name], dtype=np.uint8))


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> Params:
    """All sources of the new benchmarks, their datasets in official layouts."""
    data = tmp_path_factory.mktemp("data")
    save(data / "proxy/train/a.png", image_array(0))
    for name in GREY:
        write_copies(data / name, case(name, "all"))
    for channels in ("rgb", "irrg"):
        write_copies(data / "potsdam", case(f"potsdam_{channels}_rescue", "fit"), ("2_10", "2_11", "3_11"))
    for name, split in (("cityscapes", "val"), ("bdd100k", "val"), ("mapillary", "val"), ("rescuenet", "test")):
        write_case(data / name, case(name, split), (12, 16))
    for weather in ("night", "snow", "fog", "rain"):
        write_case(data / "acdc", case("acdc", f"{weather}_val"))
    params, known = load("tiny"), official()
    chosen = ["gtav-acdc", *(name for name, benchmark in known.benchmarks.items() if benchmark.source in NEW)]
    plan = params.plan.model_copy(update={"sources": ["gtav", *NEW], "benchmarks": chosen})
    roots = {layout.folder: str(data / layout.folder) for layout in known.layouts.values()}
    return params.model_copy(update={"plan": plan, "roots": roots})


def test_all_of_it_is_planned(params: Params) -> None:
    found = check(params)
    assert found == (params.plan.sources, [], [], [])
    plan = build(params, found.sources, found.missing)
    driving, acdc = "cityscapes,bdd100k,mapillary", "acdc_night,acdc_snow,acdc_fog,acdc_rain"
    assert {item["source"]: item["targets"] for item in plan["evaluate"].values()} == {
        "gtav": acdc,
        "gtav_synthia": driving,
        "gtav_synthia_urbansyn": driving,
        "potsdam_rescue": "rescuenet",
        "potsdam_irrg_rescue": "rescuenet",
    }
    for source in params.plan.sources:
        init = plan["task_learning"][member("f2l", "gkd", source, 0)]["init"]
        assert init.endswith(f"/f2l-gkd-0/encoders/{source}.safetensors")


@pytest.mark.parametrize("name", ("gtav", *NEW))
def test_every_domain_opens_in_the_label_space_of_its_source(params: Params, name: str) -> None:
    known = catalogue(params)
    source = known.sources[name]
    domains = [source.validation, *known.targets_of(name, params.plan.benchmarks)]
    for data in (open_training(params, source), *(open_domain(params, domain) for domain in domains)):
        assert data.label_space == source.label_space and len(data) > 0
        for image, label in data:
            assert image.shape[:2] == label.shape
            values = set(np.unique(label)) - {255}
            assert values and max(values) < len(source.classes)


@pytest.mark.parametrize("hold_out", [True, False])
def test_training_sees_images_of_all_parts(params: Params, hold_out: bool) -> None:
    params = params.model_copy(update={"plan": params.plan.model_copy(update={"hold_out": hold_out})})
    source = catalogue(params).sources["gtav_synthia_urbansyn"]
    items = [(int(image[0, 0, 0]), label) for image, label in open_training(params, source)]
    expected = {"gtav": COPIES - hold_out, "synthia": COPIES, "urbansyn": COPIES}
    assert {name: [shade for shade, _ in items].count(grey) for name, grey in GREY.items()} == expected
    # No terrain, truck and train in SYNTHIA, as its fixture's ids are those of the release.
    absent = [source.classes.index(name) for name in ("terrain", "truck", "train")]
    assert not any(np.isin(label, absent).any() for shade, label in items if shade == GREY["synthia"])
