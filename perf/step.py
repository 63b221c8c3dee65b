"""One training step of the project against a literal implementation of the published one.

The published step, written out below: two student forwards of the whole batch, explicit softmax attention in the QSD
heads with B x N x N matrices in memory, fused attention inside the encoders, fp32. The project's step is the loop
itself (gkd.train.loop.fit). Both: ViT-B teacher to ViT-S student of random weights, the same images, masks on half of
the batch, forward, backward and AdamW step. Each row runs in a process of its own; the processes take turns step by
step, so that other work on the machine hits all alike. Memory is the peak of a process above its loaded weights.
`--check` exits with 1 where a row is less than FASTER times as fast as the published step, takes over SMALLER of its
memory, or has other losses.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator

import torch
from profiling import medians, resident, step_marks
from table import arguments, finish, peak_memory, show
from torch import Tensor, nn

from gkd.distillation import checkpointed
from gkd.models import Encoder
from gkd.qsd import QSD, Objective, distillation_step
from gkd.train.compute import compiled, frozen_copy, resolve
from gkd.train.loop import Training, fit
from gkd.train.run import FP32, Run
from gkd.train.schedules import parameter_groups

LR, WEIGHT_DECAY = 1.25e-4, 0.05
PUBLISHED = "published fp32"
FUSED = FP32.model_copy(update={"fused_adamw": True})
ROWS = {  # the project's step: how it computes (as `paper`, but for compile); gradient checkpointing
    PUBLISHED: None,
    "ours fp32": (FUSED, False),
    "ours fp32, compiled": (FUSED.model_copy(update={"compile": True}), False),
    "ours auto": (FUSED.model_copy(update={"precision": "auto", "compile": True}), False),
    "ours fp32, checkpointed": (FUSED, True),
}
FASTER = {"ours fp32": 1.2, "ours auto": 2.0}  # times as fast as the published step
SMALLER = {"ours fp32, checkpointed": 0.6}  # of its memory
EQUAL = 1e-4  # relative difference of losses in fp32


def explicit(head: QSD, student: Tensor, teacher: Tensor) -> Tensor:
    """QSD as published: (B, N, Cs), (B, N, Ct) -> (B, N, Ct), every matrix in memory."""
    attention = (head.proj_q(student) @ teacher.transpose(1, 2)).softmax(dim=-1)  # (B, N, N)
    return attention @ head.proj_v(student)


def published_step(
    student: Encoder, teacher: Encoder, objective: Objective, images: Tensor, mask: Tensor
) -> dict[str, Tensor]:
    """The three losses of one batch, and their sum, as the published code computes them."""
    with torch.no_grad():
        target = teacher(images)
    plain, masked = student(images), student(images, mask)
    cls_t = target.cls.unsqueeze(1)
    cls = explicit(objective.token_head, plain.cls.unsqueeze(1), cls_t)
    fea = explicit(objective.fea_head, plain.patches, target.patches)
    patch = explicit(objective.patch_head, masked.patches, target.patches)
    mse = nn.functional.mse_loss
    losses = {
        "patch_loss": mse(patch, target.patches),
        "fea_loss": mse(torch.cat([cls, fea], 1), torch.cat([cls_t, target.patches], 1)),
        "token_loss": mse(cls, cls_t),
    }
    return {**losses, "loss": sum(losses.values())}


def train_published(
    student: Encoder, teacher: Encoder, objective: Objective, groups: list[dict], batches: Iterable[list[Tensor]]
) -> list[dict[str, float]]:
    """Published steps on batches of images and mask; returns the losses of each."""
    optimizer, losses = torch.optim.AdamW(groups), []
    for batch in batches:
        optimizer.zero_grad()
        metrics = published_step(student, teacher, objective, *batch)
        metrics["loss"].backward()
        optimizer.step()
        losses.append({name: value.item() for name, value in metrics.items()})
    return losses


def models(options: argparse.Namespace) -> tuple[Encoder, Encoder, Objective, Tensor, Tensor]:
    """Student, teacher, heads, images and mask: the same in each process."""
    torch.manual_seed(0)
    student = Encoder.create(options.student, img_size=options.size)
    teacher = Encoder.create(options.teacher, img_size=options.size).requires_grad_(False).eval()
    objective = Objective(student.dim, teacher.dim)
    images = torch.rand(options.batch, 3, options.size, options.size)
    rows, columns = student.grid((options.size, options.size))
    mask = torch.zeros(options.batch, rows * columns, dtype=torch.bool)
    mask[: options.batch // 2, torch.randperm(rows * columns)[: rows * columns // 2]] = True
    return student.train(), teacher, objective, images, mask


def turns(batch: list[Tensor], count: int) -> Iterator[list[Tensor]]:
    """The batch `count` times, each when the parent says so; wall and CPU seconds until the next are printed."""
    for _ in range(count):
        sys.stdin.readline()
        wall, cpu = time.perf_counter(), time.process_time()
        yield batch
        print(f"seconds {time.perf_counter() - wall} {time.process_time() - cpu}", flush=True)


def child(options: argparse.Namespace) -> None:
    """One row: `seconds` lines in turn with the parent, then one line of JSON."""
    student, teacher, objective, images, mask = models(options)
    count, groups = options.warmup + options.repeats, parameter_groups([student, objective], LR, WEIGHT_DECAY)
    kind, losses, parts = ROWS[options.row], [], {}
    batches = lambda _start: turns([images, mask], count)  # noqa: E731
    dtype = torch.float32
    if kind is not None:
        dtype = resolve(kind.precision, images.device)
        teacher = frozen_copy(teacher, dtype)
    loaded = resident()
    print("ready", flush=True)
    if kind is None:
        losses = train_published(student, teacher, objective, groups, batches(0))
    else:
        step = lambda _n, batch, _s: distillation_step(student, teacher, objective, *batch)  # noqa: E731
        training = Training(step, [student, objective], groups, batches, count, lambda _: 1.0)
        with checkpointed(student, kind[1]), compiled([student, teacher], kind[0].compile):
            history = fit(training, Run("step", compute=kind[0]), dtype=dtype)
        losses = history[["patch_loss", "fea_loss", "token_loss", "loss"]].to_dict("records")
    memory = peak_memory() - loaded
    sys.stdin.readline()  # one row after another
    if options.parts and options.row == "ours fp32":
        repeated = [(images, mask)] * options.repeats
        parts = medians(list(step_marks(student.train(), teacher, objective.train(), repeated, LR)))
        del parts["data"]  # there is none to wait for
    row = {"losses": losses, "memory": memory, "weights": loaded, "dtype": str(dtype), "parts": parts}
    print(json.dumps(row), flush=True)


def answer(process: subprocess.Popen, word: str) -> str:
    """What follows `word` on the next line that begins with it; other lines are passed on."""
    for line in process.stdout:
        if line.startswith(word):
            return line[len(word) :].strip()
        print(f"  {line.rstrip()}", flush=True)
    raise RuntimeError(f"a row ended without saying {word!r}: see what it printed above")


def say(process: subprocess.Popen) -> None:
    """Let a process that waits for its turn go on."""
    process.stdin.write("go\n")
    process.stdin.flush()


def measure(options: argparse.Namespace) -> dict[str, dict]:
    """The rows, each from a process of its own, which take turns."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    processes, times, cpu = {}, {row: [] for row in options.rows}, {row: [] for row in options.rows}
    for row in options.rows:
        command = [sys.executable, __file__, *sys.argv[1:], "--row", row]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
        processes[row] = subprocess.Popen(command, **pipes)
        answer(processes[row], "ready")
    for turn in range(options.warmup + options.repeats):
        for row, process in processes.items():
            say(process)
            wall, busy = (float(value) for value in answer(process, "seconds").split())
            print(f"  turn {turn} {row}: {wall:.2f} s, CPU {busy:.2f} s", flush=True)
            if turn >= options.warmup:
                times[row].append(wall)
                cpu[row].append(busy)
    table = {}
    for row, process in processes.items():
        say(process)
        found = json.loads("{" + answer(process, "{"))
        table[row] = {**found, "times": times[row], "cpu times": cpu[row]}
        table[row] |= {"seconds": statistics.median(times[row]), "cpu seconds": statistics.median(cpu[row])}
        process.wait()
    base = table[options.rows[0]]
    for row in table.values():
        # Of neighbouring turns, so that load that comes and goes cancels.
        for name, key in (("faster", "times"), ("faster in CPU time", "cpu times")):
            row[name] = statistics.median(a / b for a, b in zip(base[key], row[key], strict=True))
        row["of memory"] = row["memory"] / base["memory"]
        pairs = zip(base["losses"], row["losses"], strict=True)
        row["off"] = max(abs(ours[key] / theirs[key] - 1) for theirs, ours in pairs for key in theirs)
    return table


