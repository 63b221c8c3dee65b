"""Distillation runs: what the task-agnostic and domain-agnostic stages do, and no labels anywhere.

history = distil(student, teacher, objective, data, section, run)    # a stage
history = distil_folder(student, teacher, "photos", steps=10_000)    # as a library: any two timm models
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from timm.data import resolve_data_config
from torch import Tensor, nn

from gkd.data.loading import Draw, loader
from gkd.data.samples import SegmentationData
from gkd.data.transforms import DistillationView, draw_mask
from gkd.datasets.proxy import PROXY
from gkd.models import Encoder, Tokens
from gkd.params import Distillation
from gkd.qsd import Objective, distillation_step
from gkd.train.compute import compiled, frozen_copy, resolve
from gkd.train.loop import Share, Training, engine, finished, fit
from gkd.train.pool import kept, opened, seen
from gkd.train.processes import launch
from gkd.train.resume import fingerprint
from gkd.train.run import Run
from gkd.train.schedules import cosine, parameter_groups

# Of the published code, for `distil_folder`; params.yaml says all of it.
PUBLISHED = {
    "min_lr": 0.0,
    "weight_decay": 0.05,
    "warmup_steps": 0,
    "scale": [0.08, 1.0],
    "mask_ratio": 0.5,
    "mask_probability": 0.5,
    "grad_checkpointing": False,
    "rand_augment": "rand-m9-mstd0.5-inc1",
    "erase_probability": 0.25,
    "repeats": 1,
}


def distil(
    student: Encoder, teacher: Encoder, objective: nn.Module, data: Any, section: Distillation, run: Run
) -> pd.DataFrame:
    """Train `student` and `objective` in place to follow `teacher` on the images of `data`; returns the history.

    The teacher is frozen and in eval mode; in bf16, a copy of it runs. The heads (gkd.methods) learn too. `data[i]` is
    (uint8 image (H, W, 3), label or None), whose label is not looked at. With `section.pool`, that many views are drawn
    and shown to the teacher once, at the start, and each step takes of these (gkd.train.pool).
    """
    teacher.requires_grad_(False).eval()
    if run.processes > 1:
        launch(run, distil, student=student, teacher=teacher, objective=objective, data=data, section=section)
        return finished(run.slot, [student, objective])
    rows, columns = student.grid(section.image_size)
    teacher.grid(section.image_size)  # found by a trial pass and kept, by the copy as well
    accelerator = engine()
    dtype = resolve(run.compute.precision, accelerator.device)
    # Copied before it is moved: where a copy is made, the device holds it alone.
    frozen = frozen_copy(teacher, dtype).to(accelerator.device)

    def step(number: int, batch: Any, share: Share) -> tuple[Tensor, dict[str, Tensor]]:
        images, asked, mask = batch, frozen, None
        if section.pool is not None:
            images, asked = batch["images"].float(), Remembered(frozen, opened(batch, dtype))
        if section.mask_probability:
            mask = step_mask(section, rows * columns, run.seed, number)[share.rows].to(images.device)
        return distillation_step(student, asked, objective, images, mask)

    def views(draw: Draw) -> Iterable[Tensor]:
        return loader(data, DistillationView(section), draw)

    def ask(images: Tensor) -> dict[str, Tensor]:
        images, blocks = kept(images.to(accelerator.device)), getattr(objective, "teacher_blocks", ())
        with torch.no_grad(), nullcontext() if dtype == torch.float32 else torch.autocast(images.device.type, dtype):
            shown = images.float()
            tokens, maps = frozen.forward_with_blocks(shown, blocks) if blocks else (frozen(shown), {})
        said = {**tokens._asdict(), **{f"block {number}": block for number, block in maps.items()}}
        return {"images": images, **{name: kept(part) for name, part in said.items()}}

    def batches(start: int) -> Iterable[Any]:
        process = accelerator.process_index, accelerator.num_processes
        draw = Draw(section.steps, section.batch_size, run.seed, section.repeats, start, process)
        return seen(section, draw, views, ask, lambda count: torch.zeros(count, 3, *section.image_size), run.name)

    training = Training(
        step=step,
        modules=[student, objective],
        groups=parameter_groups([student, objective], section.lr, section.weight_decay),
        batches=batches,
        steps=section.steps,
        schedule=cosine(section.steps, section.lr, section.min_lr, section.warmup_steps),
        micro_batch=section.micro_batch,
    )
    with checkpointed(student, section.grad_checkpointing), compiled([student, frozen], run.compute.compile):
        history = fit(training, run, accelerator, dtype)
    for module in (student, objective, teacher):  # beside each other, for who looks at both
        module.to(accelerator.device)
    return history


class Remembered(NamedTuple):
    """Stands for the teacher in a step: what it said of the step's images when the pool was filled."""

    teacher: Encoder
    said: dict[str, Tensor]

    def __call__(self, images: Tensor) -> Tokens:
        return Tokens(self.said["cls"], self.said["patches"])

    def forward_with_blocks(self, images: Tensor, blocks: Sequence[int]) -> tuple[Tokens, dict[int, Tensor]]:
        return self(images), {block: self.said[f"block {block}"] for block in blocks}

    def grid(self, size: Sequence[int]) -> tuple[int, int]:
        return self.teacher.grid(size)


