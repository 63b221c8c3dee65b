"""The paper's numbers beside ours. Its averages are printed there, formed from rounded numbers; none is formed here."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from gkd.data.catalogue import Catalogue
from gkd.params import Plan
from gkd.report.benchmarks import columns, heading
from gkd.report.tables import Table

ORIGINS = ("printed", "digitised", "secondary")  # from the most to the least direct
COLUMNS = "table setting teacher student method arch source_domain target miou origin".split()
SOURCES = {"gtav": "GTAV", "cityscapes": "Cityscapes", "potsdam": "Potsdam-RGB"}  # as the paper names them
METHODS = {"No KD": "no KD", "Vanilla KD": "Vanilla KD", "GKD": "GKD"}  # our label to the paper's


def paper_rows(path: Path) -> pd.DataFrame:
    """Published numbers, one a row; `origin` is printed, digitised (from a figure) or secondary (others' text)."""
    paper = pd.read_csv(path, keep_default_na=False, dtype={"miou": float})
    if lacking := set(COLUMNS) - set(paper.columns):
        raise ValueError(f"{path}: columns {sorted(lacking)} are missing")
    if unknown := set(paper["origin"]) - set(ORIGINS):
        raise ValueError(f"{path}: origin {sorted(unknown)} is unknown, expected one of {ORIGINS}")
    return paper


def published(
    paper: pd.DataFrame, wanted: Sequence[str], setting: str, source: str, arch: str, methods: Mapping[str, str]
) -> pd.DataFrame:
    """Published numbers in the shape of `gkd.report.tables.as_text`, with a column `origin`.

    Args:
        paper: from `paper_rows`.
        wanted: domains and averages, matched to the paper's targets without regard to case.
        setting, source, arch: as the paper spells them, such as "F2L", "GTAV", "ViT-S".
        methods: our label to the paper's method; rows of the result are "<label> (paper)".

    Where the numbers of a row differ in origin, every cell names its own. The most direct origin wins where a number is
    known from several places. Targets without a published number are "-".

    Raises:
        ValueError: the paper has no number of a method there.
    """
    chosen = paper[(paper["setting"] == setting) & (paper["source_domain"] == source) & (paper["arch"] == arch)]
    table = pd.DataFrame(index=pd.Index([f"{label} (paper)" for label in methods], name="method"))
    for row, name in zip(table.index, methods.values(), strict=True):
        own = chosen[chosen["method"] == name].sort_values("origin", key=lambda o: o.map(ORIGINS.index))
        if own.empty:
            raise ValueError(f"the paper's numbers hold no {name!r} for {setting}, {source}, {arch}")
        first = {target.casefold(): (v, o) for target, v, o in own[["target", "miou", "origin"]].to_numpy()[::-1]}
        found = {column: first[column.casefold()] for column in wanted if column.casefold() in first}
        origins = sorted({origin for _, origin in found.values()}, key=ORIGINS.index)
        for column in wanted:
            value, origin = found.get(column, (None, None))
            text = "-" if value is None else f"{value:.1f}" if len(origins) == 1 else f"{value:.1f} ({origin})"
            table.loc[row, column] = text
        table.loc[row, "origin"] = ", ".join(origins)
    return table


def paper_table(paper: pd.DataFrame, plan: Plan, known: Catalogue) -> Table | None:
    """Published F2L and no-KD rows (ViT-S) for the planned sources; None where the paper has none of them."""
    parts = []
    for source in (name for name in plan.sources if name in SOURCES):
        domains, averages = columns(source, plan, known)
        part = published(paper, [*domains, *averages], "F2L", SOURCES[source], "ViT-S", METHODS)
        parts.append(part.rename(columns=lambda name, own=source: heading(name, own, plan, known)))
    if not parts:
        return None
    if "gtav-acdc" in plan.benchmarks:
        # One number over ACDC, of GKD alone (Table 6). How it joins the four conditions is not printed.
        name = "ACDC (all, trained on GTAV)"
        part = published(paper, [name], "F2L DGSS comparison", "GTAV", "ViT-S+Mask2Former", {"GKD": "GKD"})
        parts.append(part.reindex(parts[0].index).fillna({name: "-", "origin": ""}))
    origins = pd.concat([part.pop("origin") for part in parts], axis=1)
    joined = origins.agg(lambda row: ", ".join(filter(None, dict.fromkeys(row))), axis=1)
    text = pd.concat(parts, axis=1).assign(origin=joined)
    return Table("published", "Published numbers, not reproduced here.", text)
