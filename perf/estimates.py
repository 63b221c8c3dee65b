"""FLOPs, GPU hours and memory of the rows of profiles, and FLOPs against tokens: estimates, from counts.

FLOPs are counted on the project's own steps without computing them (counting.py), so the numbers do not depend on the
machine. Hours are FLOPs over the peak of a GPU times a utilisation, memory is weights, AdamW, teacher and counted
activations: no GPU was measured. Loading is taken to keep up; evaluation and the start of stages are not in. `--check`
exits with 1 where the FLOPs of the ViT teacher or student are more than 2 % off the formula written out below.
"""

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from counting import Cost, count_distillation, count_task
from table import arguments, finish, show
from torch import nn

from gkd.datasets import catalogue
from gkd.methods import Row, check_options, objective
from gkd.methods import row as row_of
from gkd.models import Encoder
from gkd.params import ROOT, Distillation, EncoderSpec, Params, load
from gkd.qsd import Objective
from gkd.segmentation.decoders import Segmentor, build_decoder
from gkd.train import budget
from gkd.workspace.check import TEACHER

ROWS = (TEACHER, "none", "none_frozen", "kd", "gkd")
TOKENS, OFF = (256, 576, 1024, 2304, 4096), 0.02
PARTS = {"teacher": "teacher", "student": "student,", "heads": "QSD", "decoder": "decoder"}


# Peak TFLOP/s in bf16 (tensor cores, dense, fp32 accumulation) and in fp32 (without TF32, torch's default). NVIDIA A100
# Tensor Core GPU data sheet; NVIDIA Ada GPU architecture whitepaper, appendix A (GeForce RTX 4090).
GPUS = {"A100": {"bf16": 312, "fp32": 19.5}, "RTX 4090": {"bf16": 165.2, "fp32": 82.6}}


PUBLISHED = {"task_agnostic": 4, "domain_agnostic": 4, "task_learning": 1}  # GPUs


def stages(params: Params, methods: Sequence[str], gpus: Mapping[str, int] = PUBLISHED) -> pd.DataFrame:
    """Steps, FLOPs and bytes of every stage of a profile and its sources, for `methods`, on so many GPUs by stage.

    A row for each stage: profile, setting, method, stage, source ("all" for task-agnostic distillation, which sources
    share), dtype, images, part columns in GFLOPs an image, FLOPs, gpus, bytes (a GPU).

    Raises:
        ValueError: no row is asked for.
    """
    if not methods:
        raise ValueError(
            f"{params.profile} has none of the rows asked for; it has {', '.join([TEACHER, *params.rows])}"
        )
    rows: list[dict[str, Any]] = []
    for setting in params.settings:
        models = _Models(params, setting)
        for name in methods:
            row = {"profile": params.profile, "setting": setting, "method": name}
            for stage in _distillation(params, models, row_of(name)) + _task(params, models, row_of(name)):
                count = gpus[stage["stage"]]
                cost, fixed = stage.pop("cost"), stage.pop("fixed")
                share = stage.pop("batch") // count
                parts = {part: value / 1e9 for part, value in cost.flops.items() if value}
                memory = fixed + cost.constant + cost.activations * share
                flops = stage["images"] * cost.total
                rows.append({**row, **stage, "flops": flops, "gpus": count, "bytes": memory, **parts})
    return pd.DataFrame(rows)


def with_hours(table: pd.DataFrame, utilisation: float) -> pd.DataFrame:
    """`table` of `stages` with a column of hours for each GPU, of whose peak a step reaches that share."""
    for gpu, peak in GPUS.items():
        hourly = 3600 * 1e12 * utilisation * table["dtype"].map(peak)  # FLOPs
        table = table.assign(**{f"{gpu} hours": table["flops"] / hourly})
    return table


