"""Distillation runs: what the task-agnostic and domain-agnostic stages do, and no labels anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from gkd.baselines import LinearHead
from gkd.launching import launch
from gkd.loading import loader
from gkd.methods import Method
from gkd.models import Encoder
from gkd.params import Distillation
from gkd.qsd import QSD, Objective, distillation_step
from gkd.resume import Slot
from gkd.training import Share, cosine, engine, finished, fit, parameter_groups
from gkd.transforms import DistillationView, draw_mask

HEADS = {"qsd": QSD, "linear": LinearHead}


def build_objective(
    method: Method, student: Encoder, teacher: Encoder, options: dict[str, Any], seed: int
) -> Objective:
    """The heads of `method` for this pair, initialised from `seed`; `options` come on top of the method's own."""
    torch.manual_seed(seed)
    return Objective(student.dim, teacher.dim, HEADS[method.head], **{**method.head_options, **options})


def step_mask(section: Distillation, patches: int, seed: int, step: int) -> Tensor:
    """The mask (B, N) of one global batch: follows the seed and the step, not the worker or the process."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    return draw_mask(section.batch_size, patches, section.mask_ratio, section.mask_probability, generator)


def distil(
    student: Encoder,
    teacher: Encoder,
    objective: Objective,
    data: Any,
    section: Distillation,
    seed: int,
    name: str,
    slot: Slot | None = None,
    processes: int = 1,
) -> pd.DataFrame:
    """Train `student` and `objective` to follow `teacher` on the images of `data`; returns the history.

    Args:
        student: learns in place.
        teacher: frozen, in eval mode.
        objective: the heads, learn in place.
        data: `data[i]` -> (uint8 image (H, W, 3), label or None); labels are not looked at.
        section: parameters of the stage.
        seed: of data order, augmentation and masks.
        name: shown in the progress lines.
        slot: where states are kept while this runs, so that a killed run can continue.
        processes: started for the run, one a GPU where there are GPUs; more than one need a slot.
    """
    if processes > 1:
        launch(processes, distil, student, teacher, objective, data, section, seed, name, slot)
        return finished(slot, [student, objective])
    teacher.requires_grad_(False).eval()
    rows, columns = student.grid(section.image_size)
    accelerator = engine()
    teacher.to(accelerator.device)

    def step(number: int, images: Tensor, share: Share) -> tuple[Tensor, dict[str, Tensor]]:
        mask = step_mask(section, rows * columns, seed, number)[share.first : share.first + len(images)]
        return distillation_step(student, teacher, objective, images, mask.to(images.device))

    view = DistillationView(section)

    def batches(start: int) -> Iterable[Tensor]:
        return loader(
            data,
            view,
            section.steps,
            section.batch_size,
            seed,
            labelled=False,
            repeats=section.repeats,
            start=start,
            process=(accelerator.process_index, accelerator.num_processes),
        )

    groups = parameter_groups([student, objective], section.lr, section.weight_decay)
    schedule = cosine(section.steps, section.lr, section.min_lr, section.warmup_steps)
    modules, run = [student, objective], (section.steps, schedule, name, accelerator, slot, section.micro_batch)
    return fit(step, modules, groups, batches, *run)


def preview(data: Any, section: Distillation, student: Encoder, seed: int) -> tuple[Tensor, Tensor]:
    """The first batch of a run: views (B, 3, H, W) and their mask (B, N). For pictures; training is not touched."""
    rows, columns = student.grid(section.image_size)
    views = loader(
        data, DistillationView(section), 1, section.batch_size, seed, labelled=False, repeats=section.repeats
    )
    return next(iter(views)), step_mask(section, rows * columns, seed, 0)
