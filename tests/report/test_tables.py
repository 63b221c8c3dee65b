import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gkd.params import ROOT
from gkd.report.tables import as_text, paper_rows, published, statistics, write

METHODS = ["teacher", "none", "gkd"]
DOMAINS = ["cityscapes", "bdd100k", "mapillary", "acdc-night"]
AVERAGES = {"Avg(Citys,BDD,Map)": ("cityscapes", "bdd100k", "mapillary")}


def make_rows(scores, setting="f2l", source="gtav"):
    """scores: {(method, seed, domain): miou}."""
    return pd.DataFrame(
        [
            {
                "setting": setting,
                "method": m,
                "source": source,
                "seed": s,
                "domain": d,
                "miou": v,
                "macc": v,
                "aacc": v,
            }
            for (m, s, d), v in scores.items()
        ]
    )


def summary(*arguments):
    return as_text(statistics(*arguments))


@pytest.fixture
def rows():
    values = itertools.count(40)
    return make_rows({(m, s, d): float(next(values)) for m in ("none", "gkd") for s in (0, 1) for d in DOMAINS[:3]})


def test_summary_shows_spread_and_missing_and_puts_averages_after_their_members(rows):
    rows = rows[~((rows["method"] == "none") & (rows["seed"] == 1))]
    table = summary(rows, AVERAGES, METHODS, DOMAINS)
    assert list(table.columns) == ["cityscapes", "bdd100k", "mapillary", "Avg(Citys,BDD,Map)", "acdc-night"]
    assert list(table.index) == METHODS
    assert list(table.loc["none"]) == ["40.0", "41.0", "42.0", "41.0", "missing"]
    assert table.loc["gkd", "cityscapes"] == "47.5 ± 2.1"
    assert table.loc["gkd", "Avg(Citys,BDD,Map)"] == "48.5 ± 2.1"
    assert set(table.loc["teacher"]) == {"missing"}


def test_an_average_without_a_member_is_missing(rows):
    rows = rows[~((rows["method"] == "gkd") & (rows["domain"] == "bdd100k"))]
    table = summary(rows, AVERAGES, METHODS, DOMAINS)
    assert list(table.loc["gkd", ["bdd100k", "Avg(Citys,BDD,Map)"]]) == ["missing", "missing"]
    assert table.loc["gkd", "mapillary"] != "missing"


def test_a_seed_that_lacks_a_domain_is_told(rows):
    rows = rows[~((rows["method"] == "gkd") & (rows["domain"] == "bdd100k") & (rows["seed"] == 1))]
    table = summary(rows, AVERAGES, METHODS, DOMAINS)
    assert table.loc["gkd", "bdd100k"] == "47.0 (1 of 2 seeds)"
    assert table.loc["gkd", "Avg(Citys,BDD,Map)"] == "47.0 (1 of 2 seeds)"
    assert table.loc["gkd", "cityscapes"] == "47.5 ± 2.1"


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(*[st.floats(0, 100) for _ in range(3)]), min_size=1, max_size=4))
def test_averages_are_formed_per_seed_from_rounded_values(values):
    rows = make_rows(
        {("gkd", seed, d): v for seed, row in enumerate(values) for d, v in zip(DOMAINS, row, strict=False)}
    )
    numbers = statistics(rows, AVERAGES, ["gkd"], DOMAINS).set_index("column")
    per_seed = np.round(values, 2).mean(axis=1)
    row = numbers.loc["Avg(Citys,BDD,Map)"]
    assert row["mean"] == pytest.approx(per_seed.mean())
    assert row["seeds"] == len(values)
    if len(values) > 1:
        assert row["std"] == pytest.approx(per_seed.std(ddof=1), abs=1e-9)
    else:
        assert np.isnan(row["std"])
    assert np.isnan(numbers.loc["acdc-night", "mean"]) and numbers.loc["acdc-night", "seeds"] == 0


def test_no_rows_at_all_is_a_table_of_missing():
    empty = pd.DataFrame(columns=["setting", "method", "source", "seed", "domain", "miou", "macc", "aacc"])
    assert (summary(empty, AVERAGES, METHODS, DOMAINS) == "missing").all(axis=None)


