from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gkd.data.domains import AVERAGES
from gkd.datasets import official
from gkd.methods.table import METHODS
from gkd.params import ROOT, Params, load
from gkd.report import reporting
from gkd.report.reporting import (
    UNSEEN,
    benchmark_tables,
    choices,
    inputs,
    paper_table,
    radar_values,
    read_pictures,
    read_scores,
    source_of,
    summary_table,
    unseen_mean,
)
from gkd.report.tables import paper_rows
from gkd.workspace.availability import Found
from gkd.workspace.folders import Workspace
from gkd.workspace.plan import output

DRIVING = ["cityscapes", "bdd100k", "mapillary"]
KNOWN = official()
SOURCES = KNOWN.sources
PRINTED = {name for name in AVERAGES if not name.endswith(" (ours)")}


def with_plan(**changes: Any) -> Params:
    params = load("mini")
    return params.model_copy(update={"plan": params.plan.model_copy(update=changes)})


def score(method: str, domain: str, seed: int = 0) -> float:
    """A number that tells its cell."""
    methods, domains = list(METHODS), ["gtav-val", *DRIVING]
    return 10.0 * methods.index(method) + (domains.index(domain) if domain in domains else 5) + 100.0 * seed


def rows(params: Params, without: tuple[str, ...] = ()) -> pd.DataFrame:
    """Score rows of a whole run of the plan, without some sources or domains."""
    records = []
    for setting in params.plan.settings:
        for source in [s for s in params.plan.sources if s not in without]:
            domains = [SOURCES[source].validation, *KNOWN.targets_of(source, params.plan.benchmarks)]
            for domain in [d.name for d in domains if d.name not in without]:
                for method in params.plan.methods:
                    for seed in params.plan.seeds:
                        value = score(method, domain, seed)
                        names = {"setting": setting, "method": method, "source": source, "seed": seed, "domain": domain}
                        records.append({**names, "miou": value, "macc": value, "aacc": value})
    return pd.DataFrame(records)


def test_a_table_for_each_benchmark_of_the_profile() -> None:
    params = with_plan(settings=["f2l", "f2f"])
    tables = {table.name: table for table in benchmark_tables(rows(params), params)}
    names = ["gtav-cityscapes", "gtav-bdd100k", "gtav-mapillary", "cityscapes-acdc", "potsdam-isprs"]
    assert list(tables) == [f"{name}-{setting}" for setting in ("f2l", "f2f") for name in names]
    table = tables["gtav-bdd100k-f2l"]
    assert list(table.text.columns) == ["gtav-val", "bdd100k"]
    assert list(table.text.index) == [METHODS[name].label for name in params.plan.methods]
    assert table.text.loc["GKD", "bdd100k"] == f"{score('gkd', 'bdd100k'):.1f}"
    assert "GTAV to BDD100K, F2L" in table.caption and "one seed" in table.caption
    assert "Avg(ACDC 4)" in tables["cityscapes-acdc-f2l"].text.columns


def test_the_summary_shows_every_unseen_domain_and_the_averages() -> None:
    params = load("mini")
    table = summary_table(rows(params), params, "f2l")
    unseen = [domain.name for source in params.plan.sources for domain in KNOWN.targets_of(source)]
    assert [name for name in table.text.columns if name not in AVERAGES] == [*unseen, UNSEEN]
    mean = np.mean([score("kd", domain) for domain in unseen])
    assert table.text.loc["Vanilla KD", UNSEEN] == f"{mean:.1f}"
    assert set(table.text.columns) & set(AVERAGES) == PRINTED
    assert "gtav-val" not in table.text.columns
    expected = np.mean([score("kd", domain) for domain in DRIVING])
    assert table.text.loc["Vanilla KD", "Avg(Citys,BDD,Map)"] == f"{expected:.1f}"


def test_targets_that_sources_share_are_told_apart() -> None:
    params = with_plan(sources=["gtav", "gtav-synthia", "potsdam"])
    measured = rows(params)
    measured.loc[measured["source"] == "gtav-synthia", "miou"] += 40
    table = summary_table(measured, params, "f2l")
    average = "Avg(Citys,BDD,Map)"
    shared = [*(f"gtav: {name}" for name in DRIVING), average]
    joined = [*(f"gtav-synthia: {name}" for name in DRIVING), f"{average} (ours)"]
    overhead = ["potsdam-irrg", "vaihingen-irrg", "Avg(P-I,V-I)"]
    assert list(table.text.columns) == [*shared, *joined, *overhead, UNSEEN]
    for source, more in (("gtav", 0), ("gtav-synthia", 40)):
        assert table.text.loc["GKD", f"{source}: bdd100k"] == f"{score('gkd', 'bdd100k') + more:.1f}"
    driving = [score("gkd", domain) for domain in DRIVING]
    expected = np.mean([*driving, *(value + 40 for value in driving), *2 * [score("gkd", "potsdam-irrg")]])
    assert table.text.loc["GKD", UNSEEN] == f"{expected:.1f}"
    assert list(radar_values(table).columns) == [*shared[:3], *joined[:3], *overhead[:2]]
    absent = summary_table(rows(params, without=("gtav-synthia",)), params, "f2l").text
    assert {name for name in absent.columns if (absent[name] == "missing").all()} == {*joined, UNSEEN}


