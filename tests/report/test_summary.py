from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gkd.datasets import official
from gkd.methods import NAMES, row
from gkd.params import Plan, load
from gkd.report.benchmarks import AVERAGES
from gkd.report.summary import (
    UNSEEN,
    benchmark_tables,
    choices,
    radar_values,
    read_pictures,
    read_scores,
    summary_table,
    unseen_mean,
)
from gkd.report.tables import COLUMNS

DRIVING = ["cityscapes", "bdd100k", "mapillary"]
KNOWN = official()


def with_plan(**changes: object) -> Plan:
    return load("mini").plan.model_copy(update=changes)


def score(method: str, domain: str, seed: int = 0) -> float:
    """A number that tells its cell."""
    methods, domains = list(NAMES), ["gtav_val", *DRIVING]
    return 10.0 * methods.index(method) + (domains.index(domain) if domain in domains else 5) + 100.0 * seed


def rows(plan: Plan, without: tuple[str, ...] = ()) -> pd.DataFrame:
    """Score rows of a whole run of the plan, without some sources or domains."""
    records = []
    for source in plan.sources:
        for domain in [KNOWN.sources[source].validation, *KNOWN.targets_of(source, plan.benchmarks)]:
            if not {source, domain.name} & {*without}:
                cells = product(plan.settings, plan.methods, [source], plan.seeds, [domain.name])
                records += [(*cell, *[score(cell[1], domain.name, cell[3])] * 3) for cell in cells]
    return pd.DataFrame(records, columns=COLUMNS)


def missing(text: pd.DataFrame) -> set[str]:
    return {name for name in text.columns if (text[name] == "missing").all()}


def test_a_table_for_each_benchmark_and_setting() -> None:
    plan = with_plan(settings=["f2l", "f2f"])
    tables = {table.name: table for table in benchmark_tables(rows(plan), plan, KNOWN)}
    names = ["gtav-cityscapes", "gtav-bdd100k", "gtav-mapillary", "cityscapes-acdc", "potsdam_rgb-isprs"]
    assert list(tables) == [f"{name}-{setting}" for setting in ("f2l", "f2f") for name in names]
    table = tables["gtav-bdd100k-f2l"]
    assert list(table.text.columns) == ["gtav_val", "bdd100k"]
    assert list(table.text.index) == [row(name).label for name in plan.methods]
    assert table.text.loc["GKD", "bdd100k"] == f"{score('gkd', 'bdd100k'):.1f}" and table.reference == ("Teacher",)
    assert "GTAV to BDD100K, F2L" in table.caption and "one seed" in table.caption
    assert "Avg(ACDC 4)" in tables["cityscapes-acdc-f2l"].text.columns
    assert "over 2 seeds" in benchmark_tables(rows(plan), with_plan(seeds=[0, 1]), KNOWN)[0].caption
    only = rows(plan).query("setting == 'f2l'")
    assert (summary_table(only, plan, KNOWN, "f2f").text == "missing").all(axis=None)


def test_the_summary_shows_every_unseen_domain_and_the_averages() -> None:
    plan = load("mini").plan
    table = summary_table(rows(plan), plan, KNOWN, "f2l")
    unseen = [domain.name for source in plan.sources for domain in KNOWN.targets_of(source)]
    assert [name for name in table.text.columns if name not in AVERAGES] == [*unseen, UNSEEN]
    assert set(table.text.columns) & AVERAGES == {name for name in AVERAGES if not name.endswith(" (ours)")}
    for column, domains in {UNSEEN: unseen, "Avg(Citys,BDD,Map)": DRIVING}.items():
        assert table.text.loc["Vanilla KD", column] == f"{np.mean([score('kd', domain) for domain in domains]):.1f}"
    table = summary_table(rows(plan), with_plan(sources=["gtav"]), KNOWN, "f2l")
    values, expected = radar_values(table), [[score(name, domain) for domain in DRIVING] for name in plan.methods]
    assert list(values.columns) == DRIVING and list(values.index) == [row(name).label for name in plan.methods]
    np.testing.assert_allclose(values.to_numpy(), expected)
    np.testing.assert_allclose(unseen_mean(table)[values.index], np.mean(expected, axis=1))


