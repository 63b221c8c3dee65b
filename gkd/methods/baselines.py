"""The other distillation losses: what QSD is compared with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gkd.qsd import projection


class LinearHead(nn.Module):
    """LayerNorm + Linear regression onto the teacher's tokens: the `mse` row, a head for `gkd.qsd.Objective`."""

    def __init__(self, student_dim: int, teacher_dim: int) -> None:
        super().__init__()
        self.proj = projection(student_dim, teacher_dim)

    def forward(self, student_tokens: Tensor, teacher_tokens: Tensor) -> Tensor:
        """Student tokens (B, N, Cs) -> (B, N, Ct); the teacher's tokens are only the target of the loss."""
        return self.proj(student_tokens)


def pixel_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Per-pixel KL(teacher || student) of class distributions, mean over pixels: vanilla segmentation KD.

    Args:
        student_logits: (B, K, h, w).
        teacher_logits: (B, K, h', w'), resized to the student's size if it differs.
        temperature: softens both; the loss is multiplied by its square (Hinton et al., 2015).
    """
    if teacher_logits.shape[1] != student_logits.shape[1]:
        raise ValueError(
            f"the teacher's segmentor has {teacher_logits.shape[1]} classes and the student's "
            f"{student_logits.shape[1]}: both must be trained on the same source"
        )
    if teacher_logits.shape[-2:] != student_logits.shape[-2:]:
        teacher_logits = F.interpolate(teacher_logits, student_logits.shape[-2:], mode="bilinear")
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    log_p = F.log_softmax(student_logits.to(dtype) / temperature, dim=1)
    log_q = F.log_softmax(teacher_logits.to(dtype) / temperature, dim=1)
    kl = (log_q.exp() * (log_q - log_p)).sum(dim=1)  # (B, h, w)
    return kl.mean() * temperature**2
