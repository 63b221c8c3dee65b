"""Vanilla distillation of segmentation (Hinton et al., 2015): the student follows a segmentor, pixel by pixel."""

import torch
import torch.nn.functional as F
from torch import Tensor


def pixel_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Per-pixel KL(teacher || student) of class distributions, mean over pixels.

    The teacher's logits (B, K, h', w') are resized to the student's (B, K, h, w). `temperature` softens both, and the
    loss is multiplied by its square. Raises ValueError where the numbers of classes differ.
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
