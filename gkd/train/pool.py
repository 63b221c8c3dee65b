"""Views in memory, with what frozen models say of them: drawn and asked about once, seen again at every pass.

batches = seen(section, draw, views, ask, like, name)    # of a run: anew at every step, or from a pool of section.pool

Nothing of a pool is in a run's state: it is filled again from the same keys, to the same bytes. Each of several
processes fills its share and holds the whole, as each batch may need any view. Shares of their own would let the number
of processes decide which views meet in a batch, and whether a view is ever masked.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import psutil
import torch
from accelerate.utils import gather
from torch import Tensor

from gkd.data.loading import Draw, EpochBatches
from gkd.params import Distillation, TaskLearning
from gkd.train.progress import Progress

Parts = dict[str, Tensor]  # (B, ...) by name, for a batch or the whole pool (on the CPU): rows belong together
Views = Callable[[Draw], Iterable[Any]]

# Of floats. Bytes would not do for views: the noise in an erased patch leaves [0, 1], and photometric distortion the
# steps of 1/255. Halves round a view by at most a sixteenth of such a step.
KEPT = torch.float16


def seen(
    section: Distillation | TaskLearning,
    draw: Draw,
    views: Views,
    ask: Callable[[Any], Parts],
    like: Callable[[int], Any],
    name: str,
) -> Iterable[Any]:
    """The batches of a run: views drawn at every step, or, with `section.pool`, what `ask` makes of a pool's.

    Args:
        section: its `pool`, and how many views a process forwards at a time.
        draw: of the run.
        views: the batches of a draw, without a pool.
        ask: a batch of `views` -> what is kept of it, floats by way of `kept`; see `opened` for the way back.
        like: so many views of zeros, as `views` would give them.
        name: of the run, as printed.

    Raises ValueError where the pool does not fit into the free memory; nothing is drawn then.
    """
    if section.pool is None or draw.start == draw.steps:
        return views(draw)
    share = draw.batch_size // draw.process[1]
    return shuffled(fill(section.pool, draw, views, ask, like(min(section.micro_batch or share, share)), name), draw)


def shuffled(pool: Parts, draw: Draw) -> Iterator[Parts]:
    """The batches of `draw`, of rows of the pool in the place of images: each pass in a seeded order of its own."""
    for keys in EpochBatches(len(next(iter(pool.values()))), replace(draw, repeats=1)):  # repeats are among its views
        rows = torch.tensor([index for *_, index in keys])
        yield {name: part[rows] for name, part in pool.items()}


def kept(tensor: Tensor) -> Tensor:
    """`tensor` in the format of the pool; a ValueError where it holds no such number."""
    stored = tensor.to(KEPT)
    if not stored.isfinite().all():
        raise ValueError(f"pool: a frozen model says more than {KEPT} can hold; ask it at every step (pool: null)")
    return stored


def opened(parts: Parts, dtype: torch.dtype = torch.float32) -> Parts:
    """A batch of the pool as steps use it: floats in `dtype`, labels in int64."""
    return {name: part.to(dtype if part.is_floating_point() else torch.int64) for name, part in parts.items()}


def fill(size: int, draw: Draw, views: Views, ask: Callable[[Any], Parts], like: Any, name: str) -> Parts:
    """Keep the first `size` views of a run, or as many as it has; see `seen`. `like` is a batch of zeros here."""
    index, count = draw.process
    size, example = min(size, draw.steps * draw.batch_size), ask(like)
    batch = count * len(next(iter(example.values())))
    _check_memory(size, sum(part[0].nbytes for part in example.values()), draw, name)
    parts = {key: torch.empty((size, *part.shape[1:]), dtype=part.dtype) for key, part in example.items()}
    progress, done = Progress(f"{name} pool", -(-size // batch), quiet=index > 0), 0
    # Views follow their keys, so the size of these batches is free.
    for number, found in enumerate(views(replace(draw, steps=-(-size // batch), batch_size=batch, start=0)), 1):
        end = min(done + batch, size)
        for key, part in ask(found).items():
            whole = gather(part.contiguous())  # process by process, which have every count-th sample
            parts[key][done:end] = whole.unflatten(0, (count, -1)).transpose(0, 1).flatten(0, 1)[: end - done]
        progress(number, end - done)
        done = end
    return parts


def _check_memory(size: int, each: int, draw: Draw, name: str) -> None:
    """Print what the pool takes, at `each` bytes a view; ValueError where that is not free."""
    index, count = draw.process
    each *= int(os.environ.get("LOCAL_WORLD_SIZE", count))  # processes on this machine
    free = psutil.virtual_memory().available
    text = f"pool: {size} views of {each / 1e3:.0f} kB take {size * each / 1e9:.2f} GB, {free / 1e9:.2f} GB are free"
    if size * each > free:
        raise ValueError(f"{text}: at most {free // each} fit; or draw and ask at every step (pool: null)")
    if index == 0:
        print(f"{name}  {text}", flush=True)
