"""Run as a program by test_processes.py: the same work in one and in several processes, states kept in a folder.

A process of its own, since accelerate starts others only where none of its engines is there yet.
"""

import sys
from pathlib import Path

import numpy as np
from small_runs import Photos, distilled, segmentor
from tiny_params import learning

from gkd.params import Inference
from gkd.segmentation.measure import EvaluationSet, measure_all
from gkd.segmentation.task_learning import Guide, learn_side_by_side
from gkd.train.resume import Resume
from gkd.train.run import Run

CLASSES = 6


def squares(student, teacher, temperature):
    return (student - teacher).square().mean() / temperature


def work(folder: Path, name: str, processes: int, micro_batch: int | None) -> None:
    """One distillation step, one step of guided task learning, both also from a pool of views, one evaluation."""
    resume, photos = Resume(folder / name, "key", 0), Photos(9, classes=CLASSES)
    for suffix, pool in (("", None), (" pooled", 7)):
        shape = {"steps": 1, "batch_size": 8, "micro_batch": micro_batch, "pool": pool}
        student, *_, history = distilled(Run(f"distil{suffix}", 0, resume, processes), photos, lr=1e-2, **shape)
        assert len(history) == 1 and not student.training
        section, guide = learning(**shape, scale=[0.5, 2.0]), Guide(segmentor(False, 1, classes=CLASSES), squares)
        learn_side_by_side(
            {1e-2: segmentor(False, classes=CLASSES)},
            photos,
            section,
            Run(f"learn{suffix}", 0, resume, processes),
            guide,
        )
    on = EvaluationSet("noise", photos, CLASSES, Inference(window=32, stride=32, batch_size=1))
    found = measure_all({"": segmentor(False, classes=CLASSES)}, on, Run("measure", 0, resume, processes))
    np.save(folder / f"{name}.npy", found[""])


if __name__ == "__main__":
    # Two processes come first: a run in this one makes an engine here.
    for case in (("2 x 2 x 2", 2, 2), ("1 x 8", 1, None)):
        work(Path(sys.argv[1]), *case)
