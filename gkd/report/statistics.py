"""What a difference between rows is worth: over seeds, over images, and against the teacher.

Two kinds of chance, which are kept apart:
- Seeds: rows of one seed share the teacher, the images and their order, so differences are formed seed by seed. Their
  95 % interval is Student's t over seeds (n - 1 degrees of freedom). One seed is one seed: it has no interval.
- Images: drawn anew (gkd.report.resampling), which says nothing of training anew.
One teacher and one draw of the data serve all seeds: no interval covers these.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from gkd.data.catalogue import Catalogue
from gkd.methods import TEACHER, row
from gkd.params import Params
from gkd.report.benchmarks import targets
from gkd.report.resampling import resampled
from gkd.report.tables import MISSING

MEAN = "mean"  # over sources
ENDS = (2.5, 97.5)  # of a 95 % interval


class Estimate(NamedTuple):
    """A number with its 95 % interval, NaN where there is none."""

    value: float
    low: float = np.nan
    high: float = np.nan
    seeds: int = 1
    ahead: float = np.nan  # share of draws of the images in which it is above 0

    def __str__(self) -> str:
        """As in tables, with signs: "+3.1 [+1.0, +5.2]", "+3.1 [+1.0, +5.2] 99%"."""
        interval = "" if np.isnan(self.low) else f" [{self.low:+.1f}, {self.high:+.1f}]"
        share = "" if np.isnan(self.ahead) else f" {self.ahead:.0%}"
        return f"{self.value:+.1f}{interval}{share}" if self.seeds else MISSING


def interval(values: pd.Series) -> Estimate:
    """Mean and Student's t interval of a number per seed; those that are NaN were not measured."""
    found = values.dropna()
    if (count := len(found)) < 2:
        return Estimate(found.mean(), seeds=count)
    half = stats.t.ppf(ENDS[1] / 100, count - 1) * found.std(ddof=1) / np.sqrt(count)
    return Estimate(found.mean(), found.mean() - half, found.mean() + half, count)


