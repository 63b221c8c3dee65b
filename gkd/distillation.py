"""Distillation runs: what the task-agnostic and domain-agnostic stages do, and no labels anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from gkd.data.loading import Draw, loader
from gkd.data.transforms import DistillationView, draw_mask
from gkd.methods.baselines import LinearHead
from gkd.methods.table import Method
from gkd.models import Encoder
from gkd.models.blocks import BlockPair
from gkd.models.recompute import recomputing
from gkd.params import Distillation, Heads
from gkd.qsd import QSD, Objective, distillation_step
from gkd.train.compute import compiled, frozen_copy, resolve
from gkd.train.loop import Share, Training, engine, finished, fit
from gkd.train.processes import launch
from gkd.train.run import Run
from gkd.train.schedules import cosine, parameter_groups

HEADS = {"qsd": QSD, "linear": LinearHead}


def build_objective(
    method: Method,
    student: Encoder,
    teacher: Encoder,
    options: Heads | None,
    seed: int,
    others: Mapping[str, Encoder] | None = None,
) -> Objective:
    """The heads of `method` for this student and teacher, initialised from `seed`.

    Args:
        method: the row of the table.
        student: encoder that learns.
        teacher: the encoder that it follows.
        options: what params.yaml states, on top of the method's own; None = nothing. `intermediate` concerns `teacher`
            alone: block numbers mean nothing to another architecture.
        seed: of the initial weights.
        others: further teachers, by name; each gets heads of its own, with the same options.

    Raises:
        ValueError: an option that plain regression does not have, or that does not fit an encoder.
    """
    options = options or Heads()
    given = {**method.head_options, **options.given}
    if method.head == "linear" and (wrong := sorted(set(given) - {"weights"})):
        raise ValueError(f"heads.{method.name}.{wrong[0]}: plain regression has no such option")
    head = HEADS[method.head]
    pair, blocks = options.intermediate, {}
    if pair is not None:
        dims = (
            _block_dim(e, getattr(pair, who), f"heads.{method.name}.intermediate.{who}")
            for e, who in ((student, "student"), (teacher, "teacher"))
        )
        blocks = {"blocks": BlockPair(pair.student, pair.teacher, *dims), "block_weight": pair.weight}
    torch.manual_seed(seed)
    objective = Objective(student.dim, teacher.dim, head, **given, **blocks)
    for name, other in (others or {}).items():
        objective.others[name] = Objective(student.dim, other.dim, head, **given)
    return objective


def _block_dim(encoder: Encoder, block: int, key: str) -> int:
    try:
        return encoder.intermediate_dims([block])[0][0]
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error


def step_mask(section: Distillation, patches: int, seed: int, step: int) -> Tensor:
    """The mask (B, N) of one global batch: follows the seed and the step, not the worker or the process."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    return draw_mask(section.batch_size, patches, section.mask_ratio, section.mask_probability, generator)


def distil(
    student: Encoder, teacher: Encoder, objective: Objective, data: Any, section: Distillation, run: Run
) -> pd.DataFrame:
    """Train `student` and `objective` to follow `teacher` on the images of `data`; returns the history.

    Args:
        student: learns in place.
        teacher: frozen, in eval mode.
        objective: the heads, learn in place.
        data: `data[i]` -> (uint8 image (H, W, 3), label or None); labels are not looked at.
        section: parameters of the stage.
        run: name, seed of data order, augmentation and masks, states, processes, and how it computes. In bf16, a copy
            of the teacher is made that has it.
    """
    if run.processes > 1:
        launch(run, distil, student=student, teacher=teacher, objective=objective, data=data, section=section)
        return finished(run.slot, [student, objective])
    rows, columns = student.grid(section.image_size)
    accelerator = engine()
    dtype = resolve(run.compute.precision, accelerator.device)
    original = teacher.requires_grad_(False).eval()
    # Copied before it is moved: where a copy is made, the device holds it alone.
    teacher = frozen_copy(original, dtype).to(accelerator.device)

    def step(number: int, images: Tensor, share: Share) -> tuple[Tensor, dict[str, Tensor]]:
        mask = step_mask(section, rows * columns, run.seed, number)[share.rows]
        return distillation_step(student, teacher, objective, images, mask.to(images.device))

    def batches(start: int) -> Iterable[Any]:
        process = accelerator.process_index, accelerator.num_processes
        draw = Draw(section.steps, section.batch_size, run.seed, section.repeats, start, process)
        return loader(data, DistillationView(section), draw, labelled=False)

    training = Training(
        step=step,
        modules=[student, objective],
        groups=parameter_groups([student, objective], section.lr, section.weight_decay),
        batches=batches,
        steps=section.steps,
        schedule=cosine(section.steps, section.lr, section.min_lr, section.warmup_steps),
        micro_batch=section.micro_batch,
    )
    with recomputing(student, section.recompute), compiled([student, teacher], run.compute.compile):
        history = fit(training, run, accelerator, dtype)
    for module in (student, objective, original):  # beside each other, for who looks at both
        module.to(accelerator.device)
    return history


def preview(data: Any, section: Distillation, student: Encoder, seed: int) -> tuple[Tensor, Tensor]:
    """The first batch of a run: views (B, 3, H, W) and their mask (B, N). For pictures; training is not touched."""
    rows, columns = student.grid(section.image_size)
    views = loader(data, DistillationView(section), Draw(1, section.batch_size, seed, section.repeats), labelled=False)
    return next(iter(views)), step_mask(section, rows * columns, seed, 0)
