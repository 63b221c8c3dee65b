"""Sentences made from numbers: what a curve or a row of scores says."""

from collections.abc import Sequence

import pandas as pd


def of_loss(history: pd.DataFrame, column: str = "loss") -> str:
    """What a loss curve says: how far it fell, and whether it was still falling over its last quarter.

    `history` has a row a step. Ends are means over a twentieth of the steps.
    """
    values, ends = history[column], max(len(history) // 20, 1)
    if len(values) < 4:
        return f"{len(values)} steps say nothing yet."
    first, last = values.head(ends).mean(), values.tail(ends).mean()
    before = values.iloc[: -len(values) // 4].tail(ends).mean()
    falling = 1 - last / before
    end = f"it still fell by {falling:.0%} over the last quarter: longer training would pay" if falling > 0.02 else (
        "it was flat over the last quarter" if falling > -0.02 else f"it rose by {-falling:.0%} over the last quarter"
    )  # fmt: skip
    return f"The loss went from {first:.3f} to {last:.3f} in {len(values):,} steps; {end}."


def of_scores(scores: pd.DataFrame, validation: str) -> str:
    """What the scores of one model say: columns domain and miou, of its own domain `validation` and unseen ones."""
    by_domain = scores.set_index("domain")["miou"]
    home, unseen = by_domain[validation], by_domain.drop(validation).sort_values()
    worst, best = unseen.index[0], unseen.index[-1]
    spread = f", from {unseen.iloc[0]:.1f} ({worst}) to {unseen.iloc[-1]:.1f} ({best})" if len(unseen) > 1 else ""
    return (
        f"At home, on {validation}, it has {home:.1f} mIoU; on {len(unseen)} unseen domain{'s' * (len(unseen) > 1)} "
        f"{unseen.mean():.1f}{spread}: it keeps {unseen.mean() / max(home, 1e-9):.0%}."
    )


def of_means(means: pd.Series, competing: Sequence[str]) -> str:
    """Which row leads on unseen domains, and by how much; `means` by label, `competing` without the reference row."""
    own = means[[name for name in competing if name in means]].dropna().sort_values(ascending=False)
    if len(own) < 2:
        return "There are no two rows to compare."
    return f"{own.index[0]} leads with {own.iloc[0]:.1f}, {own.iloc[0] - own.iloc[1]:.1f} over {own.index[1]}."
