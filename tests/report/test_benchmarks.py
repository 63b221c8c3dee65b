"""Titles and averages of the benchmarks against the tables of sources and targets and against the paper."""

import pandas as pd
import pytest

from gkd.data.domains import Benchmark, Domain
from gkd.datasets import official
from gkd.params import ROOT, load
from gkd.report.benchmarks import AVERAGES, NAMES, columns, names

KNOWN = official()
SOURCES, BENCHMARKS = KNOWN.sources, KNOWN.benchmarks


def test_every_benchmark_has_a_title_and_one_of_your_own_is_named_after_its_domains() -> None:
    assert set(NAMES) == set(BENCHMARKS) and len({name.title for name in NAMES.values()}) == len(NAMES)
    own = Benchmark("farms", "fields", (Domain("hills", "farm", "val"), Domain("plains", "farm", "val")))
    assert names(own) == ("fields to hills, plains", None)


@pytest.mark.parametrize("source", SOURCES)
def test_averages_run_over_the_targets_of_their_source(source: str) -> None:
    domains, averages = columns(source, load("mini").plan.model_copy(update={"sources": [source]}), KNOWN)
    assert domains == [target.name for target in KNOWN.targets_of(source)]
    assert averages == {names(b).average: domains for b in KNOWN.benchmarks_of(source) if names(b).average}


def test_means_that_the_paper_does_not_print_are_labelled_ours() -> None:
    paper = pd.read_csv(ROOT / "docs" / "paper_numbers.csv", dtype=str)
    printed = set(zip(paper["source_domain"].str.lower(), paper["target"].str.lower(), strict=True))
    paper_name = {}
    for benchmark in BENCHMARKS.values():
        if average := names(benchmark).average:
            source = paper_name.get(benchmark.source, benchmark.source)
            assert ((source, average.lower()) in printed) != average.endswith(" (ours)")
    table = paper[(paper["table"] == "Table 1") & (paper["target"] != "all")]
    known = {t.name for b in BENCHMARKS.values() for t in b.targets} | {name.lower() for name in AVERAGES}
    assert not table.empty and set(table["target"].str.lower()) <= known
