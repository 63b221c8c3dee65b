"""Query-based soft distillation (QSD) and the three-term objective of GKD (arXiv 2603.02554).

objective = Objective(student.dim, teacher.dim)                     # fea_head, patch_head, token_head
loss, metrics = distillation_step(student, teacher, objective, images, mask)
loss.backward()
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gkd.models import Encoder, Tokens, resample_tokens


def projection(in_dim: int, out_dim: int) -> nn.Sequential:
    """LayerNorm + Linear: the query and value maps of QSD, and the whole head of the `mse` baseline."""
    return nn.Sequential(nn.LayerNorm(in_dim, eps=1e-5), nn.Linear(in_dim, out_dim))


class QSD(nn.Module):
    """Query-based soft distillation: softmax(q(s) t^T) v(s), to be compared with t.

    Queries and values are projected *student* tokens, keys are the raw teacher tokens, so the teacher only shapes the
    attention. The published form has one head and no 1/sqrt(C) (the defaults).

    Args:
        student_dim: channels Cs of the student tokens.
        teacher_dim: channels Ct of the teacher tokens, and of the output.
        num_heads: attention heads; they split the Ct channels.
        scaled: divide the logits by sqrt(Ct / num_heads).
        temperature: divide the logits by this as well.
        diagonal_bias: start value of one learned bias on the diagonal of the logits (ours, not the paper's): each
            student token starts by attending to the teacher token at its own place. Needs equal grids. None = no bias.
    """

    def __init__(
        self,
        student_dim: int,
        teacher_dim: int,
        num_heads: int = 1,
        *,
        scaled: bool = False,
        temperature: float = 1.0,
        diagonal_bias: float | None = None,
    ) -> None:
        super().__init__()
        if teacher_dim % num_heads:
            raise ValueError(f"num_heads={num_heads} does not divide the teacher's {teacher_dim} channels")
        self.num_heads = num_heads
        self.scale = 1.0 / temperature / (math.sqrt(teacher_dim / num_heads) if scaled else 1.0)
        self.proj_q = projection(student_dim, teacher_dim)
        self.proj_v = projection(student_dim, teacher_dim)
        self.diagonal_bias = None if diagonal_bias is None else nn.Parameter(torch.tensor(float(diagonal_bias)))

    def forward(self, student_tokens: Tensor, teacher_tokens: Tensor) -> Tensor:
        """Student tokens (B, N, Cs), teacher tokens (B, M, Ct) -> (B, N, Ct), by fused attention."""
        q = self._split(self.proj_q(student_tokens))  # (B, h, N, Ct/h)
        k = self._split(teacher_tokens)  # (B, h, M, Ct/h)
        v = self._split(self.proj_v(student_tokens))  # (B, h, N, Ct/h)
        self._check(q, k)
        if k.shape[-2] == 1:
            # softmax of a single logit is 1 whatever it is; 0 * logit keeps the gradients zero rather than absent.
            logit = q if self.diagonal_bias is None else q + self._bias(q)
            return (v + 0 * logit).transpose(1, 2).flatten(2)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=self._bias(q), scale=self.scale)
        return out.transpose(1, 2).flatten(2)  # (B, N, Ct)

    def attention_map(self, student_tokens: Tensor, teacher_tokens: Tensor) -> Tensor:
        """The attention that `forward` applies: (B, num_heads, N, M), rows sum to one. For looking, not training."""
        q = self._split(self.proj_q(student_tokens))
        k = self._split(teacher_tokens)
        logits = q @ k.transpose(-2, -1) * self.scale  # (B, h, N, M)
        bias = self._bias(q)
        return (logits if bias is None else logits + bias).softmax(dim=-1)

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, N, C) -> (B, h, N, C/h)

    def _bias(self, q: Tensor) -> Tensor | None:
        if self.diagonal_bias is None:
            return None
        return self.diagonal_bias.to(q.dtype) * torch.eye(q.shape[-2], dtype=q.dtype, device=q.device)  # (N, N)

    def _check(self, q: Tensor, k: Tensor) -> None:
        if q.shape[-2] != k.shape[-2]:
            raise ValueError(
                f"QSD got {q.shape[-2]} student and {k.shape[-2]} teacher tokens; bring the student's onto the "
                "teacher's grid first (gkd.models.resample_tokens)"
            )


class Objective(nn.Module):
    """The heads of the three-term objective, each with weights of its own (protocol section 2).

    Args:
        student_dim: channels Cs of the student tokens.
        teacher_dim: channels Ct of the teacher tokens.
        head: class of the heads, called as `head(student_dim, teacher_dim, **options)`; QSD by default, and
            `gkd.baselines.LinearHead` for plain feature regression.
        weights: factors (patch, fea, token) of the three losses; 1, 1, 1 in the paper.
    """

    def __init__(
        self,
        student_dim: int,
        teacher_dim: int,
        head: type[nn.Module] = QSD,
        weights: tuple[float, float, float] = (1.0, 1.0, 1.0),
        **options: object,
    ) -> None:
        super().__init__()
        self.weights = weights
        self.fea_head = head(student_dim, teacher_dim, **options)
        self.patch_head = head(student_dim, teacher_dim, **options)
        self.token_head = head(student_dim, teacher_dim, **options)


def _mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over (B, N, C) in at least fp32: half types are upcast, float64 stays."""
    dtype = torch.promote_types(prediction.dtype, torch.float32)
    return F.mse_loss(prediction.to(dtype), target.to(dtype))


def distillation_loss(
    objective: Objective, unmasked: Tokens, masked: Tokens, teacher: Tokens
) -> tuple[Tensor, dict[str, Tensor]]:
    """The objective on tokens: loss and its terms `patch_loss`, `fea_loss`, `token_loss`, `loss` (detached scalars).

    Args:
        objective: the three heads.
        unmasked: student tokens of the plain view, cls (B, Cs) and patches (B, N, Cs).
        masked: student tokens of the view in which some samples have masked patches; same shapes.
        teacher: teacher tokens of the plain view, cls (B, Ct) and patches (B, N, Ct).

    As published, the masked loss runs over all patches of all samples, and CLS counts twice: by itself and as one
    token beside the patches.
    """
    cls_t = teacher.cls.unsqueeze(1)  # (B, 1, Ct)
    cls = objective.token_head(unmasked.cls.unsqueeze(1), cls_t)  # (B, 1, Ct)
    fea = objective.fea_head(unmasked.patches, teacher.patches)  # (B, N, Ct)
    patch = objective.patch_head(masked.patches, teacher.patches)  # (B, N, Ct)

    patch_loss = _mse(patch, teacher.patches)
    fea_loss = _mse(torch.cat([cls, fea], dim=1), torch.cat([cls_t, teacher.patches], dim=1))
    token_loss = _mse(cls, cls_t)
    a, b, c = objective.weights
    loss = a * patch_loss + b * fea_loss + c * token_loss
    metrics = {"patch_loss": patch_loss, "fea_loss": fea_loss, "token_loss": token_loss, "loss": loss}
    return loss, {name: value.detach() for name, value in metrics.items()}


def distillation_step(
    student: Encoder, teacher: Encoder, objective: Objective, images: Tensor, mask: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """One distillation step on a batch, without the backward pass.

    Args:
        student: encoder that learns.
        teacher: frozen encoder; it runs without gradients, on the plain view, and should be in eval mode.
        objective: the three heads.
        images: (B, 3, H, W), un-normalised floats; each encoder normalises with its own statistics.
        mask: (B, N) boolean on the student's grid, True = replaced; a row may be all False.

    Rows without a masked patch are not forwarded twice: their tokens are those of the plain view. Encoders whose
    samples are not independent (batch statistics) or whose forward is random (drop path) run both views in full.
    """
    with torch.no_grad():
        target = teacher(images)
    grid = teacher.grid(images.shape[-2:])
    plain = student(images)
    if student.is_per_sample():
        rows = mask.any(dim=1).nonzero().squeeze(1)  # (R,)
        if len(rows):
            view = student(images[rows], mask[rows])
            masked = Tokens(plain.cls.index_copy(0, rows, view.cls), plain.patches.index_copy(0, rows, view.patches))
        else:  # the mask token gets a zero gradient rather than none
            masked = Tokens(plain.cls, plain.patches + 0 * student.mask_token.sum())
    else:
        masked = student(images, mask)
    own = student.grid(images.shape[-2:])
    plain, masked = resample_tokens(plain, own, grid), resample_tokens(masked, own, grid)
    return distillation_loss(objective, plain, masked, target)
