import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gkd.report.tables import Table, as_text, statistics, write

METHODS = ["teacher", "none", "gkd"]
DOMAINS = ["cityscapes", "bdd100k", "mapillary", "acdc_night"]
DRIVING = "Avg(Citys,BDD,Map)"
AVERAGES = {DRIVING: ("cityscapes", "bdd100k", "mapillary")}


def make_rows(scores):
    """scores: {(method, seed, domain): miou}."""
    rows = [{"method": m, "seed": s, "domain": d, "miou": v, "macc": v, "aacc": v} for (m, s, d), v in scores.items()]
    return pd.DataFrame(rows).assign(setting="f2l", source="gtav")


def text_of(rows, averages=AVERAGES):
    return as_text(statistics(rows, averages, METHODS, DOMAINS))


@pytest.fixture
def rows():
    values = itertools.count(40)
    return make_rows({(m, s, d): float(next(values)) for m in ("none", "gkd") for s in (0, 1) for d in DOMAINS[:3]})


def test_spread_and_missing_are_shown_and_averages_follow_their_members(rows):
    table = text_of(rows[~((rows["method"] == "none") & (rows["seed"] == 1))])
    assert list(table.columns) == ["cityscapes", "bdd100k", "mapillary", DRIVING, "acdc_night"]
    assert list(table.index) == METHODS
    cells = [f"{value}.0 (1 of 2 seeds)" for value in (40, 41, 42, 41)]  # the seed that none lacks is told
    assert list(table.loc["none"]) == [*cells, "missing"]
    assert list(table.loc["gkd", ["cityscapes", DRIVING]]) == ["47.5 ± 2.1", "48.5 ± 2.1"]
    assert set(table.loc["teacher"]) == {"missing"}


@pytest.mark.parametrize(("seeds", "shown"), [((0, 1), "missing"), ((1,), "47.0 (1 of 2 seeds)")])
def test_a_domain_that_seeds_lack_is_told_also_in_its_average(rows, seeds, shown):
    lacking = (rows["method"] == "gkd") & (rows["domain"] == "bdd100k") & rows["seed"].isin(seeds)
    table = text_of(rows[~lacking])
    assert list(table.loc["gkd", ["bdd100k", DRIVING]]) == [shown, shown]
    assert table.loc["gkd", "cityscapes"] == "47.5 ± 2.1"


@settings(max_examples=20)
@given(st.lists(st.tuples(*[st.floats(0, 100) for _ in range(3)]), min_size=1, max_size=4))
def test_averages_are_formed_per_seed_in_full_precision(values):
    scores = {("gkd", seed, d): v for seed, row in enumerate(values) for d, v in zip(DOMAINS, row, strict=False)}
    numbers = statistics(make_rows(scores), AVERAGES, ["gkd"], DOMAINS).set_index("column")
    per_seed, row = np.mean(values, axis=1), numbers.loc[DRIVING]
    assert row["mean"] == pytest.approx(per_seed.mean(), rel=1e-12) and row["seeds"] == len(values)
    spread = per_seed.std(ddof=1) if len(values) > 1 else np.nan
    assert row["std"] == pytest.approx(spread, abs=1e-9, nan_ok=True)
    assert np.isnan(numbers.loc["acdc_night", "mean"]) and numbers.loc["acdc_night", "seeds"] == 0


@settings(max_examples=200)
@given(st.floats(0, 100))
def test_numbers_are_rounded_once(value):
    # Rounded to two decimals first, 31.2515 would stand as 31.2.
    for number in (value, 31.2515):
        (shown,) = as_text(statistics(make_rows({("gkd", 0, "bdd100k"): number}), {}, ["gkd"], ["bdd100k"]))["bdd100k"]
        assert shown == f"{number:.1f}" and abs(float(shown) - number) <= 0.05 + 1e-9
    assert shown == "31.3"


def test_bad_rows_are_refused(rows):
    with pytest.raises(ValueError, match=r"two rows for .*\(none, 0, cityscapes\)"):
        text_of(pd.concat([rows, rows]))
    with pytest.raises(ValueError, match="mix sources"):
        text_of(pd.concat([rows, rows.assign(source="cityscapes")]))
    with pytest.raises(ValueError, match=r"no number for .*\(none, 0, cityscapes\)"):
        text_of(rows.assign(miou=np.nan))
    with pytest.raises(ValueError, match="lack the columns .*'seed'"):
        text_of(rows.drop(columns="seed"))


def test_written_tables_escape_mark_the_best_and_repeat_their_bytes(rows, tmp_path: Path):
    rows = pd.concat([rows, make_rows({("teacher", 0, d): 99.0 for d in DOMAINS[:3]})])
    rows["miou"] /= 3  # numbers that no short decimal holds
    numbers = statistics(rows, AVERAGES, METHODS, DOMAINS)
    table = Table("f2l.gtav", "mIoU in %, GTAV_train", as_text(numbers), numbers, reference=("teacher",))
    csv, tex, md = write(table, tmp_path / "a")
    assert [path.name for path in (csv, tex, md)] == ["f2l.gtav.csv", "f2l.gtav.tex", "f2l.gtav.md"]
    assert [p.read_bytes() for p in write(table, tmp_path / "b")] == [p.read_bytes() for p in (csv, tex, md)]
    pd.testing.assert_frame_equal(pd.read_csv(csv), numbers, rtol=1e-15)
    latex, markdown = (path.read_text(encoding="utf-8") for path in (tex, md))
    assert r"\toprule" in latex and r"\caption{mIoU in \%, GTAV\_train}" in latex
    assert r"\textbf{15.8 $\pm$ 0.7}" in latex
    assert latex.count(r"\textbf") == 4 and r"\textbf{33.0}" not in latex
    assert markdown.startswith("mIoU in %, GTAV_train\n\n| method") and "**15.8 ± 0.7**" in markdown


def test_numbers_that_are_printed_alike_are_both_the_best(tmp_path: Path):
    numbers = statistics(make_rows({("none", 0, "x"): 31.26, ("gkd", 0, "x"): 31.34}), {}, METHODS, ["x"])
    table = Table("tie", "caption", as_text(numbers), numbers)
    assert write(table, tmp_path)[2].read_text().count("**31.3**") == 2
