import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from evaluations import QUALITY, write_evaluations
from typer.testing import CliRunner

from gkd.cli import app
from gkd.datasets import official
from gkd.methods import row
from gkd.params import Params, load
from gkd.report.build import build, plans_of
from gkd.segmentation.scores import iou, parts

KNOWN = official()
TARGETS = {"gtav": ["cityscapes", "bdd100k"], "potsdam_rgb": ["potsdam_irrg"]}


def params(**changes: object) -> Params:
    own = {"sources": list(TARGETS), "targets": TARGETS, "rows": ["none", "kd", "gkd_diag"], "headline": "gkd_diag"}
    return load().model_copy(update=own | changes)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def test_a_folder_of_scores_gives_what_the_report_gives(tmp_path: Path) -> None:
    """Settings with seeds of their own, through the command, byte for byte."""
    f2l, f2f = (
        params(settings=["f2l"], seeds=[0, 1]),
        params(settings=["f2f"], seeds=[0, 1, 2], rows=["none", "gkd_diag"]),
    )
    folders = write_evaluations(tmp_path / "grid" / "scores", f2f, KNOWN)
    for folder in write_evaluations(tmp_path / "f2l", f2l, KNOWN):
        if not folder.name.startswith("teacher"):
            folders.append(Path(shutil.copytree(folder, tmp_path / "grid" / "scores" / folder.name)))
    report = build(folders[::-1], [f2l, f2f], KNOWN)  # in another order than the command
    report.write(tmp_path / "report")
    done = CliRunner().invoke(app, ["tables", str(tmp_path / "grid")])
    assert (done.exit_code, done.stdout) == (0, "\n".join(report.sentences) + "\n")
    found = contents(tmp_path / "grid")
    assert json.loads(found.pop("metrics.json")) == report.metrics
    assert found == contents(tmp_path / "report")
    kinds = ("summary", "headroom", "paired", "gap", "home", "images", "classes-gtav", "gtav-bdd100k")
    names = {f"{kind}-{setting}.{end}" for kind in kinds for setting in ("f2l", "f2f") for end in ("csv", "tex", "md")}
    assert names | {"choices.csv", "headline.csv"} <= set(found)
    assert "over 2 seeds" in report.sentences[0] and "over 3 seeds" in report.sentences[1]
    frame = report.headline.groupby("setting")["seeds"].unique().map(list).to_dict()
    assert frame == {"f2l": [2], "f2f": [3]}


def test_tables_say_what_a_lead_is_worth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = build(write_evaluations(tmp_path / "a", params(), KNOWN), [params()], KNOWN)
    (headroom,), (paired, gap, home), (images,) = (one.tables[name] for name in ("headroom", "differences", "images"))
    assert list(headroom.text.index) == ["Teacher", "No KD", "Headroom"] and "cannot show" not in headroom.caption
    assert "one seed, so no interval" in paired.caption and "[" not in "".join(paired.text.loc["No KD"])
    assert list(gap.text.loc["No KD"]) == ["0%"] * 3 and "No KD" not in home.text.index
    cells = images.text.loc["bdd100k"]
    assert cells["No KD"].startswith("+") and cells["No KD"].endswith("] 100%") and cells["Teacher"].endswith("] 0%")
    assert list(one.tables["classes"][0].text.columns) == list(KNOWN.source("gtav").classes)
    rows = one.rows.query("source == 'gtav' and domain != 'gtav_val'")
    classes = one.tables["classes"][0].numbers.groupby("method")["mean"].mean()
    assert classes["Teacher"] == pytest.approx(rows[rows["method"] == "teacher"]["miou"].mean())
    monkeypatch.setitem(QUALITY, "teacher", 0.42)
    weak = build(write_evaluations(tmp_path / "b", params(), KNOWN), [params()], KNOWN)
    assert "on gtav (+" in weak.tables["headroom"][0].caption
    assert "this run cannot show distillation there" in weak.tables["headroom"][0].caption


def test_the_headroom_is_the_mean_of_the_leads_that_it_shows(tmp_path: Path) -> None:
    """By source over the better student alone, which is another one on each here."""
    own = params(rows=["none", "none_frozen", "gkd_diag"])
    folders = write_evaluations(tmp_path, own, KNOWN)
    for source, method in (("gtav", "none"), ("potsdam_rgb", "none_frozen")):
        file = tmp_path / f"f2l-{method}-{source}-0" / "scores.csv"
        scores = pd.read_csv(file)
        scores.assign(miou=scores["miou"] + 10).to_csv(file, index=False)
    (table,) = build(folders, [own], KNOWN).tables["headroom"]
    numbers = table.numbers.pivot(index="method", columns="column", values="mean").loc["Headroom"]
    assert numbers["mean"] == pytest.approx((numbers["gtav"] + numbers["potsdam_rgb"]) / 2)


