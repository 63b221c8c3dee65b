"""Score rows to tables: means and spreads over seeds, domain averages, and the three files of a table.

    numbers = statistics(rows, averages, methods, domains)       # one row per (method, column), in full precision
    write(Table("gtav-f2l", "mIoU in per cent.", as_text(numbers), numbers), folder)

`rows` is long: one row per setting, method, source, seed and domain, with `miou`, `macc`, `aacc` in per cent. Numbers
are rounded once, to one decimal, where they are printed (Python's `.1f`); the CSV holds them as they are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from gkd.files import write_whole

ALL = "all"  # the setting of the teacher's scores: they are the same in each
COLUMNS = ("setting", "method", "source", "seed", "domain", "miou", "macc", "aacc")
MISSING = "missing"


@dataclass(frozen=True)
class Table:
    """A table ready to be written."""

    name: str  # of its files
    caption: str  # one line
    text: pd.DataFrame  # rows x columns as printed
    numbers: pd.DataFrame | None = None  # from `statistics`, where the text shows such
    reference: tuple[str, ...] = ()  # rows that do not compete for the best number of a column


def statistics(
    rows: pd.DataFrame, averages: Mapping[str, Sequence[str]], methods: Sequence[str], domains: Sequence[str]
) -> pd.DataFrame:
    """Mean and spread over seeds of every method's mIoU on every domain and average, as `over_seeds` returns them.

    `rows` are of one setting and one source; `methods` and `domains` are what the table plans, in order. `averages` is
    names to members among `domains`: formed seed by seed from all members, in a column after the last of them.

    Raises ValueError where a column is lacking, settings or sources are mixed, a row is there twice, or a score is not
    finite.
    """
    _check(rows)
    by_seed = rows[rows["domain"].isin(domains)].pivot(index=["method", "seed"], columns="domain", values="miou")
    by_seed, order = by_seed.reindex(columns=list(domains)), []
    for name, members in averages.items():
        by_seed[name] = by_seed[list(members)].mean(axis=1, skipna=False)
    for domain in domains:
        order.append(domain)
        order += [name for name, members in averages.items() if max(members, key=domains.index) == domain]
    return over_seeds(by_seed[order], methods)


def over_seeds(by_seed: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Statistics of each column of `by_seed`, whose index is (method, seed).

    Columns: method, column, mean (NaN without a score), std (sample, NaN below two seeds), seeds (how many gave the
    number) and planned (how many seeds are here, of any method).
    """
    records, planned = [], by_seed.index.get_level_values("seed").nunique()
    for method in methods:
        own = by_seed[by_seed.index.get_level_values("method") == method]  # (seeds, columns)
        for column in own:
            values = own[column].dropna()
            records.append((method, column, values.mean(), values.std(ddof=1), len(values), planned))
    return pd.DataFrame(records, columns=["method", "column", "mean", "std", "seeds", "planned"])


def as_text(numbers: pd.DataFrame) -> pd.DataFrame:
    """Methods x columns of text: "42.0 ± 0.8", "42.0" (one seed), "missing", "42.0 (1 of 2 seeds)" if some lack."""

    def cell(row: pd.Series) -> str:
        if not row["seeds"]:
            return MISSING
        text = f"{row['mean']:.1f}" + (f" ± {row['std']:.1f}" if row["seeds"] > 1 else "")
        return text if row["seeds"] == row["planned"] else f"{text} ({row['seeds']} of {row['planned']} seeds)"

    return wide(numbers.assign(text=numbers.apply(cell, axis=1)), "text")


def wide(numbers: pd.DataFrame, values: str) -> pd.DataFrame:
    """One of the columns of `numbers` as methods x columns, both in their order there."""
    table = numbers.pivot(index="method", columns="column", values=values)
    return table.reindex(index=numbers["method"].unique(), columns=numbers["column"].unique()).rename_axis(columns=None)


def write(table: Table, folder: Path) -> list[Path]:
    """Write <name>.csv, <name>.tex (booktabs) and <name>.md; equal tables give equal bytes.

    The CSV holds the numbers where there are any; the others print the best mean of each column bold, and those alike.
    """
    csv = table.text.to_csv() if table.numbers is None else table.numbers.to_csv(index=False)
    texts = {"csv": csv, "tex": _latex(table), "md": as_markdown(table)}
    return [write_whole(folder / f"{table.name}.{suffix}", text) for suffix, text in texts.items()]


def _check(rows: pd.DataFrame) -> None:
    if lacking := set(COLUMNS) - set(rows.columns):
        raise ValueError(f"score rows lack the columns {sorted(lacking)}")
    for name in ("setting", "source"):
        if rows[name].nunique() > 1:
            raise ValueError(f"score rows mix {name}s {sorted(rows[name].unique())}: filter them, one table for each")
    keys = ["method", "seed", "domain"]
    for wrong, what in ((rows.duplicated(keys), "two rows"), (~np.isfinite(rows["miou"].astype(float)), "no number")):
        if wrong.any():
            who = ", ".join(map(str, rows.loc[wrong, keys].iloc[0]))
            raise ValueError(f"scores hold {what} for (method, seed, domain) = ({who}): run its evaluation again")


def _cells(table: Table, escape: Callable[[object], str], before: str, after: str) -> pd.DataFrame:
    """The text, escaped, and the best number of each column between `before` and `after`."""
    cells = table.text.map(escape)
    if table.numbers is None:
        return cells
    means = wide(table.numbers, "mean").drop(index=list(table.reference), errors="ignore")
    best = means.map("{:.1f}".format).eq(means.max().map("{:.1f}".format)) & means.notna()
    best = best.reindex(index=cells.index, columns=cells.columns, fill_value=False)
    return cells.where(~best, before + cells + after)


_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
)


def _latex(table: Table) -> str:
    def escape(text: object) -> str:
        return str(text).translate(_LATEX)

    cells = _cells(table, escape, r"\textbf{", "}").rename(index=escape, columns=escape)
    cells = cells.rename_axis(index=escape(cells.index.name or "")).reset_index()
    layout = {"label": f"tab:{table.name}", "position": "t", "column_format": "l" + "r" * table.text.shape[1]}
    return cells.to_latex(index=False, escape=False, caption=escape(table.caption), **layout)


def as_markdown(table: Table) -> str:
    """The caption and the table."""
    cells = _cells(table, lambda text: str(text).replace("|", r"\|"), "**", "**")
    align = ("left", *["right"] * cells.shape[1])
    return f"{table.caption}\n\n{cells.to_markdown(disable_numparse=True, colalign=align)}\n"
