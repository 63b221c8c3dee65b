"""What the targets of a source make up: benchmarks, averages, and how they are headed, against the paper."""

import pandas as pd
import pytest

from gkd.datasets import official
from gkd.params import ROOT, Params, load
from gkd.report.benchmarks import AVERAGES, BENCHMARKS, Benchmark, averages, benchmarks_of, heading

KNOWN, PARAMS = official(), load(ROOT / "params.yaml")
DRIVING, ACDC = "Avg(Citys,BDD,Map)", "Avg(ACDC 4)"
STREETS = ["cityscapes", "bdd100k", "mapillary"]
WEATHER = ["acdc_night", "acdc_snow", "acdc_fog", "acdc_rain"]


def scored(**targets: list[str]) -> Params:
    """The default with these sources, and targets for each."""
    return PARAMS.model_copy(update={"sources": [*targets], "targets": targets})


def test_every_benchmark_is_of_domains_and_sources_that_there_are() -> None:
    assert len({(b.source, b.name) for b in BENCHMARKS}) == len(BENCHMARKS) == len({b.title for b in BENCHMARKS})
    for benchmark in BENCHMARKS:
        found = KNOWN.targets(benchmark.source, benchmark.targets)
        assert tuple(domain.name for domain in found) == benchmark.targets
    assert {b.source for b in BENCHMARKS} == set(KNOWN.sources)


@pytest.mark.parametrize(
    ("source", "names", "expected"),
    [
        ("gtav", STREETS, {name: [name] for name in STREETS}),
        ("gtav", ["mapillary", "cityscapes/val"], {"cityscapes": ["cityscapes"], "mapillary": ["mapillary"]}),
        ("cityscapes", WEATHER[::-1], {"acdc": WEATHER}),
        ("cityscapes", ["acdc/rain_val", "acdc_snow", "bdd100k"], {"acdc": WEATHER[1::2], "bdd100k": ["bdd100k"]}),
        ("gtav", ["synthia", "acdc_fog"], {"acdc": ["acdc_fog"], "synthia": ["synthia"]}),
    ],
)  # fmt: skip
def test_targets_make_up_benchmarks_and_one_in_none_is_its_own(source: str, names: list, expected: dict) -> None:
    found = benchmarks_of(source, scored(**{source: names}), KNOWN)
    assert {benchmark.name: list(benchmark.targets) for benchmark in found} == expected
    assert [benchmark.name for benchmark in found] == [*expected] and {b.source for b in found} == {source}
    own = Benchmark("cityscapes", "bdd100k", "cityscapes to bdd100k", ("bdd100k",))
    assert (own in found) == ("bdd100k" in expected and source == "cityscapes")


@pytest.mark.parametrize(
    ("source", "domains", "expected"),
    [
        ("gtav", [*STREETS, *WEATHER], {DRIVING: STREETS, f"{ACDC} (ours)": WEATHER}),
        ("gtav", [*STREETS[:2], *WEATHER[:3]], {}),
        ("cityscapes", ["bdd100k", *WEATHER], {ACDC: WEATHER}),
        ("gtav_synthia", STREETS, {f"{DRIVING} (ours)": STREETS}),
        ("camvid", ["camvid_dusk"], {}),
    ],
)
def test_averages_stand_where_all_their_members_do(source: str, domains: list[str], expected: dict) -> None:
    assert averages(source, domains) == expected


def test_a_column_that_two_sources_have_names_its_source() -> None:
    params = scored(gtav=STREETS, potsdam_rescue=["rescuenet"], potsdam_irrg_rescue=["rescuenet"], gtav_synthia=STREETS)
    assert heading("bdd100k", "gtav", params, KNOWN) == "gtav: bdd100k"
    assert heading("rescuenet", "potsdam_rescue", params, KNOWN) == "potsdam_rescue: rescuenet"
    assert heading(DRIVING, "gtav", params, KNOWN) == DRIVING  # the other one is ours


def test_means_that_the_paper_does_not_print_are_labelled_ours() -> None:
    paper = pd.read_csv(ROOT / "gkd/report/paper_numbers.csv", dtype=str)
    printed = set(zip(paper["source_domain"].str.lower(), paper["target"].str.lower(), strict=True))
    for benchmark in BENCHMARKS:
        if benchmark.average:
            source = {"potsdam_rgb": "potsdam-rgb"}.get(benchmark.source, benchmark.source)
            assert ((source, benchmark.average.lower()) in printed) != benchmark.average.endswith(" (ours)")
    table = paper[(paper["table"] == "Table 1") & (paper["target"] != "all")]
    ours = {target for b in BENCHMARKS for target in b.targets} | {name.lower() for name in AVERAGES}
    assert not table.empty and set(table["target"].str.lower().str.replace("-", "_")) - {"avg(p_i,v_i)"} <= ours
