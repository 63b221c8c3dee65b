"""The files of samples read: which are damaged or of another kind than expected, and what the labels hold."""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gkd.data import samples as files
from gkd.data.labels import IGNORE, class_names
from gkd.data.layout import Layout
from gkd.data.reading import is_turned
from gkd.data.samples import Sample
from gkd.doctor.listing import Problem, as_problem

FEW = 200  # images that are not worth worker processes
SECONDS = 5.0  # between progress lines


class Seen(NamedTuple):
    """One sample after a look at its files."""

    problems: list[Problem]
    pixels: np.ndarray | None  # int64 (K + 1,): pixels of each train id, ignored ones last; None without a sound label
    turned: bool = False  # viewers show the photo otherwise than it is stored, and so perhaps did who drew the label


def read_all(layout: Layout, samples: Sequence[Sample], jobs: int, say: Callable[[str], None]) -> Iterator[Seen]:
    """`read` every sample of a dataset, in order, by `jobs` processes; `say` is given progress lines."""
    # Windows of one tile stay together: decoding it takes far longer than cutting it.
    groups = [list(group) for _, group in groupby(samples, key=lambda sample: sample.image)]
    start = last = time.monotonic()
    number = 0
    for group in _results(partial(_read_windows, layout), groups, jobs if len(samples) > FEW else 1):
        number += len(group)
        if time.monotonic() - last >= SECONDS:
            last = time.monotonic()
            say(f"{layout.name}: {number:,} of {len(samples):,} images, {number / (last - start):.0f}/s")
        yield from group


def read(layout: Layout, sample: Sample) -> Seen:
    """Read the files of one sample as training would; count its pixels by train id."""
    problems: list[Problem] = []

    def attempt(look: Callable[[], Any], path: Path) -> Any:
        try:
            return look()
        except Exception as error:  # a damaged file may raise anything: it is reported, and the walk goes on
            problems.append(as_problem(error, path))

    both = attempt(lambda: files.read(sample), sample.image)
    if problems:  # the other file of the pair may be damaged as well
        attempt(lambda: files.read_image_of(sample), sample.image)
        if sample.label is not None:
            attempt(lambda: files.read_label_of(sample), sample.label)
    if problems or both[1] is None:
        return Seen(list(dict.fromkeys(problems)), None)
    counts = np.bincount(both[1].ravel(), minlength=256)
    turned = sample.window is None and is_turned(sample.image)
    return Seen([], counts[[*range(len(class_names(layout.label_space))), IGNORE]], turned)


def _read_windows(layout: Layout, samples: list[Sample]) -> list[Seen]:
    """Samples of one image file. Its faults are those of all its windows, so they are looked for once."""
    first, *others = read(layout, samples[0]), *samples[1:]
    return [first, *(first if first.problems else read(layout, sample) for sample in others)]


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
