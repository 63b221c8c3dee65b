"""The benchmark tables agree with the datasets and with the published numbers."""

import csv
import re
from itertools import product

import pytest

from gkd.data.domains import AVERAGES, TITLES, Domain
from gkd.datasets import official
from gkd.methods.table import METHODS
from gkd.params import ROOT
from gkd.workspace.plan import member

PAPER = ROOT.parent / "shared" / "spec" / "paper_numbers.csv"
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


@pytest.mark.parametrize("source", SOURCES)
def test_averages_run_over_the_targets_of_their_source(source: str) -> None:
    averages = {TITLES[benchmark.name][1] for benchmark in KNOWN.benchmarks_of(source)}
    assert len(averages) == 1
    for name in averages - {None}:
        assert AVERAGES[name] == tuple(target.name for target in KNOWN.targets_of(source))


def test_a_benchmark_on_request_adds_its_targets_and_an_average_of_its_own() -> None:
    (acdc,) = (benchmark for benchmark in BENCHMARKS.values() if benchmark.on_request)
    assert (acdc.name, TITLES[acdc.name][1]) == ("gtav-acdc", "Avg(ACDC 4) (ours)")
    assert AVERAGES[TITLES[acdc.name][1]] == tuple(target.name for target in acdc.targets)
    assert acdc not in KNOWN.benchmarks_of("gtav") and KNOWN.benchmarks_of("gtav", ["gtav-acdc"]) == (acdc,)
    names = [target.name for target in KNOWN.targets_of("gtav", ["gtav-acdc", "gtav-bdd100k"])]
    assert names == ["bdd100k", "acdc-night", "acdc-snow", "acdc-fog", "acdc-rain"]


def test_means_that_the_paper_does_not_print_are_labelled_ours() -> None:
    with open(ROOT / "docs" / "paper_numbers.csv", encoding="utf-8", newline="") as file:
        printed = {(row["source_domain"].lower(), row["target"]) for row in csv.DictReader(file)}
    for benchmark in BENCHMARKS.values():
        average = TITLES[benchmark.name][1]
        if average is not None:
            name = {"potsdam": "potsdam-rgb"}.get(benchmark.source, benchmark.source)
            assert ((name, average) in printed) != average.endswith(" (ours)")


@pytest.mark.parametrize(
    ("sources", "chosen", "message"),
    [
        (["gta5"], [], "here.sources: unknown name 'gta5'; known: .*cityscapes, .*gtav"),
        (["gtav"], ["gta-acdc"], "here.benchmarks: unknown name 'gta-acdc'; known: .*gtav-cityscapes, .*gtav-acdc"),
        (["gtav"], ["camvid-dusk"], "camvid-dusk is trained on camvid, which here.sources lacks"),
        (["gtav", "potsdam"], ["gtav-acdc"], "none is trained on potsdam of here.sources: add one of potsdam-isprs"),
    ],
)
def test_choices_that_do_not_fit_are_refused(sources: list[str], chosen: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KNOWN.check_choice(sources, chosen, "here")


def test_names_serve_as_file_names_and_members_stay_distinct() -> None:
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in (*SOURCES, *BENCHMARKS))
    names = [member("f2l", *parts) for parts in product(METHODS, SOURCES, (0, 10))]
    assert len(set(names)) == len(names)


@pytest.mark.skipif(not PAPER.is_file(), reason=f"needs the published numbers in {PAPER}")
def test_names_are_those_of_the_published_tables() -> None:
    with open(PAPER, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["table"] == "Table 1" and row["target"] != "all"]
    names = {target.name for target in DOMAINS} | {name.lower() for name in AVERAGES}
    assert rows and {row["target"].lower() for row in rows} <= names


def test_the_paper_trains_on_all_of_gtav_and_potsdam():
    assert [SOURCES[name].training(hold_out=True) for name in SOURCES] == [SOURCES[name].train for name in SOURCES]
    splits = {name: [d.split for d in source.training(hold_out=False)] for name, source in SOURCES.items()}
    assert splits == {
        "gtav": ["all"],
        "cityscapes": ["train"],
        "potsdam": ["train"],
        "camvid": ["day"],
        "gtav-synthia": ["all", "all"],
        "gtav-synthia-urbansyn": ["all", "all", "all"],
        "potsdam-rescue": ["train"],
        "potsdam-irrg-rescue": ["train"],
    }


@pytest.mark.parametrize("name", JOINED)
def test_joined_sources_are_gtav_and_others_and_choose_on_gtav(name: str) -> None:
    gtav, source = SOURCES["gtav"], SOURCES[name]
    for hold_out in (True, False):
        first, *others = source.training(hold_out)
        assert (first,) == gtav.training(hold_out)
        assert ["gtav", *(other.dataset for other in others)] == name.split("-")
        assert {other.split for other in others} == {"all"}
    assert source.validation == gtav.validation
    assert KNOWN.targets_of(name) == KNOWN.targets_of("gtav")


def test_learning_rates_are_chosen_on_no_ground_that_a_target_shows(tmp_path):
    names = [f"{tile}_{x}_0_{x + 64}_64.png" for tile in ("2_10", "3_11", "5_12", "6_7", "7_8") for x in (0, 64)]
    for channels in ("RGB", "IRRG"):
        for folder in ("img_dir/train", "ann_dir/train", "img_dir/val", "ann_dir/val"):
            (tmp_path / channels / folder).mkdir(parents=True)
            for name in names if folder.endswith("train") else ["2_13_0_0_64_64.png"]:
                (tmp_path / channels / folder / name).touch()
    known = official({"potsdam": str(tmp_path)})

    def crops(domain):
        return {sample.image.name for sample in known.open_split(domain.dataset, domain.split).samples}

    source = SOURCES["potsdam"]
    target = next(domain for domain in KNOWN.targets_of("potsdam") if domain.name == "potsdam-irrg")
    assert crops(source.validation) == {name for name in names if name.startswith(("3_11", "5_12", "7_8"))}
    assert not crops(source.validation) & crops(*source.train)
    assert not (crops(source.validation) | crops(*source.train)) & crops(target)
