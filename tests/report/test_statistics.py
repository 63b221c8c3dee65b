import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gkd.datasets import official
from gkd.params import load
from gkd.report.statistics import MEAN, by_source, gap_closed, headline, interval, paired

KNOWN = official()
TARGETS = {"gtav": ["cityscapes", "bdd100k"], "potsdam_rgb": ["potsdam_irrg"]}
PARAMS = load().model_copy(
    update={
        "sources": list(TARGETS),
        "targets": TARGETS,
        "rows": ["none", "none_frozen", "kd", "mse", "gkd"],
        "headline": "gkd",
    }
)


def scored(values):
    """Score rows from {(method, source): [mIoU by seed]}; domains of a source differ by 2 around it."""
    rows = [
        ("f2l", method, source, seed, domain, value + shift)
        for (method, source), own in values.items()
        for seed, value in enumerate(own)
        for domain, shift in zip(TARGETS[source], [-1, 1] if source == "gtav" else [0], strict=True)
    ]
    return pd.DataFrame(rows, columns=["setting", "method", "source", "seed", "domain", "miou"])


def drawn(rows):
    """Draws of the images: the scores, then each a point higher, that of the headline row two."""
    scores = rows.set_index(["setting", "method", "source", "domain", "seed"])["miou"].sort_index()
    more = 1 + (scores.index.get_level_values("method") == "gkd")
    return pd.DataFrame([scores, scores + more])


@settings(max_examples=30)
@given(st.lists(st.floats(-50, 50), min_size=2, max_size=6).filter(lambda v: np.std(v) > 1e-3))
def test_the_interval_is_students_t(values):
    found = interval(pd.Series([*values, np.nan]))
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found[:3] == pytest.approx((np.mean(values), *expected), abs=1e-9) and found.seeds == len(values)


def test_one_seed_has_no_interval_and_says_so():
    one, none = interval(pd.Series([3.14])), interval(pd.Series([np.nan]))
    assert (str(one), one.seeds, str(none)) == ("+3.1", 1, "missing") and np.isnan([one.low, one.high]).all()
    assert str(interval(pd.Series([1.0, 2.0, 3.0]))) == "+2.0 [-0.5, +4.5]"


@settings(max_examples=20)
@given(st.lists(st.floats(-20, 20), min_size=3, max_size=3))
def test_what_a_seed_does_to_both_rows_does_not_widen_a_paired_interval(shifts):
    ours, other = [31.0, 32.0, 30.5], [20.0, 20.5, 21.0]
    plain = scored({("gkd", "gtav"): ours, ("none", "gtav"): other})
    moved = scored({("gkd", "gtav"): np.add(ours, shifts), ("none", "gtav"): np.add([*other], shifts)})
    a, b = (paired(by_source(r, {"gtav": TARGETS["gtav"]}), "gkd", "none")["gtav"] for r in (plain, moved))
    assert a[:4] == pytest.approx(b[:4]) and a.value == pytest.approx(32 / 3)
    # A seed that one of them lacks is left out.
    part = scored({("gkd", "gtav"): ours, ("none", "gtav"): other[:2]})
    assert paired(by_source(part, {"gtav": TARGETS["gtav"]}), "gkd", "none")["gtav"].seeds == 2


def test_sources_weigh_alike_and_a_domain_that_lacks_makes_its_source_missing():
    rows = scored({("gkd", "gtav"): [10.0], ("gkd", "potsdam_rgb"): [20.0]})
    assert by_source(rows, TARGETS).loc["gkd", 0].to_dict() == {"gtav": 10, "potsdam_rgb": 20, MEAN: 15}
    found = by_source(rows[rows["domain"] != "bdd100k"], TARGETS).loc["gkd", 0]
    assert found.isna().to_dict() == {"gtav": True, "potsdam_rgb": False, MEAN: True}


def test_the_share_of_the_gap_is_said_only_where_the_teacher_leads():
    values = {"teacher": (50.0, 10.0), "none": (20.0, 12.0), "gkd": (35.0, 13.0)}
    rows = scored({(m, s): [v] for m, own in values.items() for s, v in zip(TARGETS, own, strict=True)})
    share = gap_closed(by_source(rows, TARGETS), "none", "teacher")
    assert share["gtav"].to_dict() == {"teacher": 1, "none": 0, "gkd": 0.5} and share["potsdam_rgb"].isna().all()