def totals(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Sums of `columns` for each row and source; what sources share is in each of them."""
    rows = []
    for keys, row in table.groupby(["profile", "setting", "method"], sort=False):
        for source in [s for s in row["source"].unique() if s != "all"]:
            own = row[row["source"].isin(["all", source])]
            who = dict(zip(("profile", "setting", "method"), keys, strict=True))
            rows.append({**who, "source": source, **own[list(columns)].sum(), "bytes": own["bytes"].max()})
    return pd.DataFrame(rows)


class _Models:
    """Encoders of a setting as shapes."""

    def __init__(self, params: Params, setting: str) -> None:
        self.setting = setting
        self.specs = {"teacher": params.models.teacher, "student": params.student(setting)}
        self.teacher, self.student = (_shapes(spec) for spec in self.specs.values())
        self.task: dict[tuple[str, bool, bool], tuple[Cost, int]] = {}  # what methods share is counted once


def _shapes(spec: EncoderSpec) -> Encoder:
    with torch.device("meta"):
        return Encoder.create(spec.name, **spec.options)


def _distillation(params: Params, models: _Models, method: Row) -> list[dict[str, Any]]:
    if not method.distils:
        return []
    student, teacher = models.student.requires_grad_(), models.teacher.requires_grad_(False).eval()
    with torch.device("meta"):
        heads = objective(method.name, student, teacher, params.heads.get(method.name), seed=0)
    fixed = _trained(student, heads) + _held(teacher, 2)
    count = partial(count_distillation, student, teacher, heads, dtype=torch.bfloat16)

    def stage(name: str, source: str, section: Distillation, cost: Cost) -> dict[str, Any]:
        what = {"stage": name, "source": source, "dtype": "bf16", "batch": section.batch_size}
        return {**what, "images": section.steps * section.batch_size, "cost": cost, "fixed": fixed}

    first, found = budget.task_agnostic(params, models.setting, method.name), []
    if first.steps:
        found = [stage("task_agnostic", "all", first, count(first.image_size, masked=first.mask_probability))]
    cost = count(params.domain_agnostic.image_size, masked=params.domain_agnostic.mask_probability)
    sections = {source: budget.domain_agnostic(params, source, method.name) for source in params.sources}
    return found + [stage("domain_agnostic", source, section, cost) for source, section in sections.items()]


def _task(params: Params, models: _Models, method: Row) -> list[dict[str, Any]]:
    check_options(method.name, params.heads.get(method.name, {}))
    section = budget.task_learning(params, method.name, method.distils)
    key = method.name == TEACHER, method.frozen, method.guided
    if key not in models.task:
        models.task[key] = _task_cost(params, models, method)
    cost, fixed = models.task[key]
    what = {"stage": "task_learning", "dtype": "fp32", "batch": section.batch_size, "cost": cost, "fixed": fixed}
    return [{**what, "source": s, "images": section.steps * section.batch_size} for s in params.sources]


def _task_cost(params: Params, models: _Models, method: Row) -> tuple[Cost, int]:
    """Of the source with most classes, which the last layers alone depend on; and bytes of all weights."""
    section, known = params.task_learning, catalogue(params)
    who = TEACHER if method.name == TEACHER else "student"
    classes = max(len(known.sources[source].classes) for source in params.sources)
    model = _segmentor(params, models, who, classes, method.frozen)
    guide = _segmentor(params, models, TEACHER, classes, True) if method.guided else None
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


def vit_forward(tokens: int, dim: int, depth: int, patch: int = 16) -> int:
    """FLOPs of a ViT with a class token, an image: patch embedding, then 24 T C^2 + 4 T^2 C a block."""
    t = tokens + 1
    return 2 * tokens * 3 * patch**2 * dim + depth * (24 * t * dim**2 + 4 * t**2 * dim)


def against_tokens(tokens: int, pool: int) -> Cost:
    """ViT-B to ViT-S, one plain view and no masked one, as in perf/curves.py."""
    size = 16 * math.isqrt(tokens)
    with torch.device("meta"):
        student, teacher = (Encoder.create(f"vit_{name}_patch16_224", img_size=size) for name in ("small", "base"))
        objective = Objective(student.dim, teacher.dim, pool=pool)
    teacher.requires_grad_(False).eval()
    return count_distillation(student, teacher, objective, (size, size), masked=0)


def token_table(tokens: list[int]) -> tuple[list[dict], list[str]]:
    """Rows of GFLOPs an image, and what is off the formula."""
    rows, off = [], []
    for count in tokens:
        full, light = against_tokens(count, 1), against_tokens(count, 2)
        for part, dim in (("teacher", 768), ("student, forward", 384)):
            wanted = vit_forward(count, dim, 12)
            if abs(full.flops[part] / wanted - 1) > OFF:
                off.append(f"{part} at {count} tokens: {full.flops[part]:.4g} FLOPs counted, {wanted:.4g} by hand")
        row = {name: _part(full.flops, start) / 1e9 for name, start in PARTS.items() if name != "decoder"}
        row |= {"light heads": _part(light.flops, PARTS["heads"]) / 1e9, "total": full.total / 1e9}
        rows.append({"tokens": count, **row, "activations": full.activations / 1e9})
    for row, before in zip(rows[1:], rows, strict=False):
        ratio = math.log(row["tokens"] / before["tokens"])
        row["exponent"] = math.log(row["total"] / before["total"]) / ratio
    return rows, off


def _part(flops: dict[str, float], start: str) -> float:
    return sum(value for name, value in flops.items() if name.startswith(start))


def titled(row: pd.Series) -> list[str]:
    """Hours on each GPU and memory as printed."""
    return [*(f"{row[f'{name} hours']:,.1f}" for name in GPUS), f"{row['bytes'] / 1e9:.1f}"]


def tokens_as_printed(rows: list[dict]) -> Iterator[list[str]]:
    for row in rows:
        parts = [f"{row[key]:,.1f}" for key in ("teacher", "student", "heads", "light heads", "total")]
        exponent = f"{row['exponent']:.2f}" if "exponent" in row else ""
        yield [f"{row['tokens']:,}", *parts, exponent, f"{row['activations']:.2f}"]


def stages_as_printed(table: pd.DataFrame) -> Iterator[list[str]]:
    for _, row in table.iterrows():
        work = f"{row['flops'] / row['images'] / 1e9:,.0f}", f"{row['images'] / 1e6:.2f}", f"{row['flops'] / 1e18:.2f}"
        *hours, memory = titled(row)
        yield [*row[["profile", "method", "stage", "source"]], *work, *hours, row["gpus"], memory]


def rows_as_printed(sums: pd.DataFrame) -> Iterator[list[str]]:
    for _, row in sums.iterrows():
        yield [*row[["profile", "method", "source"]], f"{row['flops'] / 1e18:.2f}", *titled(row)]


def main() -> int:
    parser = arguments(__doc__)
    paper = [ROOT / "profiles" / "paper.yaml"]
    parser.add_argument("--params", type=Path, nargs="*", default=paper, help="none: the table against tokens alone")
    parser.add_argument("--methods", nargs="+", default=list(ROWS), help="those that a profile does not have are left")
    parser.add_argument("--utilisation", type=float, default=0.35)
    parser.add_argument("--tokens", type=int, nargs="+", default=list(TOKENS), help="squares")
    options = parser.parse_args()
    tokens, off = token_table(options.tokens)
    print("GFLOPs an image, ViT-B to ViT-S, one view, forward and backward; GB of activations in fp32")
    heads = ["QSD heads", "light heads (pool 2)"]
    titles = ["tokens", "teacher", "student", *heads, "step", "exponent since the row above", "GB"]
    show(titles, tokens_as_printed(tokens))
    found, hours = [], [f"{name} hours" for name in GPUS]
    for params in map(load, options.params):
        table = stages(params, [name for name in options.methods if name in (TEACHER, *params.rows)])
        table = with_hours(table, options.utilisation)
        found.append((table, totals(table, ["flops", *hours])))
    if found:
        table, sums = (pd.concat(parts, ignore_index=True) for parts in zip(*found, strict=True))
        print(f"\nStages, estimates: utilisation {options.utilisation:.0%} of the peak")
        work = ["GFLOPs an image", "million images", "EFLOPs"]
        show(["profile", "row", "stage", "source", *work, *hours, "GPUs", "GB on each"], stages_as_printed(table))
        print("\nRows, estimates: all stages, GPU hours")
        show(["profile", "row", "source", "EFLOPs", *hours, "GB on each"], rows_as_printed(sums))
    stage_rows, sum_rows = ([json.loads(pair[i].to_json(orient="records")) for pair in found] for i in (0, 1))
    content = {"tokens": tokens, "stages": stage_rows, "rows": sum_rows}
    return finish(options, content, (f"off the formula: {line}" for line in off))


if __name__ == "__main__":
    sys.exit(main())