def of_method(scores: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of one method, by seed, of scores with the index (method, seed); none where it was not measured."""
    return scores[scores.index.get_level_values("method") == name].droplevel("method")


def by_source(rows: pd.DataFrame, domains: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Mean mIoU over the `domains` of each source, and the mean of these; NaN where a domain was not measured.

    `rows` are of one setting. Index (method, seed), columns: the sources and MEAN.
    """
    table = rows.pivot(index=["method", "seed"], columns=["source", "domain"], values="miou")
    pairs = {source: [(source, name) for name in own] for source, own in domains.items()}
    means = {source: table.reindex(columns=own).mean(axis=1, skipna=False) for source, own in pairs.items()}
    return _with_mean(pd.DataFrame(means))


def paired(scores: pd.DataFrame, ours: str, other: str) -> dict[str, Estimate]:
    """`ours` - `other` in each column of `scores`, whose index is (method, seed), over the seeds that both have."""
    differences = of_method(scores, ours) - of_method(scores, other)
    return {column: interval(differences[column]) for column in differences}


def gap_closed(scores: pd.DataFrame, alone: str, teacher: str) -> pd.DataFrame:
    """(row - alone) / (teacher - alone) of means over seeds, methods x columns; NaN where the teacher is not ahead."""
    means = scores.groupby(level="method", sort=False).mean()
    ends = means.reindex([alone, teacher])
    gap = ends.loc[teacher] - ends.loc[alone]
    return (means - ends.loc[alone]) / gap.where(gap > 0)


class Headline(NamedTuple):
    """The headline row beside the others, in one setting."""

    frame: pd.DataFrame  # setting, source, method, unseen, low, high (Student's t over seeds), seeds
    sentence: str
    numbers: dict[str, float]  # for metrics.json


def headline(rows: pd.DataFrame, draws: pd.DataFrame, params: Params, known: Catalogue) -> Headline:
    """The lead of the headline row over the best row that does not decouple (none, none_frozen, kd), on unseen domains:
    mean over sources, and the worst source. The best is chosen by source, which flatters nobody. Where there are rows
    that were trained longer, a second lead is that over the best of them all: they may have fewer seeds.

    `rows` are the scores and `draws` those of gkd.report.resampling; `params` has one setting.
    """
    (setting,), ours = params.settings, params.headline
    domains = {source: targets(source, params, known) for source in params.sources}
    scores = by_source(rows, domains)
    there = [name for name in (TEACHER, *params.rows) if name in scores.index.unique("method")]
    frame = pd.DataFrame(
        [(setting, s, m, *interval(of_method(scores, m)[s])[:4]) for s in domains for m in there],
        columns=["setting", "source", "method", "unseen", "low", "high", "seeds"],
    )
    others = [name for name in params.rows if name != ours and not row(name).distils]
    usual = [name for name in others if not row(name).long]
    sentence, lead = _lead(scores, draws, setting, ours, usual)
    numbers = {f"headline/{setting}/{key}": value for key, value in lead.items()}
    if len(usual) < len(others):
        more, longer = _lead(scores, draws, setting, ours, others)
        sentence += f" With those that were trained longer: {more}"
        numbers |= {f"headline_long/{setting}/{key}": value for key, value in longer.items()}
    return Headline(frame, f"{setting.upper()}, unseen domains: {row(ours).label} against {sentence}", numbers)


def _lead(
    scores: pd.DataFrame, draws: pd.DataFrame, setting: str, ours: str, others: Sequence[str]
) -> tuple[str, dict[str, float]]:
    """What is said of the lead of `ours` over the best of `others` by source, and its numbers."""
    domains = [source for source in scores if source != MEAN]
    means = scores.groupby(level="method").mean().reindex(others).dropna(subset=domains)
    best = {source: means[source].idxmax() for source in domains} if len(means) else {}
    differences = {s: of_method(scores, ours)[s] - of_method(scores, name)[s] for s, name in best.items()}
    leads = _with_mean(pd.DataFrame(differences)).dropna()  # so that all that is said is of the same seeds
    draws = draws.loc[:, draws.columns.get_level_values(-1).isin(leads.index)]
    if leads.empty:
        return "nothing: no row that does not decouple has one of its seeds on every source, so there is no lead.", {}
    found = {column: interval(leads[column]) for column in leads}
    worst = min(domains, key=lambda source: found[source].value)
    images = _with_mean(pd.DataFrame({
        s: resampled(draws, (setting, ours), (setting, name))[s].mean(axis=1) for s, name in best.items()
    }))  # fmt: skip
    said = {name: _said(found[name], images[name]) for name in (MEAN, worst)}
    names = ", ".join(dict.fromkeys(row(name).label for name in best.values()))
    several = f", mean over {', '.join(domains)}; worst source {worst}: {said[worst]}."
    sentence = f"the best row that does not decouple ({names}): {said[MEAN]}"
    sentence += several if len(domains) > 1 else f" on {worst}."
    numbers = {}
    for key, name in (("lead", MEAN), ("worst_source", worst)):
        ends = zip(("", "_low", "_high", "_seeds"), found[name][:4], strict=True)
        numbers |= {f"{key}{end}": float(value) for end, value in ends if not np.isnan(value)}
    return sentence, numbers


def _said(found: Estimate, images: pd.Series) -> str:
    """A lead in points with what is known of its chance."""
    seeds = "one seed, so no interval over seeds"
    if found.seeds > 1:
        seeds = f"95 % interval {found.low:+.1f} to {found.high:+.1f}, Student's t over {found.seeds} seeds"
    low, high = np.nanpercentile(images, ENDS)
    return f"{found.value:+.1f} points ({seeds}; {low:+.1f} to {high:+.1f} over resampled images)"


def _with_mean(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(**{MEAN: table.mean(axis=1, skipna=False)})
