"""FLOPs, GPU hours and memory of the rows of Table 1 and F2F, and FLOPs against tokens: estimates, from counts.

python perf/estimates.py [--json FILE] [--check] [--presets NAME ...] [--methods NAME ...] [--utilisation SHARE]
                         [--tokens N ...]

FLOPs are counted on the project's own steps without computing them (gkd.counting), so the numbers do not depend on the
machine. Hours are FLOPs over the peak of a GPU times a utilisation, memory is weights, AdamW, teacher and counted
activations: no GPU was measured. `--check` exits with 1 where the FLOPs of the ViT teacher or student are more than 2 %
off the formula written out below.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import pandas as pd
import torch

from gkd.counting import Cost, count_distillation
from gkd.estimates import GPUS, Assumptions, estimate, stages, totals
from gkd.models import Encoder
from gkd.params import load
from gkd.qsd import Objective

PRESETS = ("paper-base", "paper", "paper-f2f-base", "paper-f2f")
METHODS = ("teacher", "none", "none-frozen", "kd", "gkd")
TOKENS, OFF = (256, 576, 1024, 2304, 4096), 0.02
PARTS = {"teacher": "teacher", "student": "student,", "heads": "QSD", "decoder": "decoder"}


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


def rows_of(preset: str, wanted: list[str], given: Assumptions) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The stages of a preset, and its rows: sums by method and source."""
    params = load(preset)
    methods = [m for m in wanted if m in params.plan.methods]
    if not methods:
        raise SystemExit(f"{preset} has none of the rows {', '.join(wanted)}; it has {', '.join(params.plan.methods)}")
    table = stages(params, methods, given)
    for gpu in GPUS.values():
        table = estimate(table, gpu, given)
    return table, totals(table, ["flops", *(f"{name} hours" for name in GPUS)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--presets", nargs="*", default=list(PRESETS), help="none: the table against tokens alone")
    parser.add_argument(
        "--methods", nargs="+", default=list(METHODS), help="those that a preset does not have are left"
    )
    parser.add_argument("--utilisation", type=float, default=Assumptions().utilisation)
    parser.add_argument("--tokens", type=int, nargs="+", default=list(TOKENS), help="squares")
    options = parser.parse_args()
    given = Assumptions(utilisation=options.utilisation)
    tokens, off = token_table(options.tokens)
    print("GFLOPs an image, ViT-B to ViT-S, one view, forward and backward; GB of activations in fp32")
    print(
        "| tokens | teacher | student | QSD heads | light heads (pool 2) | step | exponent since the row above | GB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in tokens:
        parts = " | ".join(f"{row[key]:,.1f}" for key in ("teacher", "student", "heads", "light heads", "total"))
        exponent = f"{row['exponent']:.2f}" if "exponent" in row else ""
        print(f"| {row['tokens']:,} | {parts} | {exponent} | {row['activations']:.2f} |", flush=True)
    found = [rows_of(preset, options.methods, given) for preset in options.presets]
    hours = " | ".join(f"{name} hours" for name in GPUS)
    print(f"\nStages, estimates: utilisation {given.utilisation:.0%} of the peak")
    print(
        f"| preset | row | stage | source | GFLOPs an image | million images | EFLOPs | {hours} | GPUs | GB on each |"
    )
    print("|---|---|---|---|---|---|---|" + "---|" * (len(GPUS) + 2))
    for table, _ in found:
        for _, row in table.iterrows():
            who = f"{row['preset']} | {row['method']} | {row['stage']} | {row['source']}"
            work = f"{row['flops'] / row['images'] / 1e9:,.0f} | {row['images'] / 1e6:.2f} | {row['flops'] / 1e18:.2f}"
            print(f"| {who} | {work} | {_hours(row)} | {row['gpus']} | {row['bytes'] / 1e9:.1f} |")
    print(f"\nRows, estimates: all stages, GPU hours\n| preset | row | source | EFLOPs | {hours} | GB on each |")
    print("|---|---|---|---|" + "---|" * (len(GPUS) + 1))
    for _, table in found:
        for _, row in table.iterrows():
            who = f"{row['preset']} | {row['method']} | {row['source']} | {row['flops'] / 1e18:.2f}"
            print(f"| {who} | {_hours(row)} | {row['bytes'] / 1e9:.1f} |")
    if options.json:
        parts = [[json.loads(table.to_json(orient="records")) for table in pair] for pair in found]
        content = {"tokens": tokens, "stages": [p[0] for p in parts], "rows": [p[1] for p in parts]}
        options.json.write_text(json.dumps(content, indent=2) + "\n")
    for line in off if options.check else []:
        print(f"off the formula: {line}", file=sys.stderr)
    return int(options.check and bool(off))


def _hours(row: pd.Series) -> str:
    return " | ".join(f"{row[f'{name} hours']:,.1f}" for name in GPUS)


if __name__ == "__main__":
    sys.exit(main())
