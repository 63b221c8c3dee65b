"""The report's tables and pictures from what evaluation wrote: which rows, which columns, which captions."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from gkd.data.domains import AVERAGES, TITLES, Benchmark, Source
from gkd.datasets import catalogue
from gkd.methods.table import METHODS
from gkd.params import ROOT, Params
from gkd.report.tables import as_text, published, statistics
from gkd.workspace.availability import check
from gkd.workspace.folders import Workspace
from gkd.workspace.plan import FILLER, RESULTS, build, member, output

UNSEEN = "Mean (unseen)"


class Table(NamedTuple):
    """A table ready to be written: its file name, caption, numbers and text."""

    name: str
    caption: str
    numbers: pd.DataFrame
    text: pd.DataFrame


def read_scores(files: Iterable[Path]) -> pd.DataFrame:
    """All score rows of an evaluation run, in one frame."""
    frames = [pd.read_csv(file) for file in files]
    if not frames:
        raise FileNotFoundError("no scores.csv to report: run the evaluate stage first (`dvc repro`)")
    return pd.concat(frames, ignore_index=True)


def benchmark_tables(rows: pd.DataFrame, params: Params) -> list[Table]:
    """One table per benchmark and setting: the source's validation part, the targets, and their average."""
    tables = []
    for setting in params.plan.settings:
        for benchmark in _benchmarks(params):
            source = catalogue(params).sources[benchmark.source]
            own = rows[(rows["setting"] == setting) & (rows["source"] == benchmark.source)]
            targets = [domain.name for domain in benchmark.targets]
            title, average = TITLES.get(benchmark.name, (benchmark.name, None))
            averages = {average: targets} if len(targets) > 1 and average else {}
            domains = [source.validation.name, *targets]
            numbers = _labelled(statistics(own, averages, params.plan.methods, domains))
            caption = f"{title}, {setting.upper()}: mIoU in per cent, {_seeds(params)}."
            part = "the source's own validation part" if params.plan.hold_out else "of the source"
            caption += f" {source.validation.name} is {part}, not a target."
            tables.append(Table(f"{benchmark.name}-{setting}", caption, numbers, as_text(numbers)))
    return tables


def summary_table(rows: pd.DataFrame, params: Params, setting: str) -> Table:
    """Methods x all target domains of the profile, with the domain averages as the paper forms them."""
    parts = []
    for source in params.plan.sources:
        domains, averages = _columns(source, params)
        own = rows[(rows["setting"] == setting) & (rows["source"] == source)]
        part = statistics(own, averages, params.plan.methods, domains)
        parts.append(part.assign(column=part["column"].map(lambda name, own=source: _title(name, own, params))))
    numbers = _labelled(pd.concat([*parts, _unseen(rows[rows["setting"] == setting], params)], ignore_index=True))
    caption = f"Unseen target domains, {setting.upper()}: mIoU in per cent, {_seeds(params)}."
    return Table(f"summary-{setting}", caption, numbers, as_text(numbers))


def choices(rows: pd.DataFrame, params: Params) -> pd.DataFrame:
    """The learning rate of each trained decoder, with the mIoU on the source's validation part that chose it."""
    validation = {name: source.validation.name for name, source in catalogue(params).sources.items()}
    own = rows[rows["domain"] == rows["source"].map(validation)]
    columns = ["setting", "method", "source", "seed", "lr", "miou"]
    return own[columns].rename(columns={"miou": "validation_miou"}).sort_values(columns[:4], ignore_index=True)


def radar_values(table: Table) -> pd.DataFrame:
    """Means, methods (labelled) x target domains without the averages, for `gkd.report.figures.radar`."""
    names = table.numbers["column"].str.rpartition(": ")[2]  # without the source, see _title
    numbers = table.numbers[~names.isin([*AVERAGES, UNSEEN])]
    wide = numbers.pivot(index="method", columns="column", values="mean")
    return wide.reindex(index=numbers["method"].unique(), columns=numbers["column"].unique())


def unseen_mean(table: Table) -> pd.Series:
    """Mean over all target domains of each method (labelled), NaN where one is missing."""
    return table.numbers[table.numbers["column"] == UNSEEN].set_index("method")["mean"]


