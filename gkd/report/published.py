"""The paper's numbers beside ours. Its averages are printed there, formed from rounded numbers; none is formed here."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from gkd.data.catalogue import Catalogue
from gkd.params import Params
from gkd.report.benchmarks import averages, heading, targets
from gkd.report.tables import Table

ORIGINS = ("printed", "digitised", "secondary")  # from the most to the least direct
SOURCES = {"gtav": "GTAV", "cityscapes": "Cityscapes", "potsdam_rgb": "Potsdam-RGB"}  # as the paper names them
METHODS = {"No KD": "no KD", "Vanilla KD": "Vanilla KD", "GKD": "GKD"}  # our label to the paper's


def paper_rows() -> pd.DataFrame:
    """Published numbers, one a row; `origin` is printed, digitised (from a figure) or secondary (others' text)."""
    path = Path(__file__).with_name("paper_numbers.csv")
    return pd.read_csv(path, keep_default_na=False, dtype={"miou": float})


def published(
    paper: pd.DataFrame, wanted: Sequence[str], setting: str, source: str, arch: str, methods: Mapping[str, str]
) -> pd.DataFrame:
    """Published numbers of the `wanted` targets (in any case) as text, and a column `origin`, by "<our label> (paper)".

    `setting`, `source` and `arch` are as the paper spells them ("F2L", "GTAV", "ViT-S"); `methods` maps our labels to
    its own. Where the numbers of a row differ in origin, every cell names its own; of several origins of a number the
    most direct one wins. Targets without a published number are "-".

    Raises ValueError where the paper has no number of a method there.
    """
    chosen = paper[(paper["setting"] == setting) & (paper["source_domain"] == source) & (paper["arch"] == arch)]
    table = pd.DataFrame(index=pd.Index([f"{label} (paper)" for label in methods], name="method"))
    for row, name in zip(table.index, methods.values(), strict=True):
        own = chosen[chosen["method"] == name].sort_values("origin", key=lambda o: o.map(ORIGINS.index))
        if own.empty:
            raise ValueError(f"the paper's numbers hold no {name!r} for {setting}, {source}, {arch}")
        first = {_plain(target): (v, o) for target, v, o in own[["target", "miou", "origin"]].to_numpy()[::-1]}
        found = {column: first[_plain(column)] for column in wanted if _plain(column) in first}
        origins = sorted({origin for _, origin in found.values()}, key=ORIGINS.index)
        table.loc[row, list(wanted)] = "-"
        for column, (value, origin) in found.items():
            table.loc[row, column] = f"{value:.1f} ({origin})" if len(origins) > 1 else f"{value:.1f}"
        table.loc[row, "origin"] = ", ".join(origins)
    return table


def paper_table(paper: pd.DataFrame, params: Params, known: Catalogue) -> Table | None:
    """Published F2L and no-KD rows (ViT-S) for the sources of `params`; None where the paper has none of them."""
    parts = []
    for source in (name for name in params.sources if name in SOURCES):
        domains = targets(source, params, known)
        part = published(paper, [*domains, *averages(source, domains)], "F2L", SOURCES[source], "ViT-S", METHODS)
        parts.append(part.rename(columns=lambda name, own=source: heading(name, own, params, known)))
    if not parts:
        return None
    if "gtav" in params.sources and any(name.startswith("acdc_") for name in targets("gtav", params, known)):
        # One number over ACDC, of GKD alone (Table 6). How it joins the four conditions is not printed.
        name = "ACDC (all, trained on GTAV)"
        part = published(paper, [name], "F2L DGSS comparison", "GTAV", "ViT-S+Mask2Former", {"GKD": "GKD"})
        parts.append(part.reindex(parts[0].index).fillna({name: "-", "origin": ""}))
    origins = pd.concat([part.pop("origin") for part in parts], axis=1)
    joined = origins.agg(lambda row: ", ".join(filter(None, dict.fromkeys(row))), axis=1)
    text = pd.concat(parts, axis=1).assign(origin=joined)
    return Table("published", "Published numbers of F2L with ViT-S, not reproduced here.", text)


def _plain(target: str) -> str:
    """ACDC-night of the paper is our acdc_night."""
    return target.casefold().replace("-", "_")
