"""The data doctor: what is there of a dataset, what is missing, and everything that is wrong with its files.

known = gkd.datasets.catalogue(params)
report = examine("cityscapes", known, quick=True)
report.problems, report.counts, report.frequencies
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from gkd.data.catalogue import Catalogue
from gkd.data.labels import class_names
from gkd.data.layout import Layout
from gkd.data.samples import Sample
from gkd.data.workers import cores
from gkd.doctor.listing import Problem, evenly, is_there, list_split
from gkd.doctor.reading import Seen, read_all

SAMPLE = 20  # images of a split that a quick look reads


@dataclass(frozen=True, eq=False)
class Report:
    """What `examine` found."""

    name: str
    root: Path
    present: bool  # False where nothing of the dataset is there, which is no fault
    problems: list[Problem]  # of every fault; empty where all is sound
    missing: dict[str, str]  # what is not there, by split
    remedy: str  # how to get what is missing, its licence, size and folder tree; "" where every split was begun
    counts: pd.DataFrame  # by split: images, published (<NA> where unknown), examined, and faulty ones among these
    pixels: pd.DataFrame  # of the examined labels, by class and "ignored" (rows) and split (columns)
    turned: int  # of the examined photos with labels: those that their EXIF turns

    @property
    def frequencies(self) -> pd.DataFrame:
        """Share of each class among the labelled pixels of a split, in per cent."""
        scored = self.pixels.drop(index="ignored", errors="ignore")
        return 100 * scored / scored.sum()

    @property
    def notes(self) -> list[str]:
        """Splits whose number of images is not the published one, and photos that viewers turn."""
        known = self.counts.dropna()
        other = known[(known["images"] > 0) & (known["images"] != known["published"])]
        found = [f"{s} has {row.images:,} images, {row.published:,} were published" for s, row in other.iterrows()]
        what = "photos are turned by their EXIF, but read as stored: do their labels fit what is stored?"
        return [*found, *([f"{self.turned:,} {what}"] if self.turned else [])]


def examine(
    name: str,
    known: Catalogue,
    quick: bool = False,
    jobs: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """Look at every file of a dataset of `known`; raises DatasetError on an unknown name, or key of its roots.

    Args:
        name: of the dataset.
        known: the datasets, and where they lie.
        quick: read up to 20 evenly spread images of each split. Files are listed, counted and paired all the same.
        jobs: processes; None = one a core.
        say: is given progress lines, every five seconds.
    """
    root, layout = known.root_of(name), known.layout(name)
    begun = [split for split in layout.splits if is_there(layout, root, split)]
    absent = {split: str(known.problem(name, split)) for split in layout.splits if split not in begun}
    missing = {split: text.partition("\n")[0] for split, text in absent.items()}
    remedy = "".join([text.partition("\n")[2] for text in absent.values()][:1])
    problems: list[Problem] = []
    # The root may be there for another dataset that shares it, such as Potsdam RGB beside IRRG.
    others = [other for other in known.layouts.values() if other.folder == layout.folder and other is not layout]
    shared = any(is_there(other, root, split) for other in others for split in other.splits)
    if not begun and root.is_dir() and not shared:
        faults = [list_split(layout, root, split)[1][0] for split in layout.splits]
        problems.append(next((fault for fault in faults if "did you mean" in fault.what), faults[0]))
        missing = {}  # one fault of the root, not one of each split
    listed = {split: list_split(layout, root, split) for split in begun}
    problems += [fault for _, faults in listed.values() for fault in faults]
    samples = {split: found for split, (found, _) in listed.items()}
    chosen = {split: evenly(s, SAMPLE) if quick else s for split, s in samples.items()}
    everything = list(dict.fromkeys(sample for s in chosen.values() for sample in s))  # splits may overlap
    seen = dict(zip(everything, read_all(layout, everything, jobs or cores(), say), strict=True))
    problems += [fault for one in seen.values() for fault in one.problems]
    pixels = _pixels(layout, chosen, seen)
    void = [split for split, count in pixels.drop(index="ignored", errors="ignore").sum().items() if not count]
    problems += [Problem(f"{root} ({s})", f"expected classes, found none in {len(chosen[s])} labels") for s in void]
    return Report(
        name=name,
        root=root,
        present=bool(begun or problems),
        problems=list(dict.fromkeys(problems)),
        missing=missing,
        remedy=remedy,
        counts=_counts(layout, samples, chosen, seen),
        pixels=pixels,
        turned=sum(one.turned for one in seen.values()),
    )


Split = Mapping[str, Sequence[Sample]]  # samples by split


def _counts(layout: Layout, samples: Split, chosen: Split, seen: Mapping[Sample, Seen]) -> pd.DataFrame:
    columns = {
        "images": {split: len(found) for split, found in samples.items()},
        "published": layout.published,
        "examined": {split: len(found) for split, found in chosen.items()},
        "faulty": {split: sum(bool(seen[sample].problems) for sample in found) for split, found in chosen.items()},
    }
    table = pd.DataFrame(columns, index=pd.Index(layout.splits, name="split"), dtype="Int64")
    return table.fillna({"images": 0, "examined": 0, "faulty": 0})


def _pixels(layout: Layout, chosen: Split, seen: Mapping[Sample, Seen]) -> pd.DataFrame:
    index = pd.Index([*class_names(layout.label_space), "ignored"] if layout.label_space else [], name="class")
    counts = {s: [p for sample in samples if (p := seen[sample].pixels) is not None] for s, samples in chosen.items()}
    return pd.DataFrame({split: sum(found) for split, found in counts.items() if found}, index=index)