def missed(table: dict[str, dict]) -> list[str]:
    """What falls short, in words."""
    found = []
    for row, limit in FASTER.items():
        if table[row]["faster"] < limit:
            found.append(f"{row} ({table[row]['dtype']}): {table[row]['faster']:.2f} times faster, wanted {limit}")
    for row, limit in SMALLER.items():
        if table[row]["of memory"] > limit:
            found.append(f"{row}: {table[row]['of memory']:.2f} of the memory, wanted {limit}")
    for row, own in table.items():
        if own["dtype"] == str(torch.float32) and own["off"] > EQUAL:
            found.append(f"{row}: losses differ by {own['off']:.1e}, allowed {EQUAL}")
    return found


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=int, default=512, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--teacher", default="vit_base_patch16_224")
    parser.add_argument("--student", default="vit_small_patch16_224")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS, help="the first is compared with")
    parser.add_argument("--parts", action="store_true", help="where the time of the project's fp32 step goes")
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.row:
        child(options)
        return 0
    if options.check and (options.rows[0] != PUBLISHED or not {*FASTER, *SMALLER} <= set(options.rows)):
        parser.error(f"--check needs the rows {', '.join([PUBLISHED, *FASTER, *SMALLER])}, the published one first")
    table = measure(options)
    models = f"{options.teacher} to {options.student}"
    print(f"{models}, {options.size} px, batch {options.batch}, {options.threads} threads")
    speed = ["s", "images/s", "faster", "CPU s", "faster"]
    titles = ["step", "computes in", *speed, "GB above weights", "of memory", "losses off"]
    show(titles, (cells(name, row, options.batch) for name, row in table.items()))
    for name, row in table.items():
        terms = ", ".join(f"{key} {value:.6f}" for key, value in row["losses"][0].items())
        print(f"losses of the first step, {name}: {terms}")
        for part, seconds in row["parts"].items():
            print(f"{name}, {part}: {seconds:.3f} s, {seconds / sum(row['parts'].values()):.0%}")
    return finish(options, table, missed(table))


def cells(name: str, row: dict, batch: int) -> list[str]:
    """A row of the table as printed."""
    speed = f"{row['seconds']:.2f}", f"{batch / row['seconds']:.3f}", f"{row['faster']:.2f}"
    busy = f"{row['cpu seconds']:.2f}", f"{row['faster in CPU time']:.2f}"
    memory = f"{row['memory'] / 1e9:.2f}", f"{row['of memory']:.2f}"
    return [name, row["dtype"].removeprefix("torch."), *speed, *busy, *memory, f"{row['off']:.1e}"]


if __name__ == "__main__":
    sys.exit(main())
