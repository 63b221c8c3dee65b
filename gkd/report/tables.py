"""Score rows to tables: means and spreads over seeds, domain averages, published numbers beside ours.

    numbers = statistics(rows, averages, methods, domains)       # numeric, one row per (method, column)
    table = as_text(numbers)                                     # "42.0 ± 0.8", methods x columns
    write(table, stem, caption, numbers)                         # stem.csv, stem.tex, stem.md

`rows` is long: one row per setting, method, source, seed and domain, with `miou`, `macc` and `aacc` in per
cent, rounded to two decimals as `gkd.segmentation.evaluation.scores` returns them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

COLUMNS = ("setting", "method", "source", "seed", "domain", "miou", "macc", "aacc")
ORIGINS = ("printed", "digitised", "secondary")  # from the most to the least direct
MISSING = "missing"

Averages = Mapping[str, Sequence[str]]


def statistics(
    rows: pd.DataFrame,
    averages: Averages,
    methods: Sequence[str],
    domains: Sequence[str],
    metric: str = "miou",
) -> pd.DataFrame:
    """Mean and spread over seeds of every method on every domain and average.

    Args:
        rows: score rows of one setting and one source.
        averages: name of each average to its member domains; its column follows its last member.
        methods, domains: what the table plans, in order. Rows of others are left out.
        metric: "miou", "macc" or "aacc".

    Returns:
        Columns method, column, mean, std (sample, NaN below two seeds), seeds (how many gave the number) and
        planned (how many seeds the method has here). No score gives mean NaN and seeds 0. An average is
        formed seed by seed from the rounded scores of all its members, then averaged over those seeds.
    """
    _check(rows, averages, domains, metric)
    by_seed = rows[rows["domain"].isin(domains)].pivot(index=["method", "seed"], columns="domain", values=metric)
    by_seed = by_seed.reindex(columns=list(domains)).round(2)
    for name, members in averages.items():
        by_seed[name] = by_seed[list(members)].mean(axis=1, skipna=False)
    records = []
    for method in methods:
        own = by_seed[by_seed.index.get_level_values("method") == method]  # (seeds, columns)
        for column in _columns(domains, averages):
            values = own[column].dropna()
            records.append((method, column, values.mean(), values.std(ddof=1), len(values), len(own)))
    return pd.DataFrame(records, columns=["method", "column", "mean", "std", "seeds", "planned"])


def as_text(numbers: pd.DataFrame, decimals: int = 1) -> pd.DataFrame:
    """Methods x columns of text: "42.0 ± 0.8", "42.0" (one seed), "missing", "42.0 (1 of 2 seeds)" if some lack."""

    def cell(row: pd.Series) -> str:
        if not row["seeds"]:
            return MISSING
        text = f"{row['mean']:.{decimals}f}"
        if row["seeds"] > 1:
            text += f" ± {row['std']:.{decimals}f}"
        return text if row["seeds"] == row["planned"] else f"{text} ({row['seeds']} of {row['planned']} seeds)"

    return _wide(numbers.assign(text=numbers.apply(cell, axis=1)), "text")


def paper_rows(path: Path) -> pd.DataFrame:
    """Published numbers, one a row; `origin` is printed, digitised (from a figure) or secondary (others' text)."""
    paper = pd.read_csv(path, keep_default_na=False, dtype={"miou": float})
    wanted = {
        "table",
        "setting",
        "teacher",
        "student",
        "method",
        "arch",
        "source_domain",
        "target",
        "miou",
        "origin",
    }
    if lacking := wanted - set(paper.columns):
        raise ValueError(f"{path}: columns {sorted(lacking)} are missing")
    if unknown := set(paper["origin"]) - set(ORIGINS):
        raise ValueError(f"{path}: origin {sorted(unknown)} is unknown, expected one of {ORIGINS}")
    return paper


def published(
    paper: pd.DataFrame,
    columns: Sequence[str],
    setting: str,
    source: str,
    arch: str,
    methods: Mapping[str, str],
) -> pd.DataFrame:
    """Published numbers in the shape of `as_text`, with a column `origin`.

    Args:
        paper: from `paper_rows`.
        columns: domains and averages, matched to the paper's targets without regard to case.
        setting, source, arch: as the paper spells them, such as "F2L", "GTAV", "ViT-S".
        methods: our label to the paper's method; rows of the result are "<label> (paper)".

    Where the numbers of a row differ in origin, every cell names its own. The most direct origin wins where a
    number is known from several places. Targets without a published number are "-".
    """
    chosen = paper[(paper["setting"] == setting) & (paper["source_domain"] == source) & (paper["arch"] == arch)]
    table = pd.DataFrame(index=pd.Index([f"{label} (paper)" for label in methods], name="method"))
    for label, name in methods.items():
        own = chosen[chosen["method"] == name].sort_values("origin", key=lambda o: o.map(ORIGINS.index))
        if own.empty:
            raise ValueError(f"the paper's numbers hold no {name!r} for {setting}, {source}, {arch}")
        first = {target.casefold(): (v, o) for target, v, o in own[["target", "miou", "origin"]].to_numpy()[::-1]}
        found = {column: first[column.casefold()] for column in columns if column.casefold() in first}
        origins = sorted({origin for _, origin in found.values()}, key=ORIGINS.index)
        for column in columns:
            value, origin = found.get(column, (None, None))
            text = "-" if value is None else f"{value:.1f}" if len(origins) == 1 else f"{value:.1f} ({origin})"
            table.loc[f"{label} (paper)", column] = text
        table.loc[f"{label} (paper)", "origin"] = ", ".join(origins)
    return table


def write(
    table: pd.DataFrame,
    stem: Path,
    caption: str,
    numbers: pd.DataFrame | None = None,
    reference: Sequence[str] = ("teacher",),
) -> list[Path]:
    """Write a text table as stem.csv, stem.tex (booktabs) and stem.md; equal tables give equal bytes.

    With `numbers` (from `statistics`) the CSV holds those instead, and the best mean of each column is bold
    in the other two; `reference` methods do not compete.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    bold = _best(table, numbers, reference)
    paths = [stem.with_name(f"{stem.name}{suffix}") for suffix in (".csv", ".tex", ".md")]
    csv = table.to_csv() if numbers is None else numbers.to_csv(index=False, float_format="%.4f")
    texts = (csv, _latex(table, bold, stem.name, caption), _markdown(table, bold, caption))
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text, encoding="utf-8", newline="\n")
    return paths


def _columns(domains: Sequence[str], averages: Averages) -> list[str]:
    columns = []
    for position, domain in enumerate(domains):
        columns.append(domain)
        columns += [name for name, members in averages.items() if max(map(domains.index, members)) == position]
    return columns


def _wide(numbers: pd.DataFrame, values: str) -> pd.DataFrame:
    wide = numbers.pivot(index="method", columns="column", values=values)
    return wide.reindex(index=numbers["method"].unique(), columns=numbers["column"].unique()).rename_axis(columns=None)


def _check(rows: pd.DataFrame, averages: Averages, domains: Sequence[str], metric: str) -> None:
    if lacking := set(COLUMNS) - set(rows.columns):
        raise ValueError(f"score rows lack the columns {sorted(lacking)}")
    for name in ("setting", "source"):
        if rows[name].nunique() > 1:
            raise ValueError(f"score rows mix {name}s {sorted(rows[name].unique())}: filter them, one table for each")
    keys = ["method", "seed", "domain"]
    if (twice := rows.duplicated(keys)).any():
        raise ValueError(f"two score rows for (method, seed, domain) = {_first(rows.loc[twice, keys])}")
    if (bad := ~np.isfinite(rows[metric].astype(float))).any():
        raise ValueError(f"{metric} is not finite for (method, seed, domain) = {_first(rows.loc[bad, keys])}")
    for name, members in averages.items():
        if outside := [member for member in members if member not in domains] or ["(none)"] * (not members):
            raise ValueError(f"average {name!r} needs {outside}, which the table does not plan: {list(domains)}")


def _first(rows: pd.DataFrame) -> str:
    return f"({', '.join(map(str, rows.iloc[0]))})"


def _best(table: pd.DataFrame, numbers: pd.DataFrame | None, reference: Sequence[str]) -> pd.DataFrame:
    """Booleans of the table's shape: the best mean of each column."""
    if numbers is None:
        return pd.DataFrame(False, index=table.index, columns=table.columns)
    means = _wide(numbers, "mean").drop(index=list(reference), errors="ignore").round(2)
    return means.eq(means.max()).reindex(index=table.index, columns=table.columns, fill_value=False)


def _emphasise(table: pd.DataFrame, bold: pd.DataFrame, before: str, after: str) -> pd.DataFrame:
    return table.where(~bold, before + table + after)


_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
)


def _latex(table: pd.DataFrame, bold: pd.DataFrame, name: str, caption: str) -> str:
    def escape(text: object) -> str:
        return str(text).translate(_LATEX)

    cells = _emphasise(table.map(escape), bold, r"\textbf{", "}").rename(index=escape, columns=escape)
    return (
        cells.rename_axis(index=escape(table.index.name or ""))
        .reset_index()
        .to_latex(
            index=False,
            escape=False,
            caption=escape(caption),
            label=f"tab:{name}",
            position="t",
            column_format="l" + "r" * table.shape[1],
        )
    )


def _markdown(table: pd.DataFrame, bold: pd.DataFrame, caption: str) -> str:
    def escape(text: object) -> str:
        return str(text).replace("|", r"\|")

    cells = _emphasise(table.map(escape), bold, "**", "**").rename(index=escape, columns=escape)
    align = ("left", *["right"] * table.shape[1])
    return f"{caption}\n\n{cells.to_markdown(disable_numparse=True, colalign=align)}\n"
