import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from evaluations import QUALITY, write_evaluations
from typer.testing import CliRunner

from gkd.cli import app
from gkd.datasets import official
from gkd.params import Params, load
from gkd.report.build import build, plans_of

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
    own = params(rows=["gkd_diag", "none_frozen", "none"], seeds=[3])
    (plan,) = plans_of(write_evaluations(tmp_path, own, KNOWN), params(rows=["none", "kd", "gkd_diag"]), KNOWN)
    assert (plan.settings, plan.seeds, plan.sources, plan.targets) == (["f2l"], [3], list(TARGETS), TARGETS)
    assert plan.rows == ["none", "gkd_diag", "none_frozen"]


def test_a_folder_without_scores_or_without_the_headline_row_is_told(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["tables", str(tmp_path)])
    assert done.exit_code == 1 and "scores holds no MEMBER/scores.csv" in done.stderr
    write_evaluations(tmp_path / "scores", params(rows=["none", "kd"]), KNOWN)
    done = CliRunner().invoke(app, ["tables", str(tmp_path)])
    assert done.exit_code == 1 and "headline: gkd_diag of params.yaml has no scores in f2l" in done.stderr
