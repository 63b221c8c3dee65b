"""The files of samples read: which are damaged or of another kind than expected, and what the labels hold."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gkd.data.labels import IGNORE, class_names
from gkd.data.layout import Layout
from gkd.datasets import Sample
from gkd.doctor.listing import Problem, as_problem

FEW = 200  # images that are not worth worker processes
SECONDS = 5.0  # between progress lines


class Seen(NamedTuple):
    """One sample after a look at its files."""

    problems: list[Problem]
    pixels: np.ndarray | None  # int64 (K + 1,): pixels of each train id, ignored ones last; None without a sound label


def look_at_all(
    layout: Layout, samples: Sequence[Sample], jobs: int, say: Callable[[str], None] | None
) -> Iterator[Seen]:
    """`look` at every sample of a dataset, in order, by `jobs` processes; `say` is given progress lines."""
    # Windows of one tile stay together: decoding it takes far longer than cutting it.
    groups = [list(group) for _, group in groupby(samples, key=lambda sample: sample.image)]
    start = last = time.monotonic()
    number = 0
    for group in _results(partial(_look_at_windows, layout), groups, jobs if len(samples) > FEW else 1):
        number += len(group)
        if say is not None and time.monotonic() - last >= SECONDS:
            last = time.monotonic()
            say(f"{layout.name}: {number:,} of {len(samples):,} images, {number / (last - start):.0f}/s")
        yield from group


def look(layout: Layout, sample: Sample) -> Seen:
    """Read the files of one sample of a dataset as training would; count its pixels by train id."""
    try:
        _, label = layout.read(sample)
    except Exception as error:  # a damaged file may raise anything: it is reported, and the walk goes on
        return Seen(_faults(layout, sample, error), None)
    if label is None:
        return Seen([], None)
    counts = np.bincount(label.ravel(), minlength=256)
    return Seen([], counts[[*range(len(class_names(layout.label_space))), IGNORE]])


def _results(work: Callable[[list[Sample]], list[Seen]], groups: list[list[Sample]], jobs: int) -> Iterator[list[Seen]]:
    if jobs == 1:
        yield from map(work, groups)
        return
    # Forked, as the loaders' workers are: spawned ones would run the script that asks once more.
    with ProcessPoolExecutor(jobs, mp_context=get_context("fork")) as pool:
        yield from pool.map(work, groups, chunksize=min(16, max(1, len(groups) // (8 * jobs))))


def _look_at_windows(layout: Layout, samples: list[Sample]) -> list[Seen]:
    """Samples of one image file. Its faults are those of all its windows, so they are looked for once."""
    first = look(layout, samples[0])
    if first.problems:
        return [first] * len(samples)
    return [first, *(look(layout, sample) for sample in samples[1:])]


def _faults(layout: Layout, sample: Sample, first: Exception) -> list[Problem]:
    """All that is wrong with a pair: `first` is what reading it met, but its other file may be damaged as well."""
    problems = [as_problem(first, sample.image), *_fault(layout.read_image, sample, sample.image)]
    if sample.label is not None:
        problems += _fault(layout.read_label, sample, sample.label)
    return list(dict.fromkeys(problems))


def _fault(read: Callable[[Sample], np.ndarray], sample: Sample, path: Path) -> list[Problem]:
    try:
        read(sample)
    except Exception as error:  # as in `look`
        return [as_problem(error, path)]
    return []
