"""Distillation between inner blocks (ours): the paper supervises the final tokens alone."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from gkd.models.encoder import resample_patches


class BlockPair(NamedTuple):
    """A block of the student that follows a block of the teacher: their numbers (from 0) and channels."""

    student: int
    teacher: int
    student_dim: int
    teacher_dim: int


def block_tokens(student_map: Tensor, teacher_map: Tensor) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """What a head compares: the student's tokens (B, N, Cs), the teacher's (B, N, Ct), and the teacher's grid.

    Args:
        student_map: output (B, Cs, r, c) of the student's block; it is brought onto the teacher's grid.
        teacher_map: output (B, Ct, rows, columns) of the teacher's block.

    Block outputs lack the final norm, and a few channels of a deep ViT are orders of magnitude larger than the rest.
    Each teacher token is therefore standardised (layer norm without parameters) before it is key and target.
    """
    rows, columns = teacher_map.shape[-2:]
    target = teacher_map.flatten(2).transpose(1, 2)  # (B, N, Ct)
    own = student_map.flatten(2).transpose(1, 2)  # (B, r * c, Cs)
    own = resample_patches(own, tuple(student_map.shape[-2:]), (rows, columns))  # (B, N, Cs)
    return own, F.layer_norm(target, target.shape[-1:]), (rows, columns)
