"""Distillation runs: what the task-agnostic and domain-agnostic stages do, and no labels anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from gkd.cache import TeacherCache
from gkd.data.loading import loader
from gkd.data.transforms import DistillationView, draw_mask
from gkd.methods.baselines import LinearHead
from gkd.methods.table import Method
from gkd.models import Encoder
from gkd.models.blocks import BlockPair
from gkd.models.recompute import recomputing
from gkd.params import Compute, Distillation, Heads
from gkd.qsd import QSD, Objective, Targets, distillation_step, teach
from gkd.train.compiling import compiled
from gkd.train.loop import Share, cosine, engine, finished, fit, parameter_groups
from gkd.train.precision import autocast, frozen_copy, resolve
from gkd.train.processes import launch
from gkd.train.resume import Slot
from gkd.train.sharding import sharded_copy

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
    cache: Path | None = None,
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
        cache: folder of the teacher tokens of `data`, for a section whose `teacher_cache` stores any.

    Raises:
        ValueError: the section stores teacher tokens, and there is no folder for them, or the teacher is spread.
    """
    if processes > 1:
        run = student, teacher, objective, data, section, seed, name, slot
        launch(processes, slot, distil, *run, 1, others, compute, cache)
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

    def ask(images: Tensor) -> Targets:
        with autocast(images.device, dtype):
            return teach(teacher, objective, images, others)

    stored = None
    if section.teacher_cache is not None and section.teacher_cache.store != "none":
        if cache is None:
            raise ValueError("teacher_cache: a folder for the teacher's tokens is needed, such as space.cache(name)")
        if compute.sharding == "teacher":  # its processes run it together, and each misses other tokens
            raise ValueError("teacher_cache: a teacher whose tokens are stored cannot be spread; set sharding to none")
        teachers = [teacher, *others.values()]
        stored = TeacherCache(cache, section, seed, len(data), ask, teachers, accelerator.device)

    def step(number: int, batch: Any, share: Share) -> tuple[Tensor, dict[str, Tensor]]:
        images, *records = batch if stored else [batch]
        mask = step_mask(section, rows * columns, seed, number)[share.rows]
        targets, errors = stored.targets(images, *records) if stored else (None, {})
        loss, metrics = distillation_step(student, teacher, objective, images, mask.to(images.device), others, targets)
        return loss, {**metrics, **errors}

    def batches(start: int) -> Iterable[Any]:
        return _loader(
            data,
            section,
            section.steps,
            seed,
            start=start,
            process=(accelerator.process_index, accelerator.num_processes),
            beside=stored.read if stored else None,
        )

    groups = parameter_groups([student, objective], section.lr, section.weight_decay)
    schedule = cosine(section.steps, section.lr, section.min_lr, section.warmup_steps)
    run = section.steps, schedule, name, accelerator, slot, section.micro_batch, dtype, compute.fused_adamw
    with recomputing(student, section.recompute), compiled([student, teacher, *rest], compute.compile):
        history = fit(step, [student, objective], groups, batches, *run)
    if stored:
        print(f"{name}  {stored.summary()}", flush=True)
    # Beside each other, for who looks at both; the whole of a teacher that was spread may not fit on the device.
    place = "cpu" if compute.sharding == "teacher" else accelerator.device
    for module in (student, objective, *originals):
        module.to(place)
    return history


def preview(data: Any, section: Distillation, student: Encoder, seed: int) -> tuple[Tensor, Tensor]:
    """The first batch of a run: views (B, 3, H, W) and their mask (B, N). For pictures; training is not touched."""
    rows, columns = student.grid(section.image_size)
    return next(iter(_loader(data, section, 1, seed))), step_mask(section, rows * columns, seed, 0)


def _loader(data: Any, section: Distillation, steps: int, seed: int, **options: Any) -> Iterable[Any]:
    """Batches of views of `data`, as the section has them; `options` are those of gkd.data.loading.loader."""
    pool = section.teacher_cache.views if section.teacher_cache else None
    view, options = DistillationView(section), {"repeats": section.repeats, "pool": pool, **options}
    return loader(data, view, steps, section.batch_size, seed, labelled=False, **options)