def test_a_class_that_no_label_has_is_no_column_in_which_stray_pixels_count(tmp_path: Path) -> None:
    folders = write_evaluations(tmp_path, params(sources=["gtav"]), KNOWN)
    for folder in folders:
        arrays = dict(np.load(folder / "images.npz"))
        arrays["bdd100k"][:, 3] = 0  # no wall in the labels; rows predict some nevertheless
        np.savez(folder / "images.npz", **arrays)
    (table,) = build(folders, [params(sources=["gtav"])], KNOWN).tables["classes"]
    found = table.numbers.pivot(index="method", columns="column", values="mean")["wall"]
    for folder in folders:
        who, whole = pd.read_csv(folder / "scores.csv").iloc[0], np.load(folder / "images.npz")["cityscapes"]
        expected = iou(parts(whole).sum(axis=0))[3]  # of the domain that has it
        assert found[row(who["method"]).label] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("gone", "missing"),
    [
        (("teacher-*",), "paired-f2l.md: Teacher"),
        (("f2l-kd-potsdam_rgb-*",), "paired-f2l.md: Vanilla KD"),
        (("f2l-none-*-1", "f2l-kd-*-1", "f2l-gkd_diag-*-0"), "images-f2l.md: potsdam_irrg"),
    ],
)
def test_a_folder_that_lacks_members_gives_the_tables_of_the_others(
    tmp_path: Path, gone: tuple[str, ...], missing: str
) -> None:
    write_evaluations(tmp_path / "scores", params(seeds=[0, 1]), KNOWN)
    for folder in (folder for pattern in gone for folder in (tmp_path / "scores").glob(pattern)):
        shutil.rmtree(folder)
    done = CliRunner().invoke(app, ["tables", str(tmp_path)], catch_exceptions=False)
    assert (done.exit_code, done.stderr) == (0, "")
    file, label = missing.split(": ")
    (line,) = (line for line in (tmp_path / file).read_text().splitlines() if line.startswith(f"| {label}"))
    assert "missing" in line
    assert "nan" not in "".join(file.read_text() for file in tmp_path.glob("*.md"))


def test_the_teachers_row_alone_is_no_report(tmp_path: Path) -> None:
    for folder in write_evaluations(tmp_path / "scores", params(rows=[]), KNOWN):
        assert folder.name.startswith("teacher")
    done = CliRunner().invoke(app, ["tables", str(tmp_path)])
    assert done.exit_code == 1 and "scores of the teacher alone" in done.stderr


def test_rates_and_the_papers_numbers_are_of_the_settings_shown(tmp_path: Path) -> None:
    two, one = params(settings=["f2l"], seeds=[0, 1]), params(settings=["f2f"], seeds=[0])
    folders = write_evaluations(tmp_path, params(settings=["f2l", "f2f"], seeds=[0, 1]), KNOWN)
    report = build(folders, [two, one], KNOWN)
    seeds = report.choices.groupby(["setting", "method"])["seed"].unique().map(list)
    assert seeds["f2l", "teacher"] == [0, 1] and seeds["f2f", "teacher"] == [0]
    assert len(report.tables["published"]) == 1 and "F2L" in report.tables["published"][0].caption
    assert build(folders, [one], KNOWN).tables["published"] == []


def test_folders_of_scores_are_set_beside_each_other(tmp_path: Path) -> None:
    """In the order of the parameters; what scored as in an earlier folder, such as an equal teacher, is left out."""
    write_evaluations(tmp_path / "default" / "scores", params(rows=["none", "gkd_diag"]), KNOWN)
    shutil.copytree(tmp_path / "default", tmp_path / "equal")
    write_evaluations(tmp_path / "own" / "scores", params(rows=["gkd_diag"], sources=["gtav"]), KNOWN, images=7)
    done = CliRunner().invoke(app, ["tables", str(tmp_path)])
    assert (done.exit_code, done.stdout) == (0, "")
    lines = [line.split("|")[1:4] for line in (tmp_path / "profiles.md").read_text().splitlines() if ":" in line[1:-1]]
    names = [*(f"default: {name}" for name in ("Teacher", "No KD", "GKD-diag (ours)")), "own: Teacher"]
    assert [line[0].strip() for line in lines[1:]] == [*names, "own: GKD-diag (ours)"]
    assert [line[2].strip() for line in lines[-2:]] == ["-", "-"]  # another source was not measured
    table = pd.read_csv(tmp_path / "profiles.csv").pivot(index="method", columns="column", values="mean")
    scores = pd.read_csv(tmp_path / "default/scores/f2l-none-gtav-0/scores.csv").set_index("domain")["miou"]
    assert table.loc["default: No KD", "gtav"] == pytest.approx(scores[TARGETS["gtav"]].mean())
    write_evaluations(tmp_path / "two" / "scores", params(settings=["f2l", "f2f"]), KNOWN)
    done = CliRunner().invoke(app, ["tables", str(tmp_path)])
    assert done.exit_code == 1 and "two has scores of 2 settings" in done.stderr


def test_what_scores_hold_is_read_from_them_in_the_order_of_the_parameters(tmp_path: Path) -> None:
    scored = TARGETS | {"gtav": ["cityscapes", "bdd100k/train"]}  # which no parameters name any more
    own = params(rows=["gkd_diag", "none_frozen", "none"], seeds=[3], targets=scored)
    (plan,) = plans_of(write_evaluations(tmp_path, own, KNOWN), params(rows=["none", "kd", "gkd_diag"]), KNOWN)
    assert (plan.settings, plan.seeds, plan.sources) == (["f2l"], [3], list(TARGETS))
    for source, names in scored.items():
        assert KNOWN.targets(source, plan.targets[source]) == KNOWN.targets(source, names)
    assert plan.rows == ["none", "gkd_diag", "none_frozen"]


def test_a_folder_without_scores_or_without_the_headline_row_is_told(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["tables", str(tmp_path)])
    assert done.exit_code == 1 and "scores holds no MEMBER/scores.csv" in done.stderr
    write_evaluations(tmp_path / "scores", params(rows=["none", "kd"]), KNOWN)
    done = CliRunner().invoke(app, ["tables", str(tmp_path)])
    assert done.exit_code == 1 and "headline: gkd_diag of params.yaml has no scores in f2l" in done.stderr
