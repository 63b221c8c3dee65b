"""What names of parameters mean, where a dataset is looked for, and what is said when it is not there."""

import re
from pathlib import Path

import pytest

from gkd.data.domains import Domain
from gkd.data.reading import DatasetError
from gkd.datasets import official
from gkd.params import ROOT

KNOWN = official()


def test_a_name_means_one_split_and_a_split_has_one_name() -> None:
    domains = {*KNOWN.domains.values(), *(domain for source in KNOWN.sources.values() for domain in source.domains)}
    assert len(domains) == len({domain.name for domain in domains}) == len({domain[1:] for domain in domains})
    assert all(domain.split in KNOWN.layout(domain.dataset).splits for domain in domains)
    names = (*KNOWN.sources, *KNOWN.layouts, *(domain.name for domain in domains))
    assert all(re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", name) for name in names)  # dashes part the fields of members


def test_classes_of_a_source_are_those_of_its_domains() -> None:
    counts = {name: len(source.classes) for name, source in KNOWN.sources.items()}
    streets = dict.fromkeys(("gtav", "cityscapes", "gtav_synthia", "gtav_synthia_urbansyn"), 19)
    assert counts == {**streets, "potsdam_rgb": 6, "camvid": 11, "potsdam_rescue": 5, "potsdam_irrg_rescue": 5}
    for source in KNOWN.sources.values():
        assert {KNOWN.layout(domain.dataset).label_space for domain in source.domains} == {source.label_space}
        assert source.validation not in source.training(hold_out=True)


def test_a_domain_is_named_as_in_tables_or_by_its_split() -> None:
    assert KNOWN.domain("acdc_night") == KNOWN.domain("acdc/night_val") == Domain("acdc_night", "acdc", "night_val")
    assert KNOWN.domain("bdd100k/train", "cityscapes") == Domain("bdd100k_train", "bdd100k", "train")  # has no other
    assert KNOWN.domain("bdd100k_train") == KNOWN.domain("bdd100k/train")  # in tables
    assert KNOWN.domain("acdc_night_val") == KNOWN.domain("acdc_night")
    assert [d.name for d in KNOWN.targets("gtav", ["mapillary", "cityscapes/val"])] == ["mapillary", "cityscapes"]


@pytest.mark.parametrize(
    ("source", "names", "message"),
    [
        ("gta", ["cityscapes"], "unknown source 'gta', expected one of .*gtav"),
        ("gtav", ["citys"], "'citys': expected DATASET/SPLIT, or one of .*cityscapes"),
        ("gtav", ["city/val"], "unknown dataset 'city', expected one of .*cityscapes"),
        ("gtav", ["cityscapes/test"], "cityscapes has no split 'test', expected one of train, val"),
        ("gtav", ["cityscapes", "potsdam_irrg"], "potsdam_irrg: expected the classes of cityscapes, found isprs"),
        ("camvid", ["proxy/train"], "proxy/train: expected the classes of camvid, found no labels"),
        ("gtav", [], "targets.gtav of params.yaml names no domain to measure on"),
        ("gtav", ["gtav_val"], "gtav_val is a part of the source gtav: name what it never saw"),
        ("gtav", ["gtav/all"], "gtav_all is a part of the source gtav"),
        ("gtav", ["cityscapes", "cityscapes/val"], "cityscapes, cityscapes/val of gtav: expected each domain once"),
    ],
)
def test_what_cannot_be_a_target_is_refused(source: str, names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KNOWN.targets(source, names)


def test_environment_before_roots_before_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert KNOWN.root_of("potsdam_irrg") == ROOT / "data/potsdam"
    known = official({"potsdam": "elsewhere/potsdam", "camvid": "~/camvid"})
    assert known.root_of("potsdam_irrg") == ROOT / "elsewhere/potsdam"
    assert known.root_of("camvid") == Path.home() / "camvid"
    monkeypatch.setenv("GKD_POTSDAM_ROOT", str(tmp_path))
    assert known.root_of("potsdam_rgb") == known.root_of("potsdam_irrg") == tmp_path
    monkeypatch.chdir(tmp_path)  # relative ones count from the repository, empty ones do not count
    for value, root in (("sets/camvid", "sets/camvid"), ("", "data/camvid")):
        monkeypatch.setenv("GKD_CAMVID_ROOT", value)
        assert KNOWN.root_of("camvid") == ROOT / root


def test_mistakes_of_the_caller_are_no_missing_data() -> None:
    with pytest.raises(DatasetError, match=r"roots\.gta5: .*gtav"):
        official({"gta5": "data/gta5"}).root_of("gtav")
    for ask in (KNOWN.problem, KNOWN.open_split):
        with pytest.raises(DatasetError, match=r"unknown dataset 'gta', expected one of .*gtav"):
            ask("gta", "train")
        with pytest.raises(DatasetError, match="cityscapes has no split 'test', expected one of train, val"):
            ask("cityscapes", "test")
