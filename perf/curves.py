"""Time and peak memory of a distillation step against tokens and against batch, with fitted exponents.

ViT-B to ViT-S of random weights, fp32: forward, backward and AdamW step. Tokens at batch 1 with full QSD and with light
QSD (pool 2), then batches at 256 tokens. Every point is a process of its own, so that its peak memory (above the loaded
weights) is its own. Time is the median of N steps after one of warm-up; where the first step takes over 10 s it counts
as one of them. By default no sample has a masked view, so that every point does the same work an image: with the
published half of the samples, batch 1 could not be compared. `--check` exits with 1 where time grows faster than
batch^1.1, or a point is missing.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from charts import power, power_curves
from profiling import medians, resident, spent, step_marks
from table import alone, arguments, finish, peak_memory, show

from gkd.models import Encoder
from gkd.params import ROOT
from gkd.qsd import Objective
from gkd.report.style import save

TOKENS, BATCHES, POOLS = (256, 576, 1024, 2304, 4096), (1, 2, 4, 8), {"full QSD": 1, "light QSD": 2}
LIMIT = 1.1  # exponent of time in batch
COUNTS = 10.0  # seconds from which a first step counts: what it does once is little beside that


def child(options: argparse.Namespace) -> None:
    """One point: median seconds, their parts, and bytes above the weights, as a line of JSON."""
    tokens, batch, pool = options.one
    size = 16 * math.isqrt(tokens)
    torch.manual_seed(0)
    student = Encoder.create(options.student, img_size=size).train()
    teacher = Encoder.create(options.teacher, img_size=size).requires_grad_(False).eval()
    objective = Objective(student.dim, teacher.dim, pool=pool)
    images, mask = torch.rand(batch, 3, size, size), torch.zeros(batch, tokens, dtype=torch.bool)
    mask[: int(batch * options.masked), ::2] = True
    loaded, steps, busy = resident(), [], []
    before = time.process_time()
    for marks in step_marks(student, teacher, objective, iter(lambda: (images, mask), None), lr=1e-4):
        steps.append(marks)
        busy.append(time.process_time() - before)
        warmup = int(sum(spent(steps[0]).values()) <= COUNTS)
        if len(steps) >= options.repeats + warmup:
            break
        before = time.process_time()
    steps, busy = steps[warmup:], busy[warmup:]
    seconds = statistics.median(sum(spent(marks).values()) for marks in steps)
    found = {"seconds": seconds, "cpu": statistics.median(busy), "steps": len(steps), "parts": medians(steps)}
    print(json.dumps({**found, "memory": peak_memory() - loaded, "weights": loaded}))


def point(tokens: int, batch: int, pool: int, options: argparse.Namespace) -> dict:
    """One point from a process of its own; empty where it failed, after its error was shown."""
    found = alone(__file__, "--one", tokens, batch, pool, threads=options.threads)
    taken = f"{found['seconds']:.2f} s" if found else "failed"
    print(f"  {tokens} tokens, batch {batch}, pool {pool}: {taken}", flush=True)
    return found or {}


def curves(options: argparse.Namespace) -> dict[str, dict[int, dict]]:
    """Points by curve and size; the batch curve shares its point at batch 1 with the first one."""
    found = {
        name: {tokens: point(tokens, 1, pool, options) for tokens in options.tokens} for name, pool in POOLS.items()
    }
    shared = found["full QSD"].get(options.batch_tokens)
    found["batch"] = {
        batch: shared if batch == 1 and shared is not None else point(options.batch_tokens, batch, 1, options)
        for batch in options.batches
    }
    return found


def exponents(found: dict[str, dict[int, dict]]) -> dict[str, dict[str, float]]:
    """Fitted over all points and over the upper half, of time and of memory; none where a point is missing."""
    fitted = {}
    for name, points in found.items():
        if all(points.values()) and len(points) > 1:
            times, memory = ({x: row[key] for x, row in points.items()} for key in ("seconds", "memory"))
            kinds = {"time": times, "memory": memory}
            fitted[name] = {kind: power(values) for kind, values in kinds.items()}
            fitted[name] |= {f"{kind}, upper half": power(values, upper=True) for kind, values in kinds.items()}
    return fitted


def missed(found: dict[str, dict[int, dict]], fitted: dict[str, dict[str, float]]) -> list[str]:
    """What `--check` is about, in words."""
    lines = [f"{name} at {x}: no result" for name, points in found.items() for x, row in points.items() if not row]
    if "batch" not in fitted:
        return [*lines, "batch: no exponent could be fitted"]
    for key in ("time", "time, upper half"):
        if fitted["batch"][key] > LIMIT:
            lines.append(f"{key}: grows with batch^{fitted['batch'][key]:.2f}, allowed {LIMIT}")
    return lines


def rows(found: dict[str, dict[int, dict]], options: argparse.Namespace) -> Iterator[list[object]]:
    """The points as printed."""
    for name, points in found.items():
        for x, row in points.items():
            tokens, batch = (options.batch_tokens, x) if name == "batch" else (x, 1)
            if not row:
                yield [name, tokens, batch, "failed", *[""] * 5]
                continue
            qsd = sum(v for part, v in row["parts"].items() if part.startswith("QSD")) / sum(row["parts"].values())
            speed = f"{row['seconds']:.2f}", f"{batch / row['seconds']:.3f}", f"{row['cpu']:.2f}"
            yield [name, tokens, batch, *speed, f"{qsd:.0%}", f"{row['memory'] / 1e9:.2f}", row["steps"]]


def draw(found: dict[str, dict[int, dict]], stem: Path) -> list[Path]:
    """The curves as a PNG."""

    def of(key: str, scale: float, names: tuple[str, ...]) -> dict[str, dict[float, float]]:
        return {name: {x: row[key] / scale for x, row in found[name].items()} for name in names}

    panels = {
        "seconds a step, batch 1": ("tokens", of("seconds", 1, tuple(POOLS))),
        "GB above weights, batch 1": ("tokens", of("memory", 1e9, tuple(POOLS))),
        "seconds a step, 256 tokens": ("batch", of("seconds", 1, ("batch",))),
        "GB above weights, 256 tokens": ("batch", of("memory", 1e9, ("batch",))),
    }
    return save(power_curves(panels), stem, ("png",))


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--figure", type=Path, default=ROOT / "docs" / "figures" / "step_curves", help="without .png")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--masked", type=float, default=0.0, help="share of the samples that have a masked view")
    parser.add_argument("--tokens", type=int, nargs="+", default=list(TOKENS), help="squares")
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--batch-tokens", type=int, default=256, help="of the batch curve, a square")
    parser.add_argument("--teacher", default="vit_base_patch16_224")
    parser.add_argument("--student", default="vit_small_patch16_224")
    parser.add_argument("--one", type=int, nargs=3, metavar=("TOKENS", "BATCH", "POOL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.one:
        child(options)
        return 0
    if wrong := [n for n in (*options.tokens, options.batch_tokens) if math.isqrt(n) ** 2 != n]:
        parser.error(f"{wrong[0]} tokens fill no square grid")
    if len(set(options.batches)) < 2 and options.check:
        parser.error("--check needs two batches or more to fit an exponent")
    found = curves(options)
    fitted = exponents(found)
    models, share = f"{options.teacher} to {options.student}", f"{options.masked:.0%}"
    print(f"{models}, fp32, {options.threads} threads, {share} of the samples with a masked view, GB above weights")
    show("curve, tokens, batch, s, images/s, CPU s, QSD and losses, GB, steps".split(", "), rows(found, options))
    kinds = ["time", "time, upper half", "memory", "memory, upper half"]
    shown = ([name, *(f"{values[kind]:.2f}" for kind in kinds)] for name, values in fitted.items())
    print()
    show(["exponent of", *kinds], shown)
    if all(row for points in found.values() for row in points.values()):
        for path in draw(found, options.figure):
            print(f"drawn: {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}")
    return finish(options, {"points": found, "exponents": fitted}, missed(found, fitted))


if __name__ == "__main__":
    sys.exit(main())