def _unseen(rows: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Statistics over seeds of the plain mean over every target domain of the profile, as one more column."""
    pairs = [(b.source, domain.name) for b in _benchmarks(params) for domain in b.targets]
    wide = rows.pivot(index=["method", "seed"], columns=["source", "domain"], values="miou").reindex(columns=pairs)
    means = wide.mean(axis=1, skipna=False)
    records = []
    for method in params.plan.methods:
        own = means[means.index.get_level_values("method") == method]
        values = own.dropna()
        records.append((method, UNSEEN, values.mean(), values.std(ddof=1), len(values), len(own)))
    return pd.DataFrame(records, columns=["method", "column", "mean", "std", "seeds", "planned"])


def read_pictures(file: Path) -> dict[str, tuple[list, list, dict[str, list]]]:
    """predictions.npz as {domain: (photos, labels, {method label: predicted maps})}."""
    domains: dict[str, dict[str, list[np.ndarray]]] = {}
    with np.load(file) as arrays:
        for key in arrays.files:
            domain, what, _ = key.split("/")
            domains.setdefault(domain, {}).setdefault(what, []).append(arrays[key])
    return {
        domain: (parts.pop("photo"), parts.pop("label"), {label(name): maps for name, maps in parts.items()})
        for domain, parts in domains.items()
    }


def label(method: str) -> str:
    """A method's name as printed."""
    return METHODS[method].label


def _labelled(numbers: pd.DataFrame) -> pd.DataFrame:
    return numbers.assign(method=numbers["method"].map(label))


def _benchmarks(params: Params) -> list[Benchmark]:
    known = catalogue(params)
    return [b for name in params.plan.sources for b in known.benchmarks_of(name, params.plan.benchmarks)]


def _columns(source: str, params: Params) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """The target domains of a source and the averages that its benchmarks enter, those whose members are all there."""
    known = catalogue(params)
    domains = [domain.name for domain in known.targets_of(source, params.plan.benchmarks)]
    found = (TITLES.get(b.name, (b.name, None))[1] for b in known.benchmarks_of(source, params.plan.benchmarks))
    names = [average for average in found if average is not None]
    return domains, {name: AVERAGES[name] for name in names if set(AVERAGES[name]) <= set(domains)}


def _title(column: str, source: str, params: Params) -> str:
    """A column over several sources: "gtav: cityscapes" where another planned source has that column, too."""
    sharing = [name for name in params.plan.sources if any(column in names for names in _columns(name, params))]
    return f"{source}: {column}" if len(sharing) > 1 else column


def _seeds(params: Params) -> str:
    count = len(params.plan.seeds)
    return "one seed" if count == 1 else f"mean ± sample standard deviation over {count} seeds"


class Inputs(NamedTuple):
    """Files that a report reads."""

    scores: list[Path]
    predictions: list[Path]
    attention: Path | None


def inputs(params: Params, space: Workspace) -> Inputs:
    """What the plan says that the report reads; evaluations that are missing by hand are run first.

    Sources whose datasets are absent have no evaluation: their rows come out as missing.
    """
    found = check(params)
    plan = build(params, found.sources, found.missing)
    for item in plan["evaluate"].values():
        name = member(item["setting"], item["source"], item["seed"])
        space.need(
            output(space.results, "evaluate", params.profile, name, "scores.csv"),
            **{key: item[key] for key in ("setting", "source", "seed", "targets", "methods")},
        )

    def files(paths: list[str]) -> list[Path]:
        return [ROOT / path.replace(RESULTS, space.results, 1) for path in paths if path != FILLER]

    report = plan["report"]
    attention = files([report["attention"]])
    return Inputs(files(report["scores"]), files(report["predictions"]), attention[0] if attention else None)


def source_of(file: Path, params: Params) -> Source:
    """The source of a predictions.npz, from its member's name (whole: "gtav" is also the beginning of others)."""
    plan = params.plan
    names = {member(s, name, seed): name for s, name, seed in product(plan.settings, plan.sources, plan.seeds)}
    return catalogue(params).sources[names[file.parent.name]]


def paper_table(paper: pd.DataFrame, params: Params) -> pd.DataFrame | None:
    """Published F2L and no-KD rows (ViT-S) for the sources of the profile; None where the paper has none of them."""
    names = {"gtav": "GTAV", "cityscapes": "Cityscapes", "potsdam": "Potsdam-RGB"}
    methods = {"No KD": "no KD", "Vanilla KD": "Vanilla KD", "GKD": "GKD"}
    parts = []
    for source in params.plan.sources:
        if source in names:
            domains, averages = _columns(source, params)
            part = published(paper, [*domains, *averages], "F2L", names[source], "ViT-S", methods)
            parts.append(part.rename(columns=lambda name, own=source: _title(name, own, params)))
    if not parts:
        return None
    if "gtav-acdc" in params.plan.benchmarks:
        # One number over ACDC, of GKD alone (Table 6). How it joins the four conditions is not printed.
        name = "ACDC (all, trained on GTAV)"
        part = published(paper, [name], "F2L DGSS comparison", "GTAV", "ViT-S+Mask2Former", {"GKD": "GKD"})
        parts.append(part.reindex(parts[0].index).fillna({name: "-", "origin": ""}))
    origins = pd.concat([part.pop("origin") for part in parts], axis=1)
    joined = origins.agg(lambda row: ", ".join(filter(None, dict.fromkeys(row))), axis=1)
    return pd.concat(parts, axis=1).assign(origin=joined)
