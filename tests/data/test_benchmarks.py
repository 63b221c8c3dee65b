"""The benchmark tables agree with the datasets and with the published numbers."""

import re
from itertools import product

import pytest

from gkd.datasets import official
from gkd.methods import NAMES
from gkd.workspace.plan import member

KNOWN = official()
SOURCES, BENCHMARKS = KNOWN.sources, KNOWN.benchmarks


def test_a_name_means_one_split_of_a_dataset_and_a_split_has_one_name() -> None:
    domains = {domain for source in SOURCES.values() for domain in source.domains}
    domains |= {target for benchmark in BENCHMARKS.values() for target in benchmark.targets}
    assert len(domains) == len({domain.name for domain in domains}) == len({domain[1:] for domain in domains})
    assert set(KNOWN.domains.values()) == domains
    assert all(domain.split in KNOWN.layout(domain.dataset).splits for domain in domains)


@pytest.mark.parametrize("benchmark", BENCHMARKS.values(), ids=lambda benchmark: benchmark.name)
def test_source_and_targets_share_classes_but_no_images(benchmark) -> None:
    source = SOURCES[benchmark.source]
    for domain in (*source.domains, *benchmark.targets):
        assert KNOWN.layout(domain.dataset).label_space == source.label_space
    assert not set(source.domains) & set(benchmark.targets) and source.validation not in source.train


def test_classes_of_a_source() -> None:
    counts = {name: len(source.classes) for name, source in SOURCES.items()}
    streets = dict.fromkeys(("gtav", "cityscapes", "gtav_synthia", "gtav_synthia_urbansyn"), 19)
    assert counts == {**streets, "potsdam_rgb": 6, "camvid": 11, "potsdam_rescue": 5, "potsdam_irrg_rescue": 5}


def test_targets_and_benchmarks_of_a_source() -> None:
    assert [target.name for target in KNOWN.targets_of("gtav")] == ["cityscapes", "bdd100k", "mapillary"]
    assert [target.split for target in KNOWN.targets_of("cityscapes")] == "night_val snow_val fog_val rain_val".split()
    assert [benchmark.name for benchmark in KNOWN.benchmarks_of("camvid")] == ["camvid_dusk"]
    assert sum(len(KNOWN.benchmarks_of(source, BENCHMARKS)) for source in SOURCES) == len(BENCHMARKS)
    with pytest.raises(ValueError, match="'gta'.*gtav"):
        KNOWN.targets_of("gta")


def test_a_benchmark_on_request_adds_its_targets() -> None:
    (acdc,) = (benchmark for benchmark in BENCHMARKS.values() if benchmark.on_request)
    assert acdc not in KNOWN.benchmarks_of("gtav") and KNOWN.benchmarks_of("gtav", ["gtav-acdc"]) == (acdc,)
    names = [target.name for target in KNOWN.targets_of("gtav", ["gtav-acdc", "gtav-bdd100k"])]
    assert names == ["bdd100k", "acdc_night", "acdc_snow", "acdc_fog", "acdc_rain"]


def test_names_serve_as_file_names_and_members_stay_distinct() -> None:
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in (*SOURCES, *BENCHMARKS))
    names = [member("f2l", *parts) for parts in product(NAMES, SOURCES, (0, 10))]
    assert len(set(names)) == len(names)
