"""Run as a program by test_launching.py: the same work in one and in several processes, states kept in a folder.

A process of its own, since accelerate starts others only where none of its engines is there yet.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from tiny_models import tiny_vit

from gkd.data.labels import IGNORE
from gkd.datasets import official
from gkd.distillation import build_objective, distil
from gkd.methods.table import METHODS
from gkd.models import Encoder
from gkd.params import Compute, Distillation, Evaluate, TaskLearning
from gkd.segmentation.decoders import ConvDecoder, Segmentor
from gkd.segmentation.task_learning import learn_side_by_side, measure
from gkd.train.loop import engine
from gkd.train.processes import launch
from gkd.train.resume import Resume
from gkd.train.sharding import held_bytes, sharded_copy

CLASSES = len(official().sources["potsdam"].classes)


class Photos:
    """Noise; half of the labels of every other photo are void, so that shares hold different numbers of labels."""

    def __init__(self, count=9):
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        self.labels = rng.integers(0, CLASSES, (count, 32, 32), dtype=np.uint8)
        self.labels[::2, :16] = IGNORE

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], self.labels[index]


def segmentor():
    torch.manual_seed(0)
    return Segmentor(tiny_vit(24, depth=1), ConvDecoder(24, CLASSES, 32), frozen=False)


def shards(folder: Path, backbone: str) -> None:
    """Saved by each process: bytes that it holds of an encoder before and after it is spread, and tokens of both."""
    accelerator = engine()
    if backbone == "vit":
        encoder = tiny_vit(24, depth=2, seed=2)
    else:
        torch.manual_seed(2)
        encoder = Encoder.create("resnet18", pretrained=False)
    encoder.requires_grad_(False).eval()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(accelerator.process_index))
    encoder.grid(images.shape[-2:])
    found = {"whole": held_bytes(encoder), "expected": [], "found": []}
    spread = sharded_copy(encoder, accelerator.device.type)
    with torch.no_grad():
        for key, model in (("expected", encoder), ("found", spread), ("found", spread)):
            tokens, maps = model.forward_with_blocks(images, [1])
            found[key].append([*model(images), *tokens, maps[1]])
    found["held"] = held_bytes(spread)  # after the passes: nothing gathered stays
    torch.save(found, folder / f"{backbone}-{accelerator.process_index}.pt")


def work(folder: Path, name: str, processes: int, micro_batch: int | None, sharding: str = "none") -> None:
    """One distillation step, one step of task learning (with and without a guide), one evaluation."""
    resume = Resume(folder / name, "key", 0)
    section = Distillation(steps=1, batch_size=8, lr=1e-2, image_size=[32, 32], micro_batch=micro_batch)
    student, teacher = tiny_vit(24, depth=1, seed=1), tiny_vit(48, depth=1, seed=2)
    objective = build_objective(METHODS["gkd"], student, teacher, {}, 0)
    run = resume.slot("distil"), processes, None, Compute(sharding=sharding)
    history = distil(student, teacher, objective, Photos(), section, 0, "run", *run)
    assert len(history) == 1 and not student.training

    shape = {"steps": 1, "batch_size": 8, "lrs": [1e-2], "crop": [32, 32]}
    section = TaskLearning(**shape, micro_batch=micro_batch)
    run = segmentor(), resume.slot("learn"), processes
    learn_side_by_side({1e-2: run[0]}, Photos(), section, 0, "run", segmentor(), *run[1:])

    protocol = Evaluate(window=32, stride=32)
    confusion = measure(segmentor(), Photos(), CLASSES, protocol, "potsdam-irrg", "run", resume, processes)
    np.save(folder / f"{name}.npy", confusion)


if __name__ == "__main__":
    # Launched processes come first: a run in this one makes an engine here.
    folder = Path(sys.argv[1])
    for backbone in ("vit", "resnet"):
        launch(2, Resume(folder / "none", "key"), shards, folder, backbone)
    work(folder, "2x4 sharded", 2, None, "teacher")
    for case in (("2x4", 2, None), ("2x2x2", 2, 2), ("1x8", 1, None), ("1x4x2", 1, 2)):
        work(folder, *case)
