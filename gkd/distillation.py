"""Distillation runs: what the task-agnostic and domain-agnostic stages do, and no labels anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from gkd.baselines import LinearHead
from gkd.blocks import BlockPair
from gkd.compiling import compiled
from gkd.launching import launch
from gkd.loading import loader
from gkd.methods import Method
from gkd.models import Encoder
from gkd.params import Compute, Distillation, Heads
from gkd.precision import frozen_copy, resolve
from gkd.qsd import QSD, Objective, distillation_step
from gkd.recompute import recomputing
from gkd.resume import Slot
from gkd.sharding import sharded_copy
from gkd.training import Share, cosine, engine, finished, fit, parameter_groups
from gkd.transforms import DistillationView, draw_mask

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
    student: Encoder,
    teacher: Encoder,
    objective: Objective,
    data: Any,
    section: Distillation,
    seed: int,
    name: str,
    slot: Slot | None = None,
    processes: int = 1,
    others: Mapping[str, Encoder] | None = None,
    compute: Compute = Compute(),  # noqa: B008 - immutable
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
        others: further teachers, by the names of `objective.others`; frozen as well.
        compute: number format, compiled blocks, fused optimiser, spread teachers. In bf16, copies of the teachers are
            made that have it.
    """
    if processes > 1:
        run = student, teacher, objective, data, section, seed, name, slot
        launch(processes, slot, distil, *run, 1, others, compute)
        return finished(slot, [student, objective])
    others = others or {}
    rows, columns = student.grid(section.image_size)
    accelerator = engine()
    dtype = resolve(compute.precision, accelerator.device)
    originals = [encoder.requires_grad_(False).eval() for encoder in (teacher, *others.values())]
    for encoder in originals:
        encoder.grid(section.image_size)  # found by a trial pass, which a sharded copy could not do
    # Copied before they are moved: where a copy is made, the device holds it alone.
    used = (frozen_copy(encoder, dtype) for encoder in originals)
    if compute.sharding == "teacher":
        used = (sharded_copy(encoder, accelerator.device.type) for encoder in used)
    teacher, *rest = (encoder.to(accelerator.device) for encoder in used)
    others = dict(zip(others, rest, strict=True))

    def step(number: int, images: Tensor, share: Share) -> tuple[Tensor, dict[str, Tensor]]:
        mask = step_mask(section, rows * columns, seed, number)[share.rows]
        return distillation_step(student, teacher, objective, images, mask.to(images.device), others)

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
    run = section.steps, schedule, name, accelerator, slot, section.micro_batch, dtype, compute.fused_adamw
    with recomputing(student, section.recompute), compiled([student, teacher, *rest], compute.compile):
        history = fit(step, [student, objective], groups, batches, *run)
    # Beside each other, for who looks at both; the whole of a teacher that was spread may not fit on the device.
    place = "cpu" if compute.sharding == "teacher" else accelerator.device
    for module in (student, objective, *originals):
        module.to(place)
    return history


def preview(data: Any, section: Distillation, student: Encoder, seed: int) -> tuple[Tensor, Tensor]:
    """The first batch of a run: views (B, 3, H, W) and their mask (B, N). For pictures; training is not touched."""
    rows, columns = student.grid(section.image_size)
    views = loader(
        data, DistillationView(section), 1, section.batch_size, seed, labelled=False, repeats=section.repeats
    )
    return next(iter(views)), step_mask(section, rows * columns, seed, 0)