def test_the_headline_is_the_lead_over_the_best_that_does_not_decouple_source_by_source():
    values = {
        ("teacher", "gtav"): [60.0, 60.0], ("teacher", "potsdam_rgb"): [70.0, 70.0],
        ("none", "gtav"): [20.0, 21.0], ("none", "potsdam_rgb"): [30.0, 30.0],
        ("none_frozen", "gtav"): [22.0, 22.0], ("none_frozen", "potsdam_rgb"): [10.0, 10.0],
        ("kd", "gtav"): [5.0, 5.0], ("kd", "potsdam_rgb"): [5.0, 5.0],
        ("mse", "gtav"): [40.0, 40.0], ("mse", "potsdam_rgb"): [40.0, 40.0],  # decouples
        ("gkd", "gtav"): [32.0, 34.0], ("gkd", "potsdam_rgb"): [33.0, 33.0],
    }  # fmt: skip
    rows = scored(values)
    found = headline(rows, drawn(rows), PARAMS, KNOWN)
    assert found.numbers["headline/f2l/lead"] == pytest.approx((11 + 3) / 2)
    assert found.numbers["headline/f2l/worst_source"] == pytest.approx(3)
    low, high = stats.ttest_1samp([6.5, 7.5], 0).confidence_interval(0.95)
    ends = [found.numbers[f"headline/f2l/lead_{end}"] for end in ("low", "high")]
    assert ends == pytest.approx([low, high]) and found.numbers["headline/f2l/lead_seeds"] == 2
    for text in (
        "F2L",
        "GKD against",
        "(No KD (frozen), No KD)",
        "+7.0 points (95 % interval",
        "Student's t over 2 seeds; +7.0 to +8.0 over resampled images",
    ):
        assert text in found.sentence
    assert "worst source potsdam_rgb: +3.0 points" in found.sentence
    assert list(found.frame) == ["setting", "source", "method", "unseen", "low", "high", "seeds"]
    (cell,) = found.frame.query("source == 'gtav' and method == 'gkd'").to_dict("records")
    assert (cell["unseen"], cell["seeds"]) == (33, 2) and cell["low"] < 33 < cell["high"]
    rows = scored({who: own[:1] for who, own in values.items()})
    one = headline(rows, drawn(rows), PARAMS, KNOWN)
    assert "one seed, so no interval over seeds" in one.sentence and "headline/f2l/lead_low" not in one.numbers
    assert one.frame[["low", "high"]].isna().all(axis=None) and set(one.frame["seeds"]) == {1}


def test_rows_trained_longer_make_a_second_lead_over_the_seeds_that_they_have():
    values = {"gkd": [30.0, 34.0], "none": [20.0, 20.0], "none_long": [25.0]}
    rows = scored({(name, source): own for name, own in values.items() for source in TARGETS})
    longer = PARAMS.model_copy(update={"rows": [*PARAMS.rows, "none_long"]})
    usual, found = (headline(rows, drawn(rows), params, KNOWN) for params in (PARAMS, longer))
    assert found.sentence.startswith(usual.sentence) and usual.numbers.items() <= found.numbers.items()
    assert (found.numbers["headline/f2l/lead"], found.numbers["headline/f2l/lead_seeds"]) == (12, 2)
    assert (found.numbers["headline_long/f2l/lead"], found.numbers["headline_long/f2l/lead_seeds"]) == (5, 1)
    assert "trained longer: the best row that does not decouple (No KD (long)): +5.0 points (one seed" in found.sentence


@pytest.mark.parametrize(
    "values",
    [
        {("gkd", source): [1.0] for source in TARGETS},  # no other row
        {("gkd", "gtav"): [1.0], ("none", "gtav"): [1.0], ("none", "potsdam_rgb"): [1.0]},  # lacks a source
        {("gkd", s): [np.nan, 1.0] for s in TARGETS} | {("none", s): [1.0] for s in TARGETS},  # no seed in common
    ],
)
def test_without_a_row_to_compare_with_there_is_no_lead_and_what_was_measured_stands(values):
    rows = scored(values).dropna()
    found = headline(rows, drawn(rows), PARAMS, KNOWN)
    assert "so there is no lead" in found.sentence and found.numbers == {}
    assert found.frame.query("seeds > 0").shape[0] == len(values)
