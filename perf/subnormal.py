"""What subnormal numbers (below 1e-38) cost QSD as published, whose logits have no scale: kept, and as zero.

The three heads by themselves, forward, loss and backward, on random tokens, fp32, one thread; CPU seconds, medians of N
runs in turn. `--check` exits with 1 where counting them as zero, as stages do, takes over a tenth longer than keeping
them.
"""

import sys
from functools import partial

import torch
from table import arguments, finish, medians, show, turns

from gkd.models import Tokens
from gkd.qsd import Objective, distillation_loss

BATCH = 8
# Student and teacher channels, tokens, standard deviation of the teacher's: 1 behind a norm, 3 at a stage's end.
CASES = {
    "ViT-B to ViT-S": (384, 768, 256, 1.0),
    "ViT-L to ViT-B": (768, 1024, 256, 1.0),
    "EfficientNet-lite2 to a small ResNet": (256, 352, 192, 3.0),
}


def measure(student: int, teacher: int, count: int, deviation: float, runs: int) -> dict[str, float]:
    """Median seconds with subnormal numbers kept and as zero."""
    objective = Objective(student, teacher)
    own = [Tokens(torch.randn(BATCH, student), torch.randn(BATCH, count, student)) for _ in range(2)]
    theirs = Tokens(*(deviation * torch.randn(BATCH, *shape) for shape in ((teacher,), (count, teacher))))

    def step(zero: bool) -> None:
        torch.set_flush_denormal(zero)
        distillation_loss(objective, *own, theirs)[0].backward()

    return medians(turns({"kept": partial(step, False), "zero": partial(step, True)}, runs))


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if not torch.set_flush_denormal(True):
        parser.error("this processor cannot count subnormal numbers as zero")
    table = {name: measure(*case, options.runs) for name, case in CASES.items()}
    rows = [[name, f"{t['kept']:.3f}", f"{t['zero']:.3f}", f"{t['kept'] / t['zero']:.2f}"] for name, t in table.items()]
    show(["teacher and student", "kept, s", "zero, s", "times"], rows)
    return finish(options, table, [name for name, t in table.items() if t["zero"] > 1.1 * t["kept"]])


if __name__ == "__main__":
    sys.exit(main())
