"""Tables that set rows against each other, for one setting: headroom, differences with their chance, classes."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from gkd.data.catalogue import Catalogue
from gkd.methods import TEACHER, row
from gkd.params import Params
from gkd.report.benchmarks import heading, targets
from gkd.report.evaluations import Key
from gkd.report.resampling import resampled
from gkd.report.statistics import ENDS, MEAN, Estimate, by_source, gap_closed, of_method, paired
from gkd.report.tables import MISSING, Table, as_text, over_seeds, wide
from gkd.segmentation.scores import iou

ALONE = ("none", "none_frozen", "none_long")  # the student without a teacher
CLEAR = 5.0  # points by which the teacher must lead the student alone
HEADROOM = "Headroom"


def headroom(rows: pd.DataFrame, params: Params, known: Catalogue) -> list[Table]:
    """What there is to distil: the teacher's lead over the better student alone. Empty without such a row."""
    (setting,), alone = params.settings, [name for name in ALONE if name in params.rows]
    if not alone:
        return []
    unseen = _unseen(rows, params, known)
    numbers = over_seeds(unseen, [TEACHER, *alone])
    means = wide(numbers, "mean")
    lead = means.loc[TEACHER] - means.loc[alone].max()
    lead[MEAN] = lead.drop(MEAN).mean(skipna=False)  # the better one is chosen by source
    numbers["method"] = [row(name).label for name in numbers["method"]]
    text = as_text(numbers)
    text.loc[HEADROOM] = lead.map("{:+.1f}".format).where(lead.notna(), MISSING)
    more = pd.DataFrame({"method": HEADROOM, "column": lead.index, "mean": lead.to_numpy()})
    told = ", ".join(f"{source} ({lead[source]:+.1f})" for source in params.sources if lead[source] < CLEAR)
    caption = (
        f"{setting.upper()}: mean mIoU on unseen domains, and the lead of the teacher over the better student alone."
    )
    if told:
        caption += (
            f" It does not clearly lead (by {CLEAR:.0f} points) on {told}: this run cannot show distillation there."
        )
    return [Table(f"headroom-{setting}", caption, text, pd.concat([numbers, more]), reference=tuple(text.index))]


def differences(rows: pd.DataFrame, params: Params, known: Catalogue) -> list[Table]:
    """The headline row against each other one; against `none`, if it is a row, the gap closed and the cost at home."""
    (setting,), several = params.settings, len(params.seeds) > 1
    chance = "in brackets the 95 % interval, Student's t over seeds" if several else "one seed, so no interval"
    chance += "; one teacher and one draw of the data serve all seeds" * several
    unseen, everything = _unseen(rows, params, known), [TEACHER, *params.rows]
    found = {name: paired(unseen, params.headline, name) for name in everything if name != params.headline}
    title = f"{setting.upper()}: {row(params.headline).label} minus each row, mean mIoU on unseen domains, points"
    tables = [_estimates(f"paired-{setting}", f"{title} ({chance}).", found)]
    if "none" in params.rows:
        share = gap_closed(unseen, "none", TEACHER).reindex(params.rows).rename(index=lambda name: row(name).label)
        title = f"{setting.upper()}: share of the teacher's lead over no distillation that a row closes, unseen domains"
        text = share.map(lambda value: "-" if np.isnan(value) else f"{round(value, 2) + 0:.0%}")
        tables.append(Table(f"gap-{setting}", f"{title} (-: no lead).", text))
        home = by_source(rows, {s: [known.sources[s].validation.name] for s in params.sources})
        found = {name: paired(home, name, "none") for name in everything if name != "none"}
        part = "the source's own validation part" if params.hold_out else "the source, partly what it was trained on"
        title = f"{setting.upper()}: each row minus no distillation on {part}, mIoU, points"
        tables.append(_estimates(f"home-{setting}", f"{title} ({chance}).", found))
    return tables


