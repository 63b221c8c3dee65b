"""The tables of a report, and its pictures, from the files that evaluations wrote: which rows, columns, captions."""

from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from gkd.data.catalogue import Catalogue
from gkd.methods import row
from gkd.params import STAGES, Params
from gkd.report.benchmarks import AVERAGES, averages, benchmarks_of, heading, targets
from gkd.report.statistics import MEAN, by_source
from gkd.report.tables import ALL, Table, as_text, over_seeds, statistics, wide
from gkd.workspace.check import TEACHER
from gkd.workspace.members import evaluated, member

UNSEEN = "Mean of sources"


def members(params: Params) -> list[str]:
    """The folders of results/evaluate/<profile>/ that a report of `params` shows; others may lie beside them."""
    rows = product(params.settings, [TEACHER, *params.rows], params.sources, params.seeds)
    return list(dict.fromkeys(evaluated(*fields) for fields in rows))


def read_scores(folders: Iterable[Path], settings: Sequence[str]) -> pd.DataFrame:
    """All score rows of these evaluations in one frame; the teacher's stand in every setting."""
    if not (frames := [pd.read_csv(folder / "scores.csv") for folder in folders]):
        raise FileNotFoundError("no scores.csv to report: run the evaluate stage first (`dvc repro`)")
    rows = pd.concat(frames, ignore_index=True)
    own, shared = rows[rows["setting"] != ALL], rows[rows["setting"] == ALL]
    return pd.concat([*(shared.assign(setting=setting) for setting in settings), own], ignore_index=True)


def read_histories(folders: Iterable[Path], stage: str) -> pd.DataFrame:
    """The loss curves of a distillation stage, as the evaluations of its students hold them; empty where none has any.

    A row a step, with `seed` and `member`: SETTING-METHOD, and -SOURCE but for task_agnostic, whose student serves all.
    """
    found: dict[tuple[str, int], pd.DataFrame] = {}
    for folder in folders:
        if (file := folder / "history" / f"{stage}.csv").is_file():
            who = pd.read_csv(folder / "scores.csv").iloc[0]
            name = member(*who[["setting", "method", *(["source"] if stage != "task_agnostic" else [])]])
            found.setdefault((name, int(who["seed"])), pd.read_csv(file))
    frames = [curve.assign(member=name, seed=seed) for (name, seed), curve in found.items()]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["step", "loss", "member", "seed"])


def budgets(folders: Iterable[Path]) -> pd.DataFrame:
    """What rows were given: steps of each stage, and how many rates task learning tried, by setting, method and source.

    Seeds that were given the same are one row.
    """
    found = []
    for folder in folders:
        who = pd.read_csv(folder / "scores.csv").iloc[0][["setting", "method", "source"]]
        files = {stage: folder / "history" / f"{stage}.csv" for stage in (*STAGES, "task_learning")}
        steps = {stage: len(pd.read_csv(file)) if file.is_file() else 0 for stage, file in files.items()}
        found.append({**who, **steps, "rates": len(pd.read_csv(folder / "choice.csv"))})
    return pd.DataFrame(found).drop_duplicates(ignore_index=True)


def read_pictures(folders: Iterable[Path]) -> dict[str, tuple[list, list, dict[str, list]]]:
    """predictions.npz of models of one source, as {domain: (photos, labels, {method label: predicted maps})}."""
    domains: dict[str, dict[str, list[np.ndarray]]] = {}
    for number, folder in enumerate(folders):
        with np.load(folder / "predictions.npz") as arrays:
            for key in arrays.files:
                domain, what, _ = key.split("/")
                if number == 0 or what not in ("photo", "label"):  # which are the same in all
                    domains.setdefault(domain, {}).setdefault(what, []).append(arrays[key])
    return {
        domain: (parts.pop("photo"), parts.pop("label"), {row(name).label: maps for name, maps in parts.items()})
        for domain, parts in domains.items()
    }


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
    unseen = by_source(rows, setting, domains)[[MEAN]].set_axis([UNSEEN], axis=1)
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
