"""Where the time of a training step goes.

    for marks in step_marks(student, teacher, objective, batches, lr=1e-4): spent(marks)     # seconds by part

The parts are told apart by hooks on the encoders, so that the step is the very one that training takes.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack

import psutil
import torch
from torch import Tensor, nn

from gkd.models import Encoder, Tokens
from gkd.qsd import Objective, distillation_step
from gkd.train.schedules import parameter_groups

PARTS = (
    "data",
    "teacher",
    "student, forward",
    "QSD and losses, forward",
    "QSD and losses, backward",
    "student, backward",
    "AdamW",
)
Marks = list[tuple[str, float]]  # what begins, and what the meter showed then; the last one ends a step


def follow(
    meter: Callable[[], float],
    step: Callable[[], Tensor],
    student: Encoder,
    teacher: Encoder,
    optimizer: torch.optim.Optimizer | None = None,
) -> Marks:
    """Run one step, backward pass and (where given) update, and note what the meter shows as each part begins.

    `meter` is any figure that only grows, such as `time.perf_counter` or a count of FLOPs; `step` calls both encoders
    and gives the loss. The backward pass is told apart at the student's tokens: it goes through all heads before them.
    """
    marks: Marks = []

    def mark(name: str) -> None:
        marks.append((name, meter()))

    def reached(_gradient: Tensor) -> None:
        if marks[-1][0] != "student, backward":  # the tokens of two views
            mark("student, backward")

    def watch(_module: nn.Module, _inputs: object, tokens: Tokens) -> None:
        tokens.patches.register_hook(reached)

    with ExitStack() as hooks:
        for module, name in ((teacher, "teacher"), (student, "student, forward")):
            begin = module.register_forward_pre_hook(lambda *_, name=name: mark(name))
            end = module.register_forward_hook(lambda *_: mark("QSD and losses, forward"))
            hooks.callback(begin.remove)
            hooks.callback(end.remove)
        hooks.callback(student.register_forward_hook(watch).remove)
        mark("QSD and losses, forward")
        loss = step()
        mark("QSD and losses, backward")
        loss.backward()
    mark("AdamW")
    if optimizer is not None:
        optimizer.step()
    mark("")
    return marks


def spent(marks: Marks) -> dict[str, float]:
    """What each part took, by name, in the order of PARTS."""
    found: dict[str, float] = {}
    for (name, begin), (_, end) in zip(marks, marks[1:], strict=False):
        found[name] = found.get(name, 0.0) + end - begin
    return {name: found[name] for name in PARTS if name in found}


def step_marks(
    student: Encoder,
    teacher: Encoder,
    objective: Objective,
    batches: Iterable[tuple[Tensor, Tensor]],
    lr: float,
    weight_decay: float = 0.05,
) -> Iterator[Marks]:
    """The marks in seconds of each training step over `batches` of images (B, 3, H, W) and masks (B, N).

    "data" is the wait for the next batch. The student and the heads learn, as they would in training.
    """
    optimizer = torch.optim.AdamW(parameter_groups([student, objective], lr, weight_decay))
    start = time.perf_counter()
    for images, mask in batches:
        optimizer.zero_grad()
        step = lambda images=images, mask=mask: distillation_step(student, teacher, objective, images, mask)[0]  # noqa: E731
        yield [("data", start), *follow(time.perf_counter, step, student, teacher, optimizer)]
        start = time.perf_counter()


def medians(steps: Sequence[Marks]) -> dict[str, float]:
    """Median seconds of each part over several steps."""
    taken = [spent(marks) for marks in steps]
    return {name: statistics.median(step[name] for step in taken) for name in taken[0]}


def resident() -> int:
    """Bytes of memory that this process holds."""
    return psutil.Process().memory_info().rss
