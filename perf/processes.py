"""Distillation steps of two processes with one thread each, against one process with one thread.

Both sides run gkd.distillation.distil with the same global batch, images in memory and no loader workers; a step is
everything from the first photo it reads to the first photo of the next one: reading, augmentation, forward, backward,
the exchange of gradients, AdamW. The sides take turns step by step, so that other work on the machine hits both alike;
who waits sleeps. Start-up (imports, models, the processes' first contact) and the first steps are not counted.
Of the CPU seconds, which other work touches less, those of the busier process count; waiting is not in them. Gradients
travel by gloo, as on every machine without GPUs. `--check` exits with 1 where the steps of ViT-S are less than LIMIT
times as fast.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from typing import Any

from step import answer, say
from table import arguments, finish, show

PROCESSES, LIMIT = 2, 1.8
VIT_S, MINIATURE = "ViT-B to ViT-S", "miniature"
PHOTOS = 64


class Photos:
    """Noise in memory. Before the first photo of each step this process waits for the parent's word."""

    def __init__(self, size: int, share: int) -> None:
        import numpy as np

        self.images = np.random.default_rng(0).integers(0, 256, (PHOTOS, size, size, 3), dtype=np.uint8)
        self.share, self.read, self.start = share, 0, (0.0, 0.0)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, None]:
        if self.read % self.share == 0:
            self.tell("seconds" if self.read else "ready")
            sys.stdin.readline()
            self.start = time.perf_counter(), time.process_time()
        self.read += 1
        return self.images[index], None

    def tell(self, word: str) -> None:
        """Print `word`, and the wall and CPU seconds since the parent's last."""
        print(word, time.perf_counter() - self.start[0], time.process_time() - self.start[1], flush=True)


def encoders(case: str, size: int) -> tuple[Any, Any]:
    """Student and teacher of a case, of random weights."""
    from gkd import params
    from gkd.models import Encoder

    if case == VIT_S:
        names = [("vit_small_patch16_224", {"img_size": size}), ("vit_base_patch16_224", {"img_size": size})]
    else:
        models = params.load().models
        names = [(spec.name, spec.options) for spec in (models.students["f2l"], models.teacher)]
    return tuple(Encoder.create(name, **options) for name, options in names)


def child(options: argparse.Namespace) -> None:
    """One process of one side: lines `ready`, `seconds ...` in turn with the parent, then its losses."""
    import torch

    from gkd import params
    from gkd.distillation import distil
    from gkd.methods import objective
    from gkd.train.loop import fix_threads
    from gkd.train.run import Run

    fix_threads(1)
    size, batch = shape(options.case, options)
    steps = options.warmup + options.repeats
    section = params.load().task_agnostic.model_copy(
        update={"steps": steps, "batch_size": batch, "image_size": [size, size], "warmup_steps": 0, "pool": None}
    )
    torch.manual_seed(0)
    student, teacher = encoders(options.case, size)
    heads = objective("gkd", student, teacher)
    photos = Photos(size, batch // int(os.environ.get("WORLD_SIZE", "1")))
    history = distil(student, teacher, heads, photos, section, Run("  step"))
    photos.tell("seconds")
    print(f"losses {json.dumps(list(history['loss']))}", flush=True)


def shape(case: str, options: argparse.Namespace) -> tuple[int, int]:
    """Side of the images in pixels, and samples of the global batch."""
    return (options.size, options.batch) if case == VIT_S else (64, 16)


class Side:
    """The processes of one side, and the seconds that its steps took."""

    def __init__(self, case: str, processes: int, repeats: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        base = {**os.environ, "OMP_NUM_THREADS": "1", "GKD_WORKERS": "0"}
        command = [sys.executable, __file__, *sys.argv[1:], "--case", case, "--repeats", str(repeats)]
        self.members, self.times, self.cpu = [], [], []
        for rank in range(processes):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
            place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            environment = {**base, **own, **place} if processes > 1 else base
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            self.members.append(subprocess.Popen(command, env=environment, **pipes))
        self.answers("ready")

    def answers(self, word: str) -> list[str]:
        """What each process says after `word`."""
        return [answer(member, word) for member in self.members]

    def step(self) -> None:
        """One step. Of its wall and of its CPU seconds, those of the slowest process count."""
        for member in self.members:
            say(member)
        wall, cpu = zip(*(map(float, line.split()) for line in self.answers("seconds")), strict=True)
        self.times.append(max(wall))
        self.cpu.append(max(cpu))

    def end(self) -> list[float]:
        """The loss of each step."""
        losses = self.answers("losses")
        for member in self.members:
            member.communicate()
        return json.loads(losses[0])


def measure(case: str, options: argparse.Namespace) -> dict[str, Any]:
    """Both sides of a case in turn."""
    # Steps of the miniature are short: more of them cost little, and single ones are noise.
    repeats = options.repeats if case == VIT_S else options.repeats * 8
    sides = {str(processes): Side(case, processes, repeats) for processes in (1, PROCESSES)}
    for turn in range(options.warmup + repeats):
        for side in sides.values():
            side.step()
        if case == VIT_S:
            shown = [f"{side.times[-1]:.2f} s, CPU {side.cpu[-1]:.2f} s" for side in sides.values()]
            print(f"  turn {turn}: {shown[0]} alone; {shown[1]} shared", flush=True)
    losses = [side.end() for side in sides.values()]
    row: dict[str, Any] = dict(zip(("size", "batch"), shape(case, options), strict=True))
    for name in ("times", "cpu"):
        values = {key: getattr(side, name)[options.warmup :] for key, side in sides.items()}
        one, two = (statistics.median(value) for value in values.values())
        # Of neighbouring turns, so that load that comes and goes cancels.
        faster = statistics.median(a / b for a, b in zip(*values.values(), strict=True))
        row[name] = {"steps": values, "1": one, str(PROCESSES): two, "faster": faster}
    row["loss off"] = max(abs(a / b - 1) for a, b in zip(*losses, strict=True))
    return row


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=7, help="timed steps; eight times as many of the miniature")
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--cases", nargs="+", default=[VIT_S, MINIATURE], choices=[VIT_S, MINIATURE])
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels, ViT-S")
    parser.add_argument("--batch", type=int, default=8, help="samples of the global batch, ViT-S")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        child(options)
        return 0
    if options.repeats < 5:
        parser.error("--repeats: a median of fewer than 5 steps says little")
    if options.check and VIT_S not in options.cases:
        parser.error(f"--check needs the case {VIT_S}")
    table = {case: measure(case, options) for case in options.cases}
    times = ["1 process, s", "2 processes, s", "faster", "1 process, CPU s", "2 processes, CPU s", "faster"]
    show(["distillation", "pixels", "batch", *times, "losses off"], map(cells, table, table.values()))
    faster = table[VIT_S]["times"]["faster"] if VIT_S in table else LIMIT
    missed = [f"{VIT_S} {faster:.2f} times faster, wanted {LIMIT}"] if faster < LIMIT else []
    return finish(options, table, missed)


def cells(case: str, row: dict[str, Any]) -> list[object]:
    """A row of the table as printed."""
    pairs = [(f"{row[key]['1']:.3f}", f"{row[key]['2']:.3f}", f"{row[key]['faster']:.2f}") for key in ("times", "cpu")]
    return [case, row["size"], row["batch"], *pairs[0], *pairs[1], f"{row['loss off']:.1e}"]


if __name__ == "__main__":
    sys.exit(main())