def by_domain(rows: pd.DataFrame, draws: pd.DataFrame, params: Params, known: Catalogue) -> Table:
    """The headline row against each other one on each domain, by resampled images (gkd.report.resampling)."""
    (setting,), found = params.settings, {}
    domains = [(source, name) for source in params.sources for name in targets(source, params, known)]
    scores = rows.pivot(index=["method", "seed"], columns=["source", "domain"], values="miou")
    for name in (name for name in (TEACHER, *params.rows) if name != params.headline):
        drawn = resampled(draws, (setting, params.headline), (setting, name))
        lead, found[name] = of_method(scores, params.headline) - of_method(scores, name), {}
        for where in domains:
            estimate = Estimate(np.nan, seeds=0)
            if where in drawn:
                low, high = np.nanpercentile(drawn[where], ENDS)
                ahead = (drawn[where] > 0).mean()
                estimate = Estimate(lead[where].mean(), low, high, lead[where].count(), ahead)
            found[name][heading(where[1], where[0], params, known)] = estimate
    title = f"{setting.upper()}: {row(params.headline).label} minus each row on each domain, mIoU, points"
    how = f"the 95 % interval over {len(draws):,} draws of the images, the same for both, and in which share it leads"
    table = _estimates(f"images-{setting}", f"{title} (with {how}; images count as independent).", found)
    return replace(table, text=table.text.T.rename_axis("domain"))


def by_class(images: Mapping[Key, np.ndarray], source: str, params: Params, known: Catalogue) -> Table:
    """IoU of each class, mean over the source's unseen domains whose labels have it, and over seeds.

    Where they do not have it, a row that predicts it has an IoU of 0 and another has none: no mean could compare them.
    """
    (setting,), classes = params.settings, list(known.sources[source].classes)
    sums = {key[1:2] + key[3:]: value.sum(axis=0) for key, value in images.items() if key[2] == source}
    own = {key: np.where(total[1] > 0, iou(total), np.nan) for key, total in sums.items()}
    table = pd.DataFrame(own, index=classes).T.rename_axis(["method", "domain", "seed"]).sort_index()  # equal bytes
    numbers = over_seeds(table.groupby(level=["method", "seed"]).mean(), [TEACHER, *params.rows])
    numbers["method"] = [row(name).label for name in numbers["method"]]
    text = wide(numbers, "mean").map(lambda value: "-" if np.isnan(value) else f"{value:.1f}")
    title = f"{setting.upper()}, trained on {source}: IoU by class in per cent, mean over unseen domains and seeds"
    caption = f"{title} (-: not in the labels)."
    return Table(f"classes-{source}-{setting}", caption, text, numbers, reference=(row(TEACHER).label,))


def by_profile(profiles: Mapping[str, pd.DataFrame], plans: Mapping[str, Params], known: Catalogue) -> Table:
    """Runs of several profiles beside each other, one setting each: mean mIoU on unseen domains, by profile and row.

    A row that has no scores, or prints as that of an earlier profile, is left out: most have the same teacher.
    """
    parts, seen = [], []
    for profile, rows in profiles.items():
        scores = _unseen(rows, plans[profile], known).drop(columns=MEAN)  # of other sources in each
        for name in (TEACHER, *plans[profile].rows):
            numbers = over_seeds(scores, [name])
            shown = (name, *as_text(numbers).iloc[0])
            if numbers["seeds"].any() and shown not in seen:
                seen.append(shown)
                parts.append(numbers.assign(method=f"{profile}: {row(name).label}"))
    numbers = pd.concat(parts, ignore_index=True)
    names = tuple(numbers["method"].unique())  # none competes: each profile answers a question of its own
    caption = "Mean mIoU on unseen domains, by profile and row."
    return Table("profiles", caption, as_text(numbers).fillna("-"), numbers, names)


def _unseen(rows: pd.DataFrame, params: Params, known: Catalogue) -> pd.DataFrame:
    return by_source(rows, {source: targets(source, params, known) for source in params.sources})


def _estimates(name: str, caption: str, found: Mapping[str, Mapping[str, Estimate]]) -> Table:
    """Methods x columns; nothing competes."""
    labels = {method: row(method).label for method in found}
    text = pd.DataFrame({labels[m]: {c: str(e) for c, e in own.items()} for m, own in found.items()}).T
    columns = ["method", "column", "mean", "low", "high", "seeds", "ahead"]
    numbers = pd.DataFrame([(labels[m], c, *e) for m, own in found.items() for c, e in own.items()], columns=columns)
    if numbers["ahead"].isna().all():
        del numbers["ahead"]
    return Table(name, caption, text.rename_axis("method"), numbers, reference=tuple(labels.values()))