def test_bad_rows_are_refused(rows):
    with pytest.raises(ValueError, match=r"two score rows for .*\(none, 0, cityscapes\)"):
        summary(pd.concat([rows, rows]), AVERAGES, METHODS, DOMAINS)
    with pytest.raises(ValueError, match="mix sources"):
        summary(pd.concat([rows, rows.assign(source="cityscapes")]), AVERAGES, METHODS, DOMAINS)
    with pytest.raises(ValueError, match="not finite"):
        summary(rows.assign(miou=np.nan), AVERAGES, METHODS, DOMAINS)
    with pytest.raises(ValueError, match="'Avg' needs .*'synthia'"):
        summary(rows, {"Avg": ("cityscapes", "synthia")}, METHODS, DOMAINS)
    with pytest.raises(ValueError, match="lack the columns .*'seed'"):
        summary(rows.drop(columns="seed"), AVERAGES, METHODS, DOMAINS)


def test_published_numbers_carry_their_origin():
    paper = paper_rows(ROOT / "docs/paper_numbers.csv")
    columns = ["cityscapes", "bdd100k", "mapillary", "Avg(Citys,BDD,Map)"]
    theirs = published(paper, columns, "F2L", "GTAV", "ViT-S", {"GKD": "GKD"})
    assert list(theirs.loc["GKD (paper)"])[:2] == ["54.9", "49.8"]
    assert theirs.loc["GKD (paper)", "origin"] == "printed"

    figure = published(paper, [*columns, "camvid"], "F2F", "GTAV", "ViT-B", {"KD": "Vanilla KD"}).loc["KD (paper)"]
    assert figure["cityscapes"] == "59.9 (printed)"
    assert figure["mapillary"] == "60.2 (digitised)"
    assert figure["Avg(Citys,BDD,Map)"] == "58.2 (secondary)"
    assert figure["camvid"] == "-"
    known_twice = published(paper, columns, "vfm-student-no-KD", "GTAV", "ViT-B", {"none": "no KD"})
    assert known_twice.loc["none (paper)", "origin"] == "printed"
    with pytest.raises(ValueError, match="no 'GDK' for F2L"):
        published(paper, columns, "F2L", "GTAV", "ViT-S", {"GKD": "GDK"})


def test_unknown_origins_are_refused(tmp_path: Path):
    path = tmp_path / "paper.csv"
    path.write_text("table,setting,teacher,student,method,arch,source_domain,target,miou,origin\na,a,a,a,a,a,a,a,1,?\n")
    with pytest.raises(ValueError, match=r"paper\.csv: origin \['\?'\]"):
        paper_rows(path)


def test_written_tables_escape_mark_the_best_and_repeat_their_bytes(rows, tmp_path: Path):
    rows = pd.concat([rows, make_rows({("teacher", 0, d): 99.0 for d in DOMAINS[:3]})])
    numbers = statistics(rows, AVERAGES, METHODS, DOMAINS)
    for folder in ("a", "b"):
        paths = write(as_text(numbers), tmp_path / folder / "f2l.gtav", "mIoU in %, GTAV_train", numbers)
        assert [path.name for path in paths] == ["f2l.gtav.csv", "f2l.gtav.tex", "f2l.gtav.md"]
    for name in ("f2l.gtav.csv", "f2l.gtav.tex", "f2l.gtav.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

    tex = (tmp_path / "a/f2l.gtav.tex").read_text(encoding="utf-8")
    assert r"\toprule" in tex and r"\caption{mIoU in \%, GTAV\_train}" in tex
    assert r"\textbf{47.5 $\pm$ 2.1}" in tex
    assert tex.count(r"\textbf") == 4 and r"\textbf{99.0}" not in tex

    markdown = (tmp_path / "a/f2l.gtav.md").read_text(encoding="utf-8")
    assert markdown.startswith("mIoU in %, GTAV_train\n\n| method")
    assert "**47.5 ± 2.1**" in markdown

    back = pd.read_csv(tmp_path / "a/f2l.gtav.csv")
    pd.testing.assert_frame_equal(back, numbers, atol=1e-4, check_dtype=False)


def test_written_text_table_comes_back(rows, tmp_path: Path):
    table = summary(rows, AVERAGES, METHODS, DOMAINS)
    csv, tex, _ = write(table, tmp_path / "plain", "caption")
    pd.testing.assert_frame_equal(pd.read_csv(csv, index_col="method", dtype=str), table, check_dtype=False)
    assert r"\textbf" not in tex.read_text(encoding="utf-8")