def test_targets_that_sources_share_are_told_apart() -> None:
    twice = with_plan(sources=["gtav_synthia", "gtav_synthia_urbansyn"])
    found = summary_table(rows(twice), twice, KNOWN, "f2l")
    assert {f"{source}: Avg(Citys,BDD,Map) (ours)" for source in twice.sources} <= set(found.text.columns)
    plan = with_plan(sources=["gtav", "gtav_synthia", "potsdam"])
    measured = rows(plan)
    measured.loc[measured["source"] == "gtav_synthia", "miou"] += 40
    table = summary_table(measured, plan, KNOWN, "f2l")
    shared = [*(f"gtav: {name}" for name in DRIVING), "Avg(Citys,BDD,Map)"]
    joined = [*(f"gtav_synthia: {name}" for name in DRIVING), "Avg(Citys,BDD,Map) (ours)"]
    overhead = ["potsdam_irrg", "vaihingen_irrg", "Avg(P-I,V-I)"]
    assert list(table.text.columns) == [*shared, *joined, *overhead, UNSEEN]
    for source, more in (("gtav", 0), ("gtav_synthia", 40)):
        assert table.text.loc["GKD", f"{source}: bdd100k"] == f"{score('gkd', 'bdd100k') + more:.1f}"
    driving = [score("gkd", domain) for domain in DRIVING]
    expected = np.mean([*driving, *(value + 40 for value in driving), *2 * [score("gkd", "potsdam_irrg")]])
    assert table.text.loc["GKD", UNSEEN] == f"{expected:.1f}"
    assert list(radar_values(table).columns) == [*shared[:3], *joined[:3], *overhead[:2]]
    assert missing(summary_table(rows(plan, without=("gtav_synthia",)), plan, KNOWN, "f2l").text) == {*joined, UNSEEN}


def test_a_benchmark_on_request_is_reported_where_it_is_chosen() -> None:
    plan = with_plan(sources=["gtav"], benchmarks=["gtav-bdd100k", "gtav-acdc"])
    tables = {table.name: table for table in benchmark_tables(rows(plan), plan, KNOWN)}
    assert list(tables) == ["gtav-bdd100k-f2l", "gtav-acdc-f2l"]
    assert "Avg(ACDC 4) (ours)" in tables["gtav-acdc-f2l"].text.columns
    weather = [f"acdc_{name}" for name in ("night", "snow", "fog", "rain")]
    summary = summary_table(rows(plan), plan, KNOWN, "f2l")
    # No mean over Cityscapes, BDD100K and Mapillary: two of them are not scored.
    assert list(summary.text.columns) == ["bdd100k", *weather, "Avg(ACDC 4) (ours)", UNSEEN]
    assert list(radar_values(summary).columns) == ["bdd100k", *weather]


@pytest.mark.parametrize(
    ("absent", "columns"),
    [
        ("bdd100k", {"bdd100k", "Avg(Citys,BDD,Map)", UNSEEN}),
        ("potsdam", {"potsdam_irrg", "vaihingen_irrg", "Avg(P-I,V-I)", UNSEEN}),
    ],
)
def test_what_was_not_measured_is_missing_and_the_rest_stands(absent: str, columns: set[str]) -> None:
    plan = load("mini").plan
    measured = rows(plan, without=(absent,))
    table = summary_table(measured, plan, KNOWN, "f2l")
    assert missing(table.text) == columns and unseen_mean(table).isna().all()
    assert not (table.text.drop(columns=list(columns)) == "missing").any(axis=None)
    tables = benchmark_tables(measured, plan, KNOWN)
    assert len(tables) == 5 and set.union(*(missing(t.text) for t in tables)) & columns


def test_scores_of_all_files_are_read_together(tmp_path: Path) -> None:
    everything, files = rows(load("mini").plan), []
    for source, own in everything.groupby("source", sort=False):
        files.append(tmp_path / f"{source}.csv")
        own.to_csv(files[-1], index=False)
    pd.testing.assert_frame_equal(read_scores(files), everything)
    with pytest.raises(FileNotFoundError, match="run the evaluate stage first"):
        read_scores([])


def test_pictures_come_back_as_they_were_written(tmp_path: Path) -> None:
    kinds = ("photo", "label", "none", "gkd_diag")
    order = [(domain, i, kind) for domain in ("gtav_val", "cityscapes") for i in range(12) for kind in kinds]
    values = {f"{domain}/{kind}/{i}": number for number, (domain, i, kind) in enumerate(order)}  # past ten photos
    np.savez(tmp_path / "predictions.npz", **values)
    pictures = read_pictures(tmp_path / "predictions.npz")
    assert list(pictures) == ["gtav_val", "cityscapes"]
    for domain, (photos, labels, predictions) in pictures.items():
        assert list(predictions) == ["No KD", "GKD-diag (ours)"]
        for kind, found in zip(kinds, (photos, labels, *predictions.values()), strict=True):
            assert found == [values[f"{domain}/{kind}/{i}"] for i in range(12)]


def test_choices_name_the_rate_and_the_score_that_chose_it() -> None:
    who = {"setting": "f2l", "method": "gkd", "source": "gtav", "seed": 0, "lr": 3.0e-3}
    scored = pd.DataFrame([{**who, "domain": "gtav_val", "miou": 41.5}, {**who, "domain": "bdd100k", "miou": 9.0}])
    assert choices(scored, KNOWN).to_dict("records") == [{**who, "validation_miou": 41.5}]