def distil_folder(
    student: nn.Module,
    teacher: nn.Module,
    folder: str | Path,
    steps: int,
    objective: nn.Module | None = None,
    run: Run | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Distil one timm model into another on a folder of images, without params.yaml; returns the history.

    Args:
        student, teacher: timm models or Encoders, in fp32. The student learns in place; its batch norm keeps running
            statistics that it was trained with, and a classifier stays as it is.
        folder: image files, at any depth, or tar files of them.
        objective: the heads; None = those of GKD, which are thrown away.
        run: seed, number format, processes. Its states serve an equal call alone, on models as they were at its start:
            after an interrupt in a notebook, build them anew and repeat the call, which continues.
        options: other keys of gkd.params.Distillation; by default batches of 64, the published learning rate for
            them, and images of the size that the student was built for.
    """
    own, other = _encoder(student), _encoder(teacher)
    everything = replace(PROXY, places=PROXY.places[-1:])  # a folder named train/ may be a class of photos
    data = SegmentationData(tuple(everything.find(Path(folder), "train")), label_space="")
    run = run or Run("distillation")
    size = getattr(getattr(own.backbone, "patch_embed", None), "img_size", None)
    size = size or resolve_data_config({}, model=own.backbone)["input_size"][-2:]
    options = {"batch_size": 64, "image_size": list(size), **options}
    options = {key: list(value) if isinstance(value, tuple) else value for key, value in options.items()}
    section = Distillation(**{**PUBLISHED, "steps": steps, "lr": 5e-4 * options["batch_size"] / 512, **options})
    for name, encoder in (("student", own), ("teacher", other)):
        _try(name, encoder, section.image_size)
    if objective is None:
        torch.manual_seed(run.seed)
        objective = Objective(own.dim, other.dim)
    if run.resume is not None:
        said = f"{section.model_dump_json()} {run.seed} {run.compute.model_dump_json()} {Path(folder).resolve()}"
        run = run.part(fingerprint(said, own, other, objective))
    return distil(own, other, objective, data, section, run)


def _encoder(module: nn.Module) -> Encoder:
    """`module`, or a timm model with the pixel statistics of its pretraining."""
    if isinstance(module, Encoder):
        return module
    if not hasattr(module, "forward_features"):
        raise TypeError(f"expected a timm model or a gkd.models.Encoder, got {type(module).__name__}")
    statistics = resolve_data_config({}, model=module)
    encoder = Encoder(module, statistics["mean"], statistics["std"])
    # A model that was never trained has none to keep, and would not be normalised at all.
    kept = (m.running_mean for m in _batch_norms(encoder) if m.running_mean is not None)
    encoder.keep_statistics = any(bool((mean != 0).any()) for mean in kept)
    return encoder


def _batch_norms(module: nn.Module) -> list[nn.Module]:
    return [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


@torch.no_grad()
def _try(name: str, encoder: Encoder, size: Sequence[int]) -> None:
    """Raises ValueError, which says whose fault it is, where images of this size or fp32 do not fit."""
    other = {p.dtype for p in encoder.parameters()} - {torch.float32}
    if other:
        raise ValueError(f"{name}: expected weights in float32, found {other.pop()}; call .float() on it")
    try:
        encoder.eval()(torch.zeros(1, 3, *size, device=next(encoder.parameters()).device))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


@contextmanager
def checkpointed(encoder: Encoder, wanted: bool = True) -> Iterator[None]:
    """While it lasts, timm's gradient checkpointing: blocks run again in the backward pass, for less memory.

    Raises ValueError where the model has none, or batch statistics, which would count twice.
    """
    if wanted:
        name = type(encoder.backbone).__name__
        if _batch_norms(encoder) and not encoder.keep_statistics:
            raise ValueError(f"grad_checkpointing: batch statistics of {name} would count twice; use micro_batch")
        try:
            encoder.backbone.set_grad_checkpointing(True)
        except (AttributeError, AssertionError) as error:  # AssertionError: timm's word
            raise ValueError(f"grad_checkpointing: timm has none for {name}; use micro_batch") from error
    try:
        yield
    finally:
        if wanted:
            encoder.backbone.set_grad_checkpointing(False)


def step_mask(section: Distillation, patches: int, seed: int, step: int) -> Tensor:
    """The mask (B, N) of one global batch: follows the seed and the step, not the worker or the process."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    return draw_mask(section.batch_size, patches, section.mask_ratio, section.mask_probability, generator)


def preview(data: Any, section: Distillation, student: Encoder, seed: int) -> tuple[Tensor, Tensor]:
    """The first batch of a run: views (B, 3, H, W) and their mask (B, N). For pictures; training is not touched.

    With a pool, its first views, which the steps see in another order.
    """
    rows, columns = student.grid(section.image_size)
    draw = Draw(1, section.batch_size, seed, section.repeats)
    (views,) = loader(data, DistillationView(section), draw)
    return views, step_mask(section, rows * columns, seed, 0)
