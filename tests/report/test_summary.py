"""Tables, curves and pictures from the files that evaluations write."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gkd.datasets import official
from gkd.methods import NAMES, row
from gkd.params import ROOT, Params, load
from gkd.report.benchmarks import AVERAGES, targets
from gkd.report.summary import (
    ALL,
    UNSEEN,
    benchmark_tables,
    budgets,
    choices,
    members,
    radar_values,
    read_histories,
    read_pictures,
    read_scores,
    summary_table,
    unseen_mean,
)
from gkd.report.tables import COLUMNS

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


def test_curves_are_of_the_members_that_have_one(tmp_path: Path) -> None:
    folders = [
        tmp_path / name for name in ("teacher-gtav-0", "f2l-gkd-gtav-0", "f2l-gkd-cityscapes-0", "f2l-mse-gtav-1")
    ]
    for number, folder in enumerate(folders[1:]):
        (folder / "history").mkdir(parents=True)
        history = pd.DataFrame({"step": [0, 1], "loss": [2.0 + number, 1.0]})
        history.to_csv(folder / "history/domain_agnostic.csv", index=False)
        method, source, seed = folder.name.split("-")[1:]
        who = pd.DataFrame([{"setting": "f2l", "method": method, "source": source, "seed": seed}])
        who.to_csv(folder / "scores.csv", index=False)
    found = read_histories(folders, "domain_agnostic")
    first = found.groupby(["member", "seed"])["loss"].first().to_dict()
    assert first == {("f2l-gkd-gtav", 0): 2.0, ("f2l-gkd-cityscapes", 0): 3.0, ("f2l-mse-gtav", 1): 4.0}
    assert read_histories(folders, "task_agnostic").empty and "member" in read_histories([], "task_agnostic")
    for folder in folders[1:]:  # a student that serves all sources has one curve
        (folder / "history/domain_agnostic.csv").rename(folder / "history/task_agnostic.csv")
    shared = read_histories(folders, "task_agnostic")
    assert shared.groupby(["member", "seed"]).size().to_dict() == {("f2l-gkd", 0): 2, ("f2l-mse", 1): 2}


def test_budgets_are_steps_by_stage_and_rates_and_seeds_that_agree_are_one_row(tmp_path: Path) -> None:
    given = {"gkd-0": (7, 5, 4, 3), "gkd-1": (7, 5, 4, 3), "none-0": (0, 0, 9, 3), "none-1": (0, 0, 8, 3)}
    for name, (*steps, rates) in given.items():
        folder = tmp_path / name
        (folder / "history").mkdir(parents=True)
        method, seed = name.split("-")
        who = {"setting": "f2l", "method": method, "source": "gtav", "seed": int(seed)}
        pd.DataFrame([{**who, "domain": domain} for domain in DRIVING]).to_csv(folder / "scores.csv", index=False)
        pd.DataFrame({"lr": range(rates)}).to_csv(folder / "choice.csv", index=False)
        for stage, count in zip(("task_agnostic", "domain_agnostic", "task_learning"), steps, strict=True):
            if count:
                pd.DataFrame({"step": range(count)}).to_csv(folder / "history" / f"{stage}.csv", index=False)
    found = budgets(sorted(tmp_path.iterdir())).set_index("method").drop(columns=["setting", "source"])
    assert [(name, *row) for name, row in zip(found.index, found.to_numpy().tolist(), strict=True)] == [
        ("gkd", 7, 5, 4, 3), ("none", 0, 0, 9, 3), ("none", 0, 0, 8, 3)
    ]  # fmt: skip


def test_pictures_of_all_models_stand_under_the_photos_of_the_first(tmp_path: Path) -> None:
    order, folders = list(product(("gtav_val", "cityscapes"), range(12))), []  # past ten photos
    for number, method in enumerate(("teacher", "gkd_diag")):
        folders.append(tmp_path / method)
        folders[-1].mkdir()
        kinds = {"photo": 0, "label": 1, method: 2 + number}
        values = {f"{d}/{kind}/{i}": np.array([i, kinds[kind], d == "cityscapes"]) for d, i in order for kind in kinds}
        np.savez(folders[-1] / "predictions.npz", **values)
    pictures = read_pictures(folders)
    assert list(pictures) == ["gtav_val", "cityscapes"]
    for domain, (photos, labels, predictions) in pictures.items():
        assert list(predictions) == ["Teacher", "GKD-diag (ours)"]
        for kind, found in enumerate((photos, labels, *predictions.values())):
            np.testing.assert_array_equal(found, [[i, kind, domain == "cityscapes"] for i in range(12)])
