"""Tables from the files that evaluations write."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gkd.datasets import official
from gkd.methods import NAMES, row
from gkd.params import ROOT, Params, load
from gkd.report.benchmarks import AVERAGES, targets
from gkd.report.evaluations import members, read_scores
from gkd.report.summary import (
    UNSEEN,
    benchmark_tables,
    choices,
    radar_values,
    summary_table,
    unseen_mean,
)
from gkd.report.tables import ALL, COLUMNS

DRIVING = ["cityscapes", "bdd100k", "mapillary"]
KNOWN, PARAMS = official(), load(ROOT / "params.yaml")
LABELS = [row(name).label for name in ("teacher", *PARAMS.rows)]


def of(**changes: object) -> Params:
    return PARAMS.model_copy(update=changes)


def score(method: str, domain: str, seed: int = 0) -> float:
    """A number that tells its cell."""
    domains = ["gtav_val", *DRIVING]
    return 10.0 * NAMES.index(method) + (domains.index(domain) if domain in domains else len(domain)) + 100.0 * seed


def evaluate(params: Params, folder: Path, without: tuple[str, ...] = ()) -> list[Path]:
    """The files of all members, without some sources or domains; each has its learning rate."""
    folders = [folder / name for name in members(params)]
    for own in folders:
        *start, source, seed = own.name.split("-")
        setting, method = start if len(start) == 2 else (ALL, "teacher")
        domains = [KNOWN.sources[source].validation.name, *targets(source, params, KNOWN)]
        values = [(d, score(method, d, int(seed))) for d in domains if not {source, d} & {*without}]
        records = [(setting, method, source, int(seed), d, v, v, v, 0.01) for d, v in values]
        own.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(records, columns=[*COLUMNS, "lr"]).to_csv(own / "scores.csv", index=False)
    return folders


def rows(params: Params, folder: Path, without: tuple[str, ...] = ()) -> pd.DataFrame:
    return read_scores(evaluate(params, folder, without), params.settings)


def missing(text: pd.DataFrame) -> set[str]:
    return {name for name in text.columns if (text[name] == "missing").all()}


def test_scores_are_read_together_and_the_teachers_stand_in_every_setting(tmp_path: Path) -> None:
    params = of(settings=["f2l", "f2f"], sources=["gtav"], rows=["none", "gkd"], seeds=[0, 1])
    found, methods = rows(params, tmp_path), ["teacher", "none", "gkd"]
    names = members(params)
    assert len(names) == len(set(names)) == 2 + 8 and names[:2] == ["teacher-gtav-0", "teacher-gtav-1"]
    assert set(found["setting"]) == {"f2l", "f2f"} and len(found) == 2 * 2 * 3 * 4
    for _, own in found.groupby(["setting", "seed"]):
        assert own["method"].unique().tolist() == methods
        seed = own["seed"].iloc[0]
        assert own["miou"].tolist() == [score(m, d, seed) for m in methods for d in ("gtav_val", *DRIVING)]
    assert read_scores([tmp_path / names[0]], ["f2f"])["setting"].unique().tolist() == ["f2f"]
    with pytest.raises(FileNotFoundError, match="run the evaluate stage first"):
        read_scores([], ["f2l"])
    chosen = choices(found, KNOWN)  # the rate, and the score that chose it
    assert len(chosen) == 2 * 2 * 3 and set(chosen["lr"]) == {0.01}
    assert chosen["validation_miou"].tolist() == [
        score(m, "gtav_val", s) for _ in params.settings for m in sorted(methods) for s in (0, 1)
    ]


def test_a_table_for_each_benchmark_and_setting(tmp_path: Path) -> None:
    params = of(settings=["f2l", "f2f"], seeds=[0, 1])
    found = rows(params, tmp_path)
    tables = {table.name: table for table in benchmark_tables(found, params, KNOWN)}
    names = ["gtav-cityscapes", "gtav-bdd100k", "gtav-mapillary", "cityscapes-acdc", "potsdam_rgb-isprs"]
    assert list(tables) == [f"{name}-{setting}" for setting in ("f2l", "f2f") for name in names]
    table = tables["gtav-bdd100k-f2f"]
    assert list(table.text.columns) == ["gtav_val", "bdd100k"] and list(table.text.index) == LABELS
    for label, method in (("GKD", "gkd"), ("Teacher", "teacher")):
        assert table.text.loc[label, "bdd100k"] == f"{score(method, 'bdd100k') + 50:.1f} ± 70.7"
    assert table.reference == ("Teacher",) and "over 2 seeds" in table.caption
    assert "GTAV to BDD100K, F2F" in table.caption and "the source's own validation part, not" in table.caption
    assert "Avg(ACDC 4)" in tables["cityscapes-acdc-f2l"].text.columns
    one = of(hold_out=False)
    caption = benchmark_tables(found[found["seed"] == 0], one, KNOWN)[0].caption
    assert "one seed" in caption and "gtav_val is of the source" in caption
    only = found[found["setting"] == "f2l"]
    assert (summary_table(only, params, KNOWN, "f2f").text == "missing").all(axis=None)


def test_part_of_a_benchmark_has_no_average_and_any_domain_is_a_target(tmp_path: Path) -> None:
    chosen = ["bdd100k", "acdc_night", "acdc/snow_val", "urbansyn/all"]
    params = of(sources=["gtav"], targets={"gtav": chosen})
    found = rows(params, tmp_path)
    tables = {table.name: list(table.text.columns) for table in benchmark_tables(found, params, KNOWN)}
    assert tables == {
        "gtav-bdd100k-f2l": ["gtav_val", "bdd100k"],
        "gtav-acdc-f2l": ["gtav_val", "acdc_night", "acdc_snow"],
        "gtav-urbansyn-f2l": ["gtav_val", "urbansyn"],
    }
    summary = summary_table(found, params, KNOWN, "f2l")
    assert list(summary.text.columns) == ["bdd100k", "acdc_night", "acdc_snow", "urbansyn", UNSEEN]
    assert list(radar_values(summary).columns) == ["bdd100k", "acdc_night", "acdc_snow", "urbansyn"]


def test_the_summary_shows_every_unseen_domain_and_the_averages(tmp_path: Path) -> None:
    table = summary_table(rows(PARAMS, tmp_path), PARAMS, KNOWN, "f2l")
    unseen = [name for source in PARAMS.sources for name in targets(source, PARAMS, KNOWN)]
    assert [name for name in table.text.columns if name not in AVERAGES] == [*unseen, UNSEEN]
    assert set(table.text.columns) & AVERAGES == {name for name in AVERAGES if not name.endswith(" (ours)")}
    means = {s: np.mean([score("kd", name) for name in targets(s, PARAMS, KNOWN)]) for s in PARAMS.sources}
    assert table.text.loc["Vanilla KD", "Avg(Citys,BDD,Map)"] == f"{means['gtav']:.1f}"
    assert table.text.loc["Vanilla KD", UNSEEN] == f"{np.mean([*means.values()]):.1f}"  # sources weigh alike
    gtav = of(sources=["gtav"])
    table = summary_table(rows(gtav, tmp_path), gtav, KNOWN, "f2l")
    values = radar_values(table)
    expected = [[score(name, domain) for domain in DRIVING] for name in ("teacher", *gtav.rows)]
    assert list(values.columns) == DRIVING and list(values.index) == LABELS
    np.testing.assert_allclose(values.to_numpy(), expected)
    np.testing.assert_allclose(unseen_mean(table)[values.index], np.mean(expected, axis=1))


def test_targets_that_sources_share_are_told_apart(tmp_path: Path) -> None:
    sources = {"gtav": DRIVING, "gtav_synthia": DRIVING}
    params = of(sources=[*sources], targets=sources)
    measured = rows(params, tmp_path)
    measured.loc[measured["source"] == "gtav_synthia", "miou"] += 40
    text = summary_table(measured, params, KNOWN, "f2l").text
    assert [name for name in text if ": " in name] == [f"{source}: {name}" for source in sources for name in DRIVING]
    for source, more in (("gtav", 0), ("gtav_synthia", 40)):
        assert text.loc["GKD", f"{source}: bdd100k"] == f"{score('gkd', 'bdd100k') + more:.1f}"


@pytest.mark.parametrize(
    ("absent", "columns"),
    [
        ("bdd100k", {"bdd100k", "Avg(Citys,BDD,Map)", UNSEEN}),
        ("potsdam_rgb", {"potsdam_irrg", "vaihingen_irrg", "Avg(P-I,V-I)", UNSEEN}),
    ],
)
def test_what_was_not_measured_is_missing_and_the_rest_stands(tmp_path: Path, absent: str, columns: set[str]) -> None:
    measured = rows(PARAMS, tmp_path, without=(absent,))
    table = summary_table(measured, PARAMS, KNOWN, "f2l")
    assert missing(table.text) == columns and unseen_mean(table).isna().all()
    assert not (table.text.drop(columns=list(columns)) == "missing").any(axis=None)
    tables = benchmark_tables(measured, PARAMS, KNOWN)
    assert len(tables) == 5 and set.union(*(missing(t.text) for t in tables)) & columns
