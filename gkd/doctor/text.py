"""A report of the data doctor as plain text for the terminal."""

from collections.abc import Sequence

import pandas as pd

from gkd.doctor import Report


def render(report: Report, limit: int = 10) -> str:
    """The whole report, except that only the first `limit` problems are spelt out."""
    if not report.present:
        lines = [*report.missing.values()][:1] + report.remedy.splitlines()
        return "\n".join([f"{report.name}: absent", *_indented(lines)]) + "\n"
    number = len(report.problems)
    verdict = f"{number} problem{'s' if number > 1 else ''}" if number else "sound"
    lines = [report.counts.to_string(na_rep="-", index_names=False)]
    if not report.pixels.empty:
        lines += ["", _classes(report).to_string(index_names=False)]
    lines += [""] if report.problems or report.notes or report.missing else []
    lines += [f"problem: {path}: {what}" for path, what in report.problems[:limit]]
    lines += [f"... and {number - limit} more problems"] if number > limit else []
    lines += [f"note: {note}" for note in report.notes]
    lines += [f"missing: {split}: {what}" for split, what in report.missing.items()]
    lines += report.remedy.splitlines()
    return "\n".join([f"{report.name}: {verdict}, in {report.root}", *_indented(lines)]) + "\n"


def _classes(report: Report) -> pd.DataFrame:
    """Pixels of each class and its share of the labelled ones, side by side for each split."""
    table = {}
    for split in report.pixels:
        table[split] = report.pixels[split].map("{:,}".format)
        share = report.frequencies[split].reindex(report.pixels.index)
        table[f"{split} %"] = share.map("{:.2f}".format, na_action="ignore").fillna("")
    return pd.DataFrame(table)


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}".rstrip() for text in lines for line in text.split("\n")]
