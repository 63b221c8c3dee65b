"""The tables of a report from the scores of evaluations: which rows, columns, captions."""

from itertools import product

import pandas as pd

from gkd.data.catalogue import Catalogue
from gkd.methods import TEACHER, row
from gkd.params import Params
from gkd.report.benchmarks import AVERAGES, averages, benchmarks_of, heading, targets
from gkd.report.statistics import MEAN, by_source
from gkd.report.tables import Table, as_text, over_seeds, statistics, wide

UNSEEN = "Mean of sources"


def benchmark_tables(rows: pd.DataFrame, params: Params, known: Catalogue) -> list[Table]:
    """One table per benchmark and setting: the source's validation part, the targets, and the average they make up."""
    tables = []
    for setting, source in product(params.settings, params.sources):
        for benchmark in benchmarks_of(source, params, known):
            validation, wanted = known.sources[source].validation.name, list(benchmark.targets)
            own = rows[(rows["setting"] == setting) & (rows["source"] == source)]
            numbers = statistics(own, averages(source, wanted), [TEACHER, *params.rows], [validation, *wanted])
            part = "the source's own validation part" if params.hold_out else "of the source"
            more, name = f" {validation} is {part}, not a target.", f"{source}-{benchmark.name}-{setting}"
            tables.append(_table(name, f"{benchmark.title}, {setting.upper()}", numbers, params, more))
    return tables


def summary_table(rows: pd.DataFrame, params: Params, known: Catalogue, setting: str) -> Table:
    """Methods x all target domains, with the domain averages as the paper forms them, and the mean over sources."""
    rows, parts, methods = rows[rows["setting"] == setting], [], [TEACHER, *params.rows]
    domains = {source: targets(source, params, known) for source in params.sources}
    for source, own in domains.items():
        part = statistics(rows[rows["source"] == source], averages(source, own), methods, own)
        parts.append(part.assign(column=[heading(name, source, params, known) for name in part["column"]]))
    unseen = by_source(rows, domains)[[MEAN]].set_axis([UNSEEN], axis=1)
    numbers = pd.concat([*parts, over_seeds(unseen, methods)], ignore_index=True)
    return _table(f"summary-{setting}", f"Unseen target domains, {setting.upper()}", numbers, params)


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
    """Mean of each method (labelled) over sources of the mean over unseen domains, NaN where one is missing."""
    return table.numbers[table.numbers["column"] == UNSEEN].set_index("method")["mean"]


def _table(name: str, title: str, numbers: pd.DataFrame, params: Params, more: str = "") -> Table:
    numbers, count = numbers.assign(method=[row(method).label for method in numbers["method"]]), len(params.seeds)
    seeds = "one seed" if count == 1 else f"mean ± sample standard deviation over {count} seeds"
    caption = f"{title}: mIoU in per cent, {seeds}.{more}"
    return Table(name, caption, as_text(numbers), numbers, reference=(row(TEACHER).label,))
