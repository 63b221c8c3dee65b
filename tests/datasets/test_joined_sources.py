"""Sources of several datasets, GTAV to ACDC and Potsdam to RescueNet: opened from official layouts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from layout_files import CASES, Case, save, write_case

from gkd.datasets import Catalogue, concatenate, official

TARGETS = {
    "gtav": ("acdc_night", "acdc_snow", "acdc_fog", "acdc_rain"),
    "gtav_synthia": ("cityscapes", "bdd100k", "mapillary"),
    "gtav_synthia_urbansyn": ("cityscapes", "bdd100k", "mapillary"),
    "potsdam_rescue": ("rescuenet",),
    "potsdam_irrg_rescue": ("rescuenet",),
}
GREY = {"gtav": 50, "synthia": 120, "urbansyn": 200}  # by which an image shows where it is from
COPIES = 3
# A stored number that becomes another one in a copy, at the place where each layout keeps it.
NUMBERS = {"gtav": "00001", "synthia": "0000001", "urbansyn": "0001", "potsdam": "2_10"}


def case(name: str, split: str) -> Case:
    """The layout's first fixture case of a split."""
    return next(case for case in CASES if (case.name, case.split) == (name, split))


def write_copies(root: Path, first: Case, tiles: tuple[str, ...] = ()) -> None:
    """A case with its number replaced: by 1, 2, ..., or by the tiles."""
    number = NUMBERS[first.name.split("_")[0]]
    for other in tiles or [f"{i + 1:0{len(number)}}" for i in range(COPIES)]:
        copy = replace(first, image=first.image.replace(number, other), label=first.label.replace(number, other))
        write_case(root, copy)
        if first.name in GREY:
            save(root / copy.image, np.full((6, 8, 3), GREY[first.name], dtype=np.uint8))


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """The datasets of these sources and targets in official layouts."""
    data = tmp_path_factory.mktemp("data")
    for name in GREY:
        write_copies(data / name, case(name, "all"))
    for channels in ("rgb", "irrg"):
        write_copies(data / "potsdam", case(f"potsdam_{channels}_rescue", "fit"), ("2_10", "2_11", "3_11"))
    for name, split in (("cityscapes", "val"), ("bdd100k", "val"), ("mapillary", "val"), ("rescuenet", "test")):
        write_case(data / name, case(name, split), (12, 16))
    for weather in ("night", "snow", "fog", "rain"):
        write_case(data / "acdc", case("acdc", f"{weather}_val"))
    return official({layout.folder: str(data / layout.folder) for layout in official().layouts.values()})


@pytest.mark.parametrize("name", TARGETS)
def test_every_domain_opens_in_the_label_space_of_its_source(known: Catalogue, name: str) -> None:
    source = known.source(name)
    for domain in (*source.domains, *known.targets(name, TARGETS[name])):
        data = known.open_split(domain.dataset, domain.split)
        assert data.label_space == source.label_space and len(data) > 0
        for image, label in data:
            values = set(np.unique(label)) - {255}
            assert image.shape[:2] == label.shape and values and max(values) < len(source.classes)


@pytest.mark.parametrize("hold_out", [True, False])
def test_training_sees_images_of_all_parts(known: Catalogue, hold_out: bool) -> None:
    source = known.source("gtav_synthia_urbansyn")
    domains = source.training(hold_out)
    parts = [known.open_split(domain.dataset, domain.split) for domain in domains]
    items = [(int(image[0, 0, 0]), label) for image, label in concatenate(parts, [d.dataset for d in domains])]
    expected = {"gtav": COPIES - hold_out, "synthia": COPIES, "urbansyn": COPIES}
    assert {name: [shade for shade, _ in items].count(grey) for name, grey in GREY.items()} == expected
    # No terrain, truck and train in SYNTHIA, as its fixture's ids are those of the release.
    absent = [source.classes.index(name) for name in ("terrain", "truck", "train")]
    assert not any(np.isin(label, absent).any() for shade, label in items if shade == GREY["synthia"])
