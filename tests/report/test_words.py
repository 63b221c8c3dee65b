"""Sentences made from numbers."""

import pandas as pd
import pytest

from gkd.report.words import of_loss, of_means, of_scores


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([1.0] * 3, "3 steps say nothing yet."),
        ([2.0, 2.0, 1.0, 1.0], "The loss went from 2.000 to 1.000 in 4 steps; it was flat over the last quarter."),
        ([4.0, 3.0, 2.0, 1.5], "it still fell by 25% over the last quarter: longer training would pay."),
        ([4.0, 3.0, 2.0, 2.5], "it rose by 25% over the last quarter."),
        ([9.0] * 20 + [1.0] * 1980, "from 2.600 to 1.000 in 2,000 steps; it was flat"),  # ends are means of a twentieth
    ],
)
def test_a_loss_curve_says_how_far_it_fell_and_whether_it_still_falls(values: list[float], text: str) -> None:
    assert text in of_loss(pd.DataFrame({"step": range(len(values)), "fea_loss": values}), "fea_loss")


def test_scores_say_what_a_model_keeps_away_from_home() -> None:
    scores = pd.DataFrame({"domain": ["gtav_val", "mapillary", "bdd100k"], "miou": [50.0, 30.0, 20.0]})
    assert of_scores(scores, "gtav_val") == (
        "At home, on gtav_val, it has 50.0 mIoU; on 2 unseen domains 25.0, from 20.0 (bdd100k) to 30.0 (mapillary): "
        "it keeps 50%."
    )
    assert "on 1 unseen domain 30.0: it keeps 60%." in of_scores(scores[:2], "gtav_val")


def test_means_say_which_row_leads_among_those_that_compete() -> None:
    means = pd.Series({"Teacher": 60.0, "No KD": 40.0, "GKD": 43.25, "MSE": float("nan")})
    rows = ["No KD", "GKD", "MSE", "Vanilla KD"]  # one is missing, one was not run
    assert of_means(means, rows) == "GKD leads with 43.2, 3.2 over No KD."
    assert of_means(means, ["GKD", "MSE"]) == "There are no two rows to compare."
