"""What the distillation heads cost of a training step: QSD, light QSD and a plain linear head.

ViT-B teacher and ViT-S student of random weights, fp32, batch 2, one of the two samples masked. The step with linear
heads is timed as a whole (teacher, student, heads, backward), and the heads of each kind by themselves (forward, loss
and backward down to the student's tokens), since a difference of two whole steps would drown in noise. The share of a
kind is what it takes beyond linear heads, over a step with it. Times are CPU seconds of one thread, medians of N runs
in turn, so that other work on the machine disturbs little. `--check` exits with 1 where a limit at 1024 tokens is
missed.
"""

import sys
from collections.abc import Iterator

import torch
from table import arguments, finish, medians, show, turns

from gkd.methods.mse import RegressionHead
from gkd.models import Encoder, Tokens
from gkd.qsd import Objective, distillation_loss, distillation_step

PATCH, BATCH = 16, 2
KINDS = {"linear": None, "QSD": 1, "light 2x2": 2, "light 4x4": 4}  # None = plain regression, else `pool`
LIMITS = {"QSD": 0.06, "light 2x2": 0.025, "light 4x4": 0.015}  # at 1024 tokens


def objective_of(pool: int | None, student: int, teacher: int) -> Objective:
    return Objective(student, teacher, head=RegressionHead) if pool is None else Objective(student, teacher, pool=pool)


def tokens(count: int, dim: int) -> Tokens:
    """Tokens as after a final norm; gradients end here."""
    return Tokens(torch.randn(BATCH, dim, requires_grad=True), torch.randn(BATCH, count, dim, requires_grad=True))


def measure(side: int, runs: int) -> dict[str, float]:
    """Median seconds for a grid of side x side tokens: "step" with linear heads, and the heads of each kind."""
    student = Encoder.create("vit_small_patch16_224", img_size=side * PATCH)
    teacher = Encoder.create("vit_base_patch16_224", img_size=side * PATCH).eval()
    heads = {name: objective_of(pool, student.dim, teacher.dim) for name, pool in KINDS.items()}
    images, mask = torch.rand(BATCH, 3, side * PATCH, side * PATCH), torch.zeros(BATCH, side**2, dtype=torch.bool)
    mask[0, ::2] = True
    plain, masked, target = (tokens(side**2, dim) for dim in (student.dim, student.dim, teacher.dim))
    target = Tokens(*(part.detach() for part in target))
    what = {name: lambda h=h: distillation_loss(h, plain, masked, target, (side, side))[0] for name, h in heads.items()}
    what["step"] = lambda: distillation_step(student, teacher, heads["linear"], images, mask)[0]
    return medians(turns({name: lambda run=run: run().backward() for name, run in what.items()}, runs))


def shares(times: dict[str, float]) -> dict[str, float]:
    """What each kind takes beyond linear heads, as a part of a step with it."""
    found = {}
    for name in LIMITS:
        extra = times[name] - times["linear"]
        found[name] = extra / (times["step"] + extra)
    return found


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--sides", type=int, nargs="+", default=[16, 32], help="sides of the token grids")
    options = parser.parse_args()
    if options.check and 32 not in options.sides:
        parser.error("--check needs the grid of side 32")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    table = {}
    print(f"ViT-B to ViT-S, fp32, batch {BATCH}, one thread, CPU seconds, median of {options.runs}")

    def rows() -> Iterator[list[object]]:
        for side in options.sides:
            times = measure(side, options.runs)
            over = shares(times)
            table[f"{side**2} tokens"] = {"seconds": times, "share": over}
            yield [side**2, "step with linear heads", f"{times['step']:.3f}", ""]
            for name in KINDS:
                yield [side**2, name, f"{times[name]:.3f}", f"{over[name]:.1%}" if name in over else ""]

    show(["tokens", "what", "s", "of the step over linear"], rows())
    found = table.get("1024 tokens", {}).get("share", {})
    missed = [f"{name} takes {share:.1%}" for name, share in found.items() if share > LIMITS[name]]
    return finish(options, table, missed)


if __name__ == "__main__":
    sys.exit(main())