def test_means_of_one_name_are_told_apart() -> None:
    params = with_plan(sources=["gtav-synthia", "gtav-synthia-urbansyn"])
    table = summary_table(rows(params), params, "f2l")
    for source in params.plan.sources:
        assert f"{source}: Avg(Citys,BDD,Map) (ours)" in table.text.columns
    assert radar_values(table).shape[1] == 6


def test_a_benchmark_on_request_is_reported_where_it_is_chosen() -> None:
    params = with_plan(sources=["gtav"], benchmarks=["gtav-bdd100k", "gtav-acdc"])
    tables = {table.name: table for table in benchmark_tables(rows(params), params)}
    assert list(tables) == ["gtav-bdd100k-f2l", "gtav-acdc-f2l"]
    assert "Avg(ACDC 4) (ours)" in tables["gtav-acdc-f2l"].text.columns
    weather = [f"acdc-{name}" for name in ("night", "snow", "fog", "rain")]
    summary = summary_table(rows(params), params, "f2l")
    # No mean over Cityscapes, BDD100K and Mapillary: two of them are not scored.
    assert list(summary.text.columns) == ["bdd100k", *weather, "Avg(ACDC 4) (ours)", UNSEEN]
    assert list(radar_values(summary).columns) == ["bdd100k", *weather]
    paper = paper_table(paper_rows(ROOT / "docs" / "paper_numbers.csv"), params)
    assert paper is not None
    assert list(paper["ACDC (all, trained on GTAV)"]) == ["-", "-", "46.5"]
    assert (paper[[*weather, "Avg(ACDC 4) (ours)"]] == "-").all(axis=None)
    assert list(paper["bdd100k"]) == ["33.8", "44.2", "49.8"] and set(paper["origin"]) == {"printed"}


@pytest.mark.parametrize("source", SOURCES)
def test_a_picture_belongs_to_the_source_whose_whole_name_it_bears(source: str) -> None:
    params = with_plan(sources=list(SOURCES), seeds=[0, 10])
    for seed in (0, 10):
        assert source_of(Path(f"x/f2l-{source}-{seed}/predictions.npz"), params) is SOURCES[source]


def test_several_seeds_are_a_mean_with_its_spread() -> None:
    params = with_plan(seeds=[0, 1])
    table = summary_table(rows(params), params, "f2l")
    values = [score("gkd", "bdd100k", seed) for seed in (0, 1)]
    assert table.text.loc["GKD", "bdd100k"] == f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"
    assert "over 2 seeds" in table.caption


@pytest.mark.parametrize(
    ("absent", "missing"),
    [
        ("bdd100k", {"bdd100k", "Avg(Citys,BDD,Map)"}),
        ("potsdam", {"potsdam-irrg", "vaihingen-irrg", "Avg(P-I,V-I)"}),
    ],
)
def test_what_was_not_measured_is_missing_and_the_rest_stands(absent: str, missing: set[str]) -> None:
    params = load("mini")
    measured = rows(params, without=(absent,))
    text = summary_table(measured, params, "f2l").text
    missing = missing | {UNSEEN}
    assert {name for name in text.columns if (text[name] == "missing").all()} == missing
    assert not (text.drop(columns=list(missing)) == "missing").any(axis=None)
    tables = benchmark_tables(measured, params)
    assert len(tables) == 5
    assert {name for t in tables for name in t.text.columns if (t.text[name] == "missing").all()} & missing


def test_a_setting_sees_its_own_rows() -> None:
    params = with_plan(settings=["f2l", "f2f"])
    only = rows(params).query("setting == 'f2l'")
    assert (summary_table(only, params, "f2f").text == "missing").all(axis=None)


def test_the_radar_shows_means_without_averages() -> None:
    params = with_plan(sources=["gtav"])
    values = radar_values(summary_table(rows(params), params, "f2l"))
    assert list(values.columns) == DRIVING
    assert list(values.index) == [METHODS[name].label for name in params.plan.methods]
    expected = [[score(method, domain) for domain in DRIVING] for method in params.plan.methods]
    np.testing.assert_allclose(values.to_numpy(), expected)


def test_the_mean_over_unseen_domains_needs_all_of_them() -> None:
    params = with_plan(sources=["gtav"])
    full = unseen_mean(summary_table(rows(params), params, "f2l"))
    assert full["GKD"] == pytest.approx(np.mean([score("gkd", domain) for domain in DRIVING]))
    assert unseen_mean(summary_table(rows(params, without=("mapillary",)), params, "f2l")).isna().all()


