"""Where the time and the memory of a distillation step go on this machine: its parts, and tensors over time.

Models, data and step of the domain-agnostic stage, with an optimiser of its own; nothing is kept. Medians without the
first two steps, which warm up. "data" is the wait for the next batch: workers read ahead while a step is computed.
Beside the seconds stand the FLOPs of the same parts, which are counted; norms, losses and AdamW count none. Two more
steps follow in which each tensor is recorded, which slows them down. Draws step_parts.png and step_memory.png.
`--check` exits with 1 where the recorded peak is under half of the counted activations or over thrice as much.
"""

import sys
from itertools import islice
from pathlib import Path

from charts import memory_over_time, stacked_bars
from counting import count_distillation
from profiling import allocated_memory, medians, step_marks
from table import arguments, finish, show

from gkd.data.loading import Draw, loader
from gkd.data.transforms import DistillationView
from gkd.distillation import step_mask
from gkd.methods import objective as build_objective
from gkd.params import ROOT, load
from gkd.report.style import save
from gkd.train.loop import fix_threads
from gkd.weights import build_encoder
from gkd.workspace.inputs import open_training

WARMUP = 2


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--params", type=Path, default=ROOT / "params.yaml")
    parser.add_argument("--setting", default="f2l")
    parser.add_argument("--method", default="gkd")
    parser.add_argument("--source", default="gtav")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--figures", type=Path, default=ROOT / ".scratch" / "perf", help="folder")
    options = parser.parse_args()
    if options.steps <= WARMUP:
        parser.error(f"--steps: the first {WARMUP} warm up; give more")
    params = load(options.params)
    fix_threads(params.compute.threads)
    section = params.domain_agnostic.model_copy(update={"steps": options.steps + 2})
    teacher = build_encoder(params.models.teacher).requires_grad_(False).eval()
    student = build_encoder(params.student(options.setting))
    heads = params.heads.get(options.method)
    objective = build_objective(options.method, student, teacher, heads, seed=0)
    rows, columns = student.grid(section.image_size)
    data = open_training(params, options.source).unlabelled()
    draw = Draw(section.steps, section.batch_size, seed=0, repeats=section.repeats)
    views = loader(data, DistillationView(section), draw, labelled=False)
    batches = ((images, step_mask(section, rows * columns, 0, i)) for i, images in enumerate(views))
    learning = student.train(), teacher, objective.train()
    seconds = medians(list(step_marks(*learning, islice(batches, options.steps), section.lr))[WARMUP:])
    with allocated_memory() as record:
        marks = list(step_marks(*learning, batches, section.lr))[-1]
    memory = record.between(marks[0][1], marks[-1][1])
    cost = count_distillation(student, teacher, objective, section.image_size, masked=section.mask_probability)
    counted = int(cost.activations * section.batch_size + cost.constant)
    peak = int(memory["bytes"].max() - memory["bytes"].iloc[0])

    whole, step, flops = section.batch_size, sum(seconds.values()), {name: cost.flops.get(name, 0) for name in seconds}
    speed = f"{whole / step:.1f} images/s, {cost.total * whole / step / 1e9:.1f} GFLOP/s"
    print(f"{speed}, {params.compute.threads} threads")
    parts = ([name, f"{s:.4f}", f"{s / step:.0%}", f"{flops[name] / 1e9:.3f}"] for name, s in seconds.items())
    show(["part", "s", "of the step", "GFLOPs an image"], parts)
    print(f"activations at batch {whole}: {counted / 1e6:.0f} MB counted, {peak / 1e6:.0f} MB at the recorded peak")
    bars = {f"{step:.3f} s": seconds, f"{cost.total / 1e9:.3f} GFLOPs an image": cost.flops}
    shares = {name: {part: 100 * v / sum(own.values()) for part, v in own.items()} for name, own in bars.items()}
    save(stacked_bars(shares, "% of a step"), options.figures / "step_parts", ("png",))
    save(memory_over_time(memory, marks), options.figures / "step_memory", ("png",))
    print(f"drawn: {options.figures}/step_parts.png and step_memory.png")
    wrong = [] if 0.5 * counted < peak < 3 * counted else [f"peak {peak:,} bytes, counted activations {counted:,}"]
    return finish(options, {"seconds": seconds, "flops": flops, "peak": peak, "counted activations": counted}, wrong)


if __name__ == "__main__":
    sys.exit(main())
