"""The benchmark tables agree with the datasets and with the published numbers."""

import re
from itertools import product

import pytest

from gkd.data.domains import Domain
from gkd.datasets import official
from gkd.methods import NAMES
from gkd.workspace.plan import member

KNOWN = official()
SOURCES, BENCHMARKS = KNOWN.sources, KNOWN.benchmarks
DOMAINS = list(
    dict.fromkeys(
        [d for source in SOURCES.values() for d in (*source.train, *source.full, source.validation)]
        + [target for benchmark in BENCHMARKS.values() for target in benchmark.targets]
    )
)
JOINED = ("gtav-synthia", "gtav-synthia-urbansyn")


@pytest.mark.parametrize("domain", DOMAINS, ids=lambda domain: domain.name)
def test_domains_are_splits_of_datasets(domain: Domain) -> None:
    assert domain.split in KNOWN.layouts[domain.dataset].splits


def test_a_name_means_one_split_and_a_split_has_one_name() -> None:
    names = {domain.name for domain in DOMAINS}
    assert len(names) == len(set(DOMAINS)) == len({(domain.dataset, domain.split) for domain in DOMAINS})


@pytest.mark.parametrize("benchmark", BENCHMARKS.values(), ids=lambda benchmark: benchmark.name)
def test_source_and_targets_share_classes_but_no_images(benchmark) -> None:
    source = SOURCES[benchmark.source]
    for domain in (*source.train, *source.full, source.validation, *benchmark.targets):
        assert KNOWN.layouts[domain.dataset].label_space == source.label_space
    assert not {*source.train, *source.full, source.validation} & set(benchmark.targets)
    assert source.validation not in source.train


def test_classes_of_a_source() -> None:
    assert {name: len(source.classes) for name, source in SOURCES.items()} == {
        "gtav": 19,
        "cityscapes": 19,
        "potsdam": 6,
        "camvid": 11,
        "gtav-synthia": 19,
        "gtav-synthia-urbansyn": 19,
        "potsdam-rescue": 5,
        "potsdam-irrg-rescue": 5,
    }


def test_targets_and_benchmarks_of_a_source() -> None:
    assert [target.name for target in KNOWN.targets_of("gtav")] == ["cityscapes", "bdd100k", "mapillary"]
    assert [target.split for target in KNOWN.targets_of("cityscapes")] == [
        "night-val",
        "snow-val",
        "fog-val",
        "rain-val",
    ]
    assert [benchmark.name for benchmark in KNOWN.benchmarks_of("camvid")] == ["camvid-dusk"]
    assert sum(len(KNOWN.benchmarks_of(source, BENCHMARKS)) for source in SOURCES) == len(BENCHMARKS)
    with pytest.raises(ValueError, match="'gta'.*gtav"):
        KNOWN.targets_of("gta")


def test_a_benchmark_on_request_adds_its_targets() -> None:
    (acdc,) = (benchmark for benchmark in BENCHMARKS.values() if benchmark.on_request)
    assert acdc not in KNOWN.benchmarks_of("gtav") and KNOWN.benchmarks_of("gtav", ["gtav-acdc"]) == (acdc,)
    names = [target.name for target in KNOWN.targets_of("gtav", ["gtav-acdc", "gtav-bdd100k"])]
    assert names == ["bdd100k", "acdc-night", "acdc-snow", "acdc-fog", "acdc-rain"]


def test_names_serve_as_file_names_and_members_stay_distinct() -> None:
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in (*SOURCES, *BENCHMARKS))
    names = [member("f2l", *parts) for parts in product(NAMES, SOURCES, (0, 10))]
    assert len(set(names)) == len(names)
