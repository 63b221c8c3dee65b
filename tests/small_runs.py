"""Runs that take a second, on noise, and what stands for one that is killed: photos whose reading ends it."""

import numpy as np
import torch
from tiny_models import tiny_vit
from tiny_params import distillation, mask2former

from gkd.data.labels import IGNORE
from gkd.distillation import distil
from gkd.qsd import Objective
from gkd.segmentation.decoders import ConvDecoder, Segmentor
from gkd.segmentation.mask2former import Mask2Former
from gkd.train.run import Run


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


class Photos:
    """Noise with labels, some of which are void in every other photo; after `left` reads the next one ends the run."""

    def __init__(self, count=5, left=10**6, classes=3):
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        self.labels = rng.integers(0, classes, (count, 32, 32), dtype=np.uint8)
        self.labels[::2, :16] = IGNORE
        self.left, self.reads = left, []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        if len(self.reads) == self.left:
            raise Killed
        self.reads.append(index)
        return self.images[index], self.labels[index]


def segmentor(frozen=True, seed=0, decoder="conv", classes=3):
    """A segmentor of `seed`, with the conv decoder or a small mask2former."""
    encoder = tiny_vit(24, depth=1 if decoder == "conv" else 4, seed=seed)
    torch.manual_seed(seed)
    if decoder == "conv":
        return Segmentor(encoder, ConvDecoder(24, classes, 32), frozen)
    options = mask2former(dim=32, queries=8, encoder_layers=1, decoder_layers=1, points=64)
    return Segmentor(encoder, Mask2Former(encoder, classes, options, range(4)), frozen)


def distilled(run=Run("run"), photos=None, teacher=None, head=None, student=None, **section):  # noqa: B008 - immutable
    """A distillation run; returns student, objective and history."""
    student, teacher = student or tiny_vit(24, depth=1, seed=1), teacher or tiny_vit(48, depth=1, seed=2)
    torch.manual_seed(0)
    objective = Objective(student.dim, teacher.dim, **head or {})
    section = distillation(**{"steps": 5, "lr": 1e-3, **section})
    history = distil(student, teacher, objective, data=photos or Photos(), section=section, run=run)
    return student, objective, history


def assert_equal_runs(run, other):
    """Modules and history of two runs, bit for bit; the history comes last."""
    for a, b in zip(run[:-1], other[:-1], strict=True):
        state = b.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in a.state_dict().items())
    assert run[-1].equals(other[-1])
