"""What is made of the scores of a list of evaluations: the report notebook and `gkd tables` make the same files.

report = build(folders, [params], catalogue(params))
report.write(Path("tables"))
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pandas as pd

from gkd.data.catalogue import Catalogue
from gkd.datasets import catalogue
from gkd.files import write_whole
from gkd.methods import NAMES, TEACHER
from gkd.params import ROOT, Params
from gkd.report import summary
from gkd.report.benchmarks import targets
from gkd.report.comparisons import by_class, by_domain, by_profile, differences, headroom
from gkd.report.evaluations import members, read_images, read_scores
from gkd.report.published import paper_rows, paper_table
from gkd.report.resampling import resample
from gkd.report.statistics import headline
from gkd.report.tables import Table, write

SCORES = ("scores.csv", "images.npz")  # of a member, all that tables are made from


@dataclass(frozen=True)
class Report:
    """The tables by chapter, and what is said of them."""

    rows: pd.DataFrame  # all scores
    tables: dict[str, list[Table]]
    choices: pd.DataFrame  # learning rates
    headline: pd.DataFrame  # setting, source, method, unseen, low, high, seeds
    sentences: list[str]  # the headline, a setting each
    metrics: dict[str, float]

    def write(self, folder: Path) -> None:
        """Write all tables (CSV, LaTeX, Markdown), choices.csv and headline.csv."""
        for table in chain(*self.tables.values()):
            write(table, folder)
        for name, frame in (("choices", self.choices), ("headline", self.headline)):
            write_whole(folder / f"{name}.csv", frame.to_csv(index=False))


def build(folders: Sequence[Path], plans: Sequence[Params], known: Catalogue) -> Report:
    """The report of evaluations (`scores.csv` and `images.npz` in each folder): what the lists of `plans` name.

    Raises ValueError or FileNotFoundError where a file is missing or does not fit, or the headline row has no scores.
    """
    if not plans:
        raise ValueError("there are scores of the teacher alone: a report needs those of another row")
    settings = [setting for plan in plans for setting in plan.settings]
    rows, images = read_scores(folders, settings), read_images(folders, settings)
    tables: dict[str, list[Table]] = {}
    heads, shown, metrics = [], [], {}
    for params in (p.model_copy(update={"settings": [setting]}) for p in plans for setting in p.settings):
        (setting,) = params.settings
        own = rows[(rows["setting"] == setting) & rows["seed"].isin(params.seeds)]
        if params.headline not in set(own["method"]):
            raise ValueError(
                f"headline: {params.headline} of params.yaml has no scores in {setting}: name another row, or put the "
                "profile of these scores in its place"
            )
        wanted = {(source, name) for source in params.sources for name in targets(source, params, known)}
        seen = {k: v for k, v in images.items() if k[0] == setting and k[2:4] in wanted and k[4] in params.seeds}
        draws, table = resample(seen), summary.summary_table(own, params, known, setting)
        shown.append(own)
        heads.append(headline(own, draws, params, known))
        metrics |= {f"{setting}/{name}": float(mean) for name, mean in summary.unseen_mean(table).dropna().items()}
        metrics |= heads[-1].numbers
        chapters = {"benchmarks": summary.benchmark_tables(own, params, known), "summary": [table]}
        chapters |= {"headroom": headroom(own, params, known), "differences": differences(own, params, known)}
        chapters |= {"images": [by_domain(own, draws, params, known)]}
        chapters |= {"classes": [by_class(seen, source, params, known) for source in params.sources]}
        for name, found in chapters.items():
            tables.setdefault(name, []).extend(found)
    papers = [paper_table(paper_rows(), plan, known) for plan in plans if "f2l" in plan.settings]
    tables["published"] = [table for table in papers if table is not None]
    frame, sentences = pd.concat([head.frame for head in heads]), [head.sentence for head in heads]
    return Report(rows, tables, summary.choices(pd.concat(shown), known), frame, sentences, metrics)


def plans_of(folders: Sequence[Path], params: Params, known: Catalogue) -> list[Params]:
    """What evaluations lie in `folders`, as parameters, one a setting: the order, and all else, is that of `params`."""
    rows, plans = read_scores(folders, ()), []
    for setting, own in rows.groupby("setting", sort=False):
        sources = _ordered(own["source"], [*params.sources, *known.sources])
        domains = {s: own.loc[own["source"] == s, "domain"].unique() for s in sources}
        home = {s: known.source(s).validation.name for s in sources}
        found = {
            "settings": [setting],
            "sources": sources,
            "targets": {s: [name for name in domains[s] if name != home[s]] for s in sources},
            "seeds": sorted({*own["seed"].tolist()}),
            "rows": _ordered(own["method"], [*params.rows, *NAMES]),
        }
        plans.append(params.model_copy(update=found))
    return sorted(plans, key=lambda plan: plan.settings[0] != "f2l")


def keep(params: Params, folder: Path) -> None:
    """Copy what the members of `params` scored, and dvc.lock, to a folder from which `publish` makes tables.

    Other members of the same settings, of an earlier run, go, and those of its teacher unless another setting has its
    scores there. FileNotFoundError where a member has no scores.
    """
    found = ROOT / "results" / "evaluate" / params.profile
    content = {Path(m) / name: (found / m / name).read_bytes() for m in members(params) for name in SCORES}
    there, gone = {old: old.name.split("-")[0] for old in folder.glob("scores/*")}, {*params.settings}
    if {*there.values()} <= {TEACHER, *gone}:
        gone.add(TEACHER)
    for old in (old for old, setting in there.items() if setting in gone):
        shutil.rmtree(old)
    for name, scores in content.items():
        write_whole(folder / "scores" / name, scores)
    write_whole(folder / f"{params.profile}.lock", (ROOT / "dvc.lock").read_bytes())


def publish(folder: Path, params: Params) -> list[str]:
    """Write into a folder the tables of its scores/MEMBER/, or those that set such folders in it beside each other;
    returns the headlines. The order of rows, and all that scores do not say, is that of `params`."""
    known, folders = catalogue(params), _scored(folder)
    runs = sorted({file.parents[2] for file in folder.glob("*/scores/*/scores.csv")})
    if runs and not folders:
        write(_beside(runs, params, known), folder)
        return []
    if not folders:
        raise FileNotFoundError(f"{folder}/scores holds no MEMBER/scores.csv: copy members of results/evaluate/ there")
    report = build(folders, plans_of(folders, params, known), known)
    report.write(folder)
    write_whole(folder / "metrics.json", json.dumps(report.metrics, indent=2, sort_keys=True) + "\n")
    return report.sentences


def _beside(runs: Sequence[Path], params: Params, known: Catalogue) -> Table:
    """Of folders that are named after their profile, each with one setting."""
    rows, plans = {}, {}
    for run in runs:
        found = plans_of(_scored(run), params, known)
        if len(found) > 1:
            raise ValueError(f"{run} has scores of {len(found)} settings: one can be set beside those of other folders")
        plans[run.name] = found[0]
        rows[run.name] = read_scores(_scored(run), plans[run.name].settings)
    return by_profile(rows, plans, known)


def _scored(folder: Path) -> list[Path]:
    return sorted(file.parent for file in folder.glob("scores/*/scores.csv"))


def _ordered(found: pd.Series, order: Sequence[str]) -> list[str]:
    names = found.unique().tolist()
    return list(dict.fromkeys([*(name for name in order if name in names), *names]))
