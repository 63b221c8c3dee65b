"""The files of samples read: which are damaged or of another kind than expected, and what the labels hold."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import groupby
from multiprocessing import get_context
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


def read_all(layout: Layout, samples: Sequence[Sample], jobs: int, say: Callable[[str], None] | None) -> Iterator[Seen]:
    """`read` every sample of a dataset, in order, by `jobs` processes; `say` is given progress lines."""
    # Windows of one tile stay together: decoding it takes far longer than cutting it.
    groups = [list(group) for _, group in groupby(samples, key=lambda sample: sample.image)]
    start = last = time.monotonic()
    number = 0
    for group in _results(partial(_read_windows, layout), groups, jobs if len(samples) > FEW else 1):
        number += len(group)
        if say is not None and time.monotonic() - last >= SECONDS:
            last = time.monotonic()
            say(f"{layout.name}: {number:,} of {len(samples):,} images, {number / (last - start):.0f}/s")
        yield from group


def read(layout: Layout, sample: Sample) -> Seen:
    """Read the files of one sample as training would; count its pixels by train id."""
    try:
        _, label = layout.read(sample)
    except Exception as error:  # a damaged file may raise anything: it is reported, and the walk goes on
        # What reading met; the other file of the pair may be damaged as well.
        problems = [as_problem(error, sample.image), *_fault(lambda: layout.read_image(sample), sample.image)]
        if sample.label is not None:
            problems += _fault(lambda: layout.read_label(sample), sample.label)
        return Seen(list(dict.fromkeys(problems)), None)
    if label is None:
        return Seen([], None)
    counts = np.bincount(label.ravel(), minlength=256)
    return Seen([], counts[[*range(len(class_names(layout.label_space))), IGNORE]])


def _fault(look: Callable[[], object], path: object) -> list[Problem]:
    try:
        look()
    except Exception as error:  # as in `read`
        return [as_problem(error, path)]
    return []


def _read_windows(layout: Layout, samples: list[Sample]) -> list[Seen]:
    """Samples of one image file. Its faults are those of all its windows, so they are looked for once."""
    first = read(layout, samples[0])
    if first.problems:
        return [first] * len(samples)
    return [first, *(read(layout, sample) for sample in samples[1:])]


def _results(work: Callable[[list[Sample]], list[Seen]], groups: list[list[Sample]], jobs: int) -> Iterator[list[Seen]]:
    if jobs == 1:
        yield from map(work, groups)
        return
    # Forked, as the loaders' workers are: spawned ones would run the script that asks once more. Ctrl-C is for the
    # process that waits for them.
    ignore = signal.SIGINT, signal.SIG_IGN
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("fork"), initializer=signal.signal, initargs=ignore)
    try:
        yield from pool.map(work, groups, chunksize=min(16, max(1, len(groups) // (8 * jobs))))
    finally:
        pool.shutdown(cancel_futures=True)