def test_scores_of_all_files_are_read_together(tmp_path: Path) -> None:
    params = load("mini")
    everything = rows(params)
    files = []
    for source, own in everything.groupby("source", sort=False):
        files.append(tmp_path / f"{source}.csv")
        own.to_csv(files[-1], index=False)
    pd.testing.assert_frame_equal(read_scores(files), everything)
    with pytest.raises(FileNotFoundError, match="run the evaluate stage first"):
        read_scores([])


def test_pictures_come_back_as_they_were_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for domain in ("gtav-val", "cityscapes"):
        for i in range(12):  # past ten, where names no longer sort as numbers
            arrays[f"{domain}/photo/{i}"] = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
            for what in ("label", "none", "gkd-diag"):
                arrays[f"{domain}/{what}/{i}"] = rng.integers(0, 19, (4, 6), dtype=np.uint8)
    np.savez_compressed(tmp_path / "predictions.npz", **arrays)
    pictures = read_pictures(tmp_path / "predictions.npz")
    assert list(pictures) == ["gtav-val", "cityscapes"]
    for domain, (photos, labels, predictions) in pictures.items():
        assert list(predictions) == ["No KD", "GKD-diag (ours)"]
        for i in range(12):
            np.testing.assert_array_equal(photos[i], arrays[f"{domain}/photo/{i}"])
            np.testing.assert_array_equal(labels[i], arrays[f"{domain}/label/{i}"])
            np.testing.assert_array_equal(predictions["GKD-diag (ours)"][i], arrays[f"{domain}/gkd-diag/{i}"])


@pytest.fixture
def space(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Workspace:
    """A report's workspace under DVC, in a root of its own; Potsdam's datasets are absent."""
    monkeypatch.setattr("gkd.workspace.folders.ROOT", tmp_path)
    monkeypatch.setattr(reporting, "ROOT", tmp_path)
    found = Found(["gtav", "cityscapes"], ["bdd100k"], [], [])
    monkeypatch.setattr(reporting, "check", lambda params: found)
    return Workspace("report", "mini", "", "results")


def test_the_report_reads_what_the_plan_says(space: Workspace, tmp_path: Path) -> None:
    for name in ("f2l-gtav-0", "f2l-cityscapes-0"):
        file = tmp_path / output("results", "evaluate", "mini", name, "scores.csv")
        file.parent.mkdir(parents=True)
        file.touch()
    read = inputs(load("mini"), space)
    evaluations = tmp_path / "results/evaluate/mini"
    assert read.scores == [evaluations / name / "scores.csv" for name in ("f2l-gtav-0", "f2l-cityscapes-0")]
    assert [source_of(file, load("mini")).name for file in read.predictions] == ["gtav", "cityscapes"]
    assert read.attention == tmp_path / "results/domain_agnostic/mini/f2l-gkd-0/attention.npz"


def test_without_gkd_there_is_no_attention_to_show(space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workspace, "need", lambda self, path, **who: None)
    assert inputs(with_plan(methods=["teacher", "none"]), space).attention is None


def test_an_evaluation_that_did_not_run_is_an_error_under_dvc(space: Workspace) -> None:
    with pytest.raises(FileNotFoundError, match="f2l-gtav-0/scores.csv is missing: run `dvc repro`"):
        inputs(load("mini"), space)


def test_the_papers_numbers_are_labelled_and_cover_the_columns() -> None:
    paper = paper_rows(ROOT / "docs" / "paper_numbers.csv")
    table = paper_table(paper, load("mini"))
    assert table is not None
    assert list(table.index) == ["No KD (paper)", "Vanilla KD (paper)", "GKD (paper)"]
    unseen = {domain.name for source in load("mini").plan.sources for domain in KNOWN.targets_of(source)}
    assert unseen | PRINTED | {"origin"} == set(table.columns)
    assert table.columns.is_unique
    known = {"printed", "digitised", "secondary"}
    assert all(set(text.split(", ")) <= known | {""} for text in table["origin"])
    assert paper_table(paper, load("camvid")) is None


def test_choices_are_the_learning_rates_with_the_validation_score_that_chose_them() -> None:
    validation = SOURCES["gtav"].validation.name
    who = {"setting": "f2l", "method": "gkd", "source": "gtav", "seed": 0, "macc": 0.0, "aacc": 0.0, "lr": 3.0e-3}
    table = choices(
        pd.DataFrame([{**who, "domain": validation, "miou": 41.5}, {**who, "domain": "bdd100k", "miou": 9.0}]),
        load("mini"),
    )
    assert table.to_dict("records") == [
        {"setting": "f2l", "method": "gkd", "source": "gtav", "seed": 0, "lr": 3.0e-3, "validation_miou": 41.5}
    ]
