"""The tables of a report, and its pictures, from the files that evaluations wrote: which rows, columns, captions."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from gkd.data.catalogue import Catalogue
from gkd.data.domains import Benchmark
from gkd.methods import row
from gkd.params import Plan
from gkd.report.benchmarks import AVERAGES, columns, heading, names
from gkd.report.tables import Table, as_text, over_seeds, statistics, wide

UNSEEN = "Mean (unseen)"


def read_scores(files: Iterable[Path]) -> pd.DataFrame:
    """All score rows of an evaluation run, in one frame."""
    if not (frames := [pd.read_csv(file) for file in files]):
        raise FileNotFoundError("no scores.csv to report: run the evaluate stage first (`dvc repro`)")
    return pd.concat(frames, ignore_index=True)


def read_pictures(file: Path) -> dict[str, tuple[list, list, dict[str, list]]]:
    """predictions.npz as {domain: (photos, labels, {method label: predicted maps})}."""
    domains: dict[str, dict[str, list[np.ndarray]]] = {}
    with np.load(file) as arrays:
        for key in arrays.files:
            domain, what, _ = key.split("/")
            domains.setdefault(domain, {}).setdefault(what, []).append(arrays[key])
    return {
        domain: (parts.pop("photo"), parts.pop("label"), {row(name).label: maps for name, maps in parts.items()})
        for domain, parts in domains.items()
    }


def benchmark_tables(rows: pd.DataFrame, plan: Plan, known: Catalogue) -> list[Table]:
    """One table per benchmark and setting: the source's validation part, the targets, and their average."""
    tables = []
    for setting in plan.settings:
        for benchmark in _benchmarks(plan, known):
            source, (title, average) = known.sources[benchmark.source], names(benchmark)
            targets = [domain.name for domain in benchmark.targets]
            averages = {average: targets} if average and len(targets) > 1 else {}
            own = rows[(rows["setting"] == setting) & (rows["source"] == benchmark.source)]
            numbers = statistics(own, averages, plan.methods, [source.validation.name, *targets])
            part = "the source's own validation part" if plan.hold_out else "of the source"
            more = f" {source.validation.name} is {part}, not a target."
            tables.append(_table(f"{benchmark.name}-{setting}", f"{title}, {setting.upper()}", numbers, plan, more))
    return tables


def summary_table(rows: pd.DataFrame, plan: Plan, known: Catalogue, setting: str) -> Table:
    """Methods x all planned target domains, with the domain averages as the paper forms them."""
    rows, parts = rows[rows["setting"] == setting], []
    for source in plan.sources:
        domains, averages = columns(source, plan, known)
        part = statistics(rows[rows["source"] == source], averages, plan.methods, domains)
        parts.append(part.assign(column=[heading(name, source, plan, known) for name in part["column"]]))
    pairs = [(b.source, domain.name) for b in _benchmarks(plan, known) for domain in b.targets]
    by_domain = rows.pivot(index=["method", "seed"], columns=["source", "domain"], values="miou")
    unseen = by_domain.reindex(columns=pairs).mean(axis=1, skipna=False).to_frame(UNSEEN)
    numbers = pd.concat([*parts, over_seeds(unseen, plan.methods)], ignore_index=True)
    return _table(f"summary-{setting}", f"Unseen target domains, {setting.upper()}", numbers, plan)


def choices(rows: pd.DataFrame, known: Catalogue) -> pd.DataFrame:
    """The learning rate of each trained decoder, with the mIoU on the source's validation part that chose it."""
    validation = {name: source.validation.name for name, source in known.sources.items()}
    own = rows[rows["domain"] == rows["source"].map(validation)]
    wanted = ["setting", "method", "source", "seed", "lr", "miou"]
    return own[wanted].rename(columns={"miou": "validation_miou"}).sort_values(wanted[:4], ignore_index=True)


def radar_values(table: Table) -> pd.DataFrame:
    """Means, methods (labelled) x target domains without the averages, for `gkd.report.figures.radar`."""
    column = table.numbers["column"].str.rpartition(": ")[2]  # without the source, see `heading`
    return wide(table.numbers[~column.isin([*AVERAGES, UNSEEN])], "mean")


def unseen_mean(table: Table) -> pd.Series:
    """Mean over all target domains of each method (labelled), NaN where one is missing."""
    return table.numbers[table.numbers["column"] == UNSEEN].set_index("method")["mean"]


def _table(name: str, title: str, numbers: pd.DataFrame, plan: Plan, more: str = "") -> Table:
    numbers, count = numbers.assign(method=[row(method).label for method in numbers["method"]]), len(plan.seeds)
    seeds = "one seed" if count == 1 else f"mean ± sample standard deviation over {count} seeds"
    caption = f"{title}: mIoU in per cent, {seeds}.{more}"
    reference = tuple(row(method).label for method in plan.methods if row(method).encoder == "teacher")
    return Table(name, caption, as_text(numbers), numbers, reference)


def _benchmarks(plan: Plan, known: Catalogue) -> list[Benchmark]:
    return [benchmark for name in plan.sources for benchmark in known.benchmarks_of(name, plan.benchmarks)]
