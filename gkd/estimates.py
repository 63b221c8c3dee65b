"""GPU hours and memory of the rows of a preset: estimates from counted FLOPs. No GPU was measured.

    table = stages(load("paper"), ["gkd"])       # a row for each stage, method and source
    table = estimate(table, GPUS["A100"])        # adds hours on that GPU and memory on each

hours = FLOPs / (peak of the GPU in the number format x utilisation). Loading is taken to keep up, evaluation and the
start of stages are not in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import nn

from gkd.counting import Cost, count_distillation, count_task
from gkd.datasets import catalogue
from gkd.distillation import build_objective
from gkd.methods.table import METHODS, Method
from gkd.models import Encoder
from gkd.params import Distillation, EncoderSpec, Params
from gkd.segmentation.decoders import Segmentor, build_decoder


@dataclass(frozen=True)
class Gpu:
    """Peak TFLOP/s in bf16 (tensor cores, dense, fp32 accumulation) and in fp32 (without TF32, torch's default)."""

    name: str
    bf16: float
    fp32: float

    def hours(self, flops: float, dtype: str, utilisation: float) -> float:
        """Hours that `flops` take at a share of the peak."""
        return flops / (getattr(self, dtype) * 1e12 * utilisation) / 3600


# NVIDIA A100 Tensor Core GPU data sheet; NVIDIA Ada GPU architecture whitepaper, appendix A (GeForce RTX 4090).
GPUS = {gpu.name: gpu for gpu in (Gpu("A100", 312, 19.5), Gpu("RTX 4090", 165.2, 82.6))}


@dataclass(frozen=True)
class Assumptions:
    """What the estimates take for granted.

    Attributes:
        utilisation: share of the GPU's peak that a step reaches.
        precision: number format of distillation; task learning is fp32.
        gpus: by stage; memory is that of each.
    """

    utilisation: float = 0.35
    precision: str = "bf16"
    gpus: dict[str, int] = field(
        default_factory=lambda: {"task_agnostic": 4, "domain_agnostic": 4, "task_learning": 1}  # as published
    )


def stages(params: Params, methods: Sequence[str] | None = None, given: Assumptions | None = None) -> pd.DataFrame:
    """Steps, FLOPs and bytes of every stage of a preset.

    Args:
        params: the preset; all of its sources are in.
        methods: names of rows; None = those of the preset's plan.
        given: number format and GPUs.

    Returns:
        A row for each stage: preset, setting, method, stage, source ("all" for task-agnostic distillation, which
        sources share), dtype, images, part columns in GFLOPs an image, FLOPs, gpus, bytes (a GPU).

    Raises:
        ValueError: the preset has several teachers.
    """
    given = given or Assumptions()
    if params.models.extra_teachers:
        raise ValueError(f"{params.profile}: estimates know one teacher, not models.extra_teachers")
    rows: list[dict[str, Any]] = []
    for setting in params.plan.settings:
        models = _Models(params, setting)
        for name in params.plan.methods if methods is None else methods:
            row = {"preset": params.profile, "setting": setting, "method": name}
            for stage in _distillation(params, models, METHODS[name], given) + _task(params, models, METHODS[name]):
                gpus = given.gpus[stage["stage"]]
                cost, fixed = stage.pop("cost"), stage.pop("fixed")
                share = stage.pop("batch") // gpus
                parts = {part: value / 1e9 for part, value in cost.flops.items() if value}
                memory = fixed + cost.constant + cost.activations * share
                flops = stage["images"] * cost.total
                rows.append({**row, **stage, "flops": flops, "gpus": gpus, "bytes": memory, **parts})
    return pd.DataFrame(rows)


def estimate(table: pd.DataFrame, gpu: Gpu, given: Assumptions | None = None) -> pd.DataFrame:
    """`table` of `stages` with a column of GPU hours, named after the GPU; an estimate."""
    given = given or Assumptions()
    hours = [gpu.hours(row.flops, row.dtype, given.utilisation) for row in table.itertuples()]
    return table.assign(**{f"{gpu.name} hours": hours})


def totals(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Sums of `columns` for each row and source; what sources share is in each of them."""
    rows = []
    for keys, row in table.groupby(["preset", "setting", "method"], sort=False):
        for source in [s for s in row["source"].unique() if s != "all"]:
            own = row[row["source"].isin(["all", source])]
            who = dict(zip(("preset", "setting", "method"), keys, strict=True))
            rows.append({**who, "source": source, **own[list(columns)].sum(), "bytes": own["bytes"].max()})
    return pd.DataFrame(rows)


class _Models:
    """Encoders of a setting as shapes."""

    def __init__(self, params: Params, setting: str) -> None:
        self.setting = setting
        self.specs = {"teacher": params.models.teacher, "student": params.models.students[setting]}
        self.teacher, self.student = (_shapes(spec) for spec in self.specs.values())
        self.task: dict[tuple[str, bool, bool], tuple[Cost, int]] = {}  # what methods share is counted once


def _shapes(spec: EncoderSpec) -> Encoder:
    with torch.device("meta"):
        return Encoder.create(spec.name, **spec.options)


def _distillation(params: Params, models: _Models, method: Method, given: Assumptions) -> list[dict[str, Any]]:
    if not method.distils:
        return []
    student, teacher = models.student.requires_grad_(), models.teacher.requires_grad_(False).eval()
    with torch.device("meta"):
        objective = build_objective(method, student, teacher, params.heads.get(method.name), seed=0)
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[given.precision]
    fixed = _trained(student, objective) + _held(teacher, 2 if given.precision == "bf16" else 4)
    count = partial(count_distillation, student, teacher, objective, dtype=dtype)

    def stage(name: str, source: str, section: Distillation, cost: Cost) -> dict[str, Any]:
        what = {"stage": name, "source": source, "dtype": given.precision, "batch": section.batch_size}
        return {**what, "images": section.steps * section.batch_size, "cost": cost, "fixed": fixed}

    found = []
    if models.setting == "f2l":
        section = params.task_agnostic
        cost = count(section.image_size, masked=section.mask_probability)
        found.append(stage("task_agnostic", "all", section, cost))
    section = params.domain_agnostic
    cost = count(section.image_size, masked=section.mask_probability)
    return found + [stage("domain_agnostic", s, section.for_source(s), cost) for s in params.plan.sources]


def _task(params: Params, models: _Models, method: Method) -> list[dict[str, Any]]:
    section = params.task_learning.for_method(method.distils)
    key = method.encoder, method.frozen, method.guided
    if key not in models.task:
        models.task[key] = _task_cost(params, models, method)
    cost, fixed = models.task[key]
    what = {"stage": "task_learning", "dtype": "fp32", "batch": section.batch_size, "cost": cost, "fixed": fixed}
    return [{**what, "source": s, "images": section.steps * section.batch_size} for s in params.plan.sources]


def _task_cost(params: Params, models: _Models, method: Method) -> tuple[Cost, int]:
    """Of the source with most classes, which the last layers alone depend on; and bytes of all weights."""
    known = catalogue(params).sources
    section, classes = params.task_learning, max(len(known[source].classes) for source in params.plan.sources)
    model = _segmentor(params, models, method.encoder, classes, method.frozen)
    guide = _segmentor(params, models, "teacher", classes, True) if method.guided else None
    cost = count_task(model, section.crop, classes, guide)
    held = [part for part in (model.encoder if method.frozen else None, guide) if part is not None]
    trained = _trained(model.decoder, *([] if method.frozen else [model.encoder])) * len(section.lrs)
    return _candidates(cost, len(section.lrs), method.frozen), sum(map(_held, held)) + trained


def _candidates(cost: Cost, count: int, frozen: bool) -> Cost:
    """Learning rates are tried side by side: the teacher and a frozen encoder run once for all."""
    once = ("teacher", "student, forward") if frozen else ("teacher",)
    flops = {part: value * (1 if part in once else count) for part, value in cost.flops.items()}
    return Cost(flops, cost.activations * count, cost.constant)


def _segmentor(params: Params, models: _Models, who: str, classes: int, frozen: bool) -> Segmentor:
    encoder = getattr(models, who)
    return Segmentor(encoder, build_decoder(params.models, encoder, classes, models.specs[who].blocks), frozen)


def _trained(*modules: nn.Module) -> int:
    """Bytes of weights, gradients and AdamW's two moments, all fp32."""
    return sum(16 * p.numel() for module in modules for p in module.parameters())


def _held(module: nn.Module, width: int = 4) -> int:
    """Bytes of frozen weights of `width` bytes each."""
    return sum(width * p.numel() for p in module.parameters())
