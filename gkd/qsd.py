"""Query-based soft distillation (QSD) and the three-term objective of GKD (arXiv 2603.02554).

objective = Objective(student.dim, teacher.dim)                     # fea_head, patch_head, token_head
loss, metrics = distillation_step(student, teacher, objective, images, mask)
loss.backward()
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gkd.models import Encoder, Tokens, resample_tokens
from gkd.models.blocks import BlockPair, block_tokens
from gkd.pooling import cells, pool_tokens, token_grid

Grid = tuple[int, int]
Targets = dict[str, tuple[Tokens, Tensor | None]]  # of each teacher ("" = the first) its tokens and its block's map


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
        pool: light QSD (ours): keys and values are averaged over cells of `pool` x `pool` tokens, queries are not, so
            that attention costs 1/pool^2. 1 = the published form.
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
        pool: int = 1,
    ) -> None:
        super().__init__()
        if pool < 1:
            raise ValueError(f"pool={pool}: the side of a cell in tokens is 1 or more")
        if teacher_dim % num_heads:
            raise ValueError(f"num_heads={num_heads} does not divide the teacher's {teacher_dim} channels")
        self.num_heads, self.pool = num_heads, pool
        self.scale = 1.0 / temperature / (math.sqrt(teacher_dim / num_heads) if scaled else 1.0)
        self.proj_q = projection(student_dim, teacher_dim)
        self.proj_v = projection(student_dim, teacher_dim)
        self.diagonal_bias = None if diagonal_bias is None else nn.Parameter(torch.tensor(float(diagonal_bias)))

    def forward(self, student_tokens: Tensor, teacher_tokens: Tensor, grid: Grid | None = None) -> Tensor:
        """Student tokens (B, N, Cs), teacher tokens (B, N, Ct) -> (B, N, Ct), by fused attention.

        `grid`, the rows and columns of both, matters to pooling alone; without it they must fill a square.
        """
        if student_tokens.shape[1] != teacher_tokens.shape[1]:
            raise ValueError(
                f"QSD got {student_tokens.shape[1]} student and {teacher_tokens.shape[1]} teacher tokens; bring the "
                "student's onto the teacher's grid first (gkd.models.resample_tokens)"
            )
        q = self._split(self.proj_q(student_tokens))  # (B, h, N, Ct/h)
        k = self._split(self._pooled(teacher_tokens, grid))  # (B, h, M, Ct/h), M = N without pooling
        v = self._split(self.values(student_tokens, grid))  # (B, h, M, Ct/h)
        if k.shape[-2] == 1:
            # softmax of a single logit is 1 whatever it is; 0 * logit keeps the gradients zero rather than absent.
            logit = q if self.diagonal_bias is None else q + self._bias(q, grid)
            return (v + 0 * logit).transpose(1, 2).flatten(2)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=self._bias(q, grid), scale=self.scale)
        return out.transpose(1, 2).flatten(2)  # (B, N, Ct)

    def attention_map(self, student_tokens: Tensor, teacher_tokens: Tensor, grid: Grid | None = None) -> Tensor:
        """The attention that `forward` applies: (B, num_heads, N, M), rows sum to one. For looking, not training.

        M is the number of teacher tokens, or of their cells where they are pooled; `grid` is that of the teacher.
        """
        q = self._split(self.proj_q(student_tokens))
        k = self._split(self._pooled(teacher_tokens, grid))
        logits = q @ k.transpose(-2, -1) * self.scale  # (B, h, N, M)
        bias = self._bias(q, grid)
        return (logits if bias is None else logits + bias).softmax(dim=-1)

    def values(self, student_tokens: Tensor, grid: Grid | None = None) -> Tensor:
        """What the attention weighs: projected student tokens (B, N, Cs) -> (B, M, Ct), averaged over cells."""
        norm, linear = self.proj_v
        # The mean of a linear map is the linear map of the mean, which costs 1/pool^2.
        return linear(self._pooled(norm(student_tokens), grid))

    def _pooled(self, tokens: Tensor, grid: Grid | None) -> Tensor:
        return tokens if self.pool == 1 else pool_tokens(tokens, token_grid(tokens.shape[1], grid), self.pool)

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, N, C) -> (B, h, N, C/h)

    def _bias(self, q: Tensor, grid: Grid | None) -> Tensor | None:
        if self.diagonal_bias is None:
            return None
        count = q.shape[-2]
        if self.pool == 1:
            own = torch.eye(count, dtype=q.dtype, device=q.device)
        else:
            own = cells(token_grid(count, grid), self.pool, q.device).to(q.dtype)
        return self.diagonal_bias.to(q.dtype) * own  # (N, M)


class Objective(nn.Module):
    """The heads of the three-term objective, each with weights of its own (protocol section 2).

    Args:
        student_dim: channels Cs of the student tokens.
        teacher_dim: channels Ct of the teacher tokens.
        head: class of the heads, called as `head(student_dim, teacher_dim, **options)`; QSD by default, and
            `gkd.methods.baselines.LinearHead` for plain feature regression.
        weights: factors (patch, fea, token) of the three losses; 1, 1, 1 in the paper.
        blocks: adds a fourth term between two inner blocks (ours), with the head `block_head`. None = no such term.
        block_weight: factor of that term.

    Attributes:
        others: objectives of further teachers by name (ours), whose losses are added; empty in the paper's form.
    """

    def __init__(
        self,
        student_dim: int,
        teacher_dim: int,
        head: type[nn.Module] = QSD,
        weights: tuple[float, float, float] = (1.0, 1.0, 1.0),
        *,
        blocks: BlockPair | None = None,
        block_weight: float = 1.0,
        **options: object,
    ) -> None:
        super().__init__()
        self.weights, self.blocks, self.block_weight = weights, blocks, block_weight
        self.fea_head = head(student_dim, teacher_dim, **options)
        self.patch_head = head(student_dim, teacher_dim, **options)
        self.token_head = head(student_dim, teacher_dim, **options)
        # After the three, and without a key where there are none: heads and checkpoints of the paper's form stay.
        if blocks is not None:
            self.block_head = head(blocks.student_dim, blocks.teacher_dim, **options)
        self.others = nn.ModuleDict()


def _predict(head: nn.Module, student_tokens: Tensor, teacher_tokens: Tensor, grid: Grid | None) -> Tensor:
    """What a head makes of (B, N, Cs) and (B, N, Ct): (B, N, Ct). Heads that pool are told the grid."""
    if getattr(head, "pool", 1) == 1:
        return head(student_tokens, teacher_tokens)
    return head(student_tokens, teacher_tokens, grid)


def _mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over (B, N, C) in at least fp32: half types are upcast, float64 stays."""
    dtype = torch.promote_types(prediction.dtype, torch.float32)
    return F.mse_loss(prediction.to(dtype), target.to(dtype))


def distillation_loss(
    objective: Objective, unmasked: Tokens, masked: Tokens, teacher: Tokens, grid: Grid | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The three terms on tokens: loss and its terms `patch_loss`, `fea_loss`, `token_loss`, `loss` (detached scalars).

    Args:
        objective: the three heads.
        unmasked: student tokens of the plain view, cls (B, Cs) and patches (B, N, Cs).
        masked: student tokens of the view in which some samples have masked patches; same shapes.
        teacher: teacher tokens of the plain view, cls (B, Ct) and patches (B, N, Ct).
        grid: rows and columns of the N patches, for heads that pool; None = they fill a square.

    As published, the masked loss runs over all patches of all samples, and CLS counts twice: by itself and as one
    token beside the patches.
    """
    cls_t = teacher.cls.unsqueeze(1)  # (B, 1, Ct)
    cls = objective.token_head(unmasked.cls.unsqueeze(1), cls_t)  # (B, 1, Ct)
    fea = _predict(objective.fea_head, unmasked.patches, teacher.patches, grid)  # (B, N, Ct)
    patch = _predict(objective.patch_head, masked.patches, teacher.patches, grid)  # (B, N, Ct)

    patch_loss = _mse(patch, teacher.patches)
    fea_loss = _mse(torch.cat([cls, fea], dim=1), torch.cat([cls_t, teacher.patches], dim=1))
    token_loss = _mse(cls, cls_t)
    a, b, c = objective.weights
    loss = a * patch_loss + b * fea_loss + c * token_loss
    metrics = {"patch_loss": patch_loss, "fea_loss": fea_loss, "token_loss": token_loss, "loss": loss}
    return loss, {name: value.detach() for name, value in metrics.items()}


def distillation_step(
    student: Encoder,
    teacher: Encoder,
    objective: Objective,
    images: Tensor,
    mask: Tensor,
    others: Mapping[str, Encoder] | None = None,
    targets: Targets | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """One distillation step on a batch, without the backward pass.

    Args:
        student: encoder that learns.
        teacher: frozen encoder; it runs without gradients, on the plain view, and should be in eval mode.
        objective: the three heads.
        images: (B, 3, H, W), un-normalised floats; each encoder normalises with its own statistics.
        mask: (B, N) boolean on the student's grid, True = replaced; a row may be all False.
        others: further teachers, by the names of `objective.others`. Their losses are added, and their metrics carry
            the name (`clip/fea_loss`); `loss` is the sum.
        targets: what the teachers say of `images`, where it is known (gkd.cache); None = they are asked.

    Rows without a masked patch are not forwarded twice: their tokens are those of the plain view. Encoders whose
    samples are not independent (batch statistics) or whose forward is random (drop path) run both views in full.
    """
    others = others or {}
    if set(others) != set(objective.others):
        raise ValueError(f"teachers {sorted(others)} do not match the objective's {sorted(objective.others)}")
    pairs = _pairs(teacher, objective, others)
    targets = teach(teacher, objective, images, others) if targets is None else targets
    plain, masked, maps = _views(student, images, mask, [o.blocks.student for _, o in pairs.values() if o.blocks])
    grid = student.grid(images.shape[-2:])
    losses, metrics = [], {}
    for name, (encoder, own) in pairs.items():
        target, target_map = targets[name]
        there = encoder.grid(images.shape[-2:])
        views = (resample_tokens(view, grid, there) for view in (plain, masked))
        loss, terms = distillation_loss(own, *views, target, there)
        if own.blocks is not None:
            tokens, goal, block_grid = block_tokens(maps[own.blocks.student], target_map)
            term = _mse(_predict(own.block_head, tokens, goal, block_grid), goal)
            loss = loss + own.block_weight * term
            terms |= {"block_loss": term.detach(), "loss": loss.detach()}
        losses.append(loss)
        metrics |= {f"{name}{key}": value for key, value in terms.items()}
    total = losses[0]
    for loss in losses[1:]:
        total = total + loss
    return total, {**metrics, "loss": total.detach()}


def _pairs(
    teacher: Encoder, objective: Objective, others: Mapping[str, Encoder]
) -> dict[str, tuple[Encoder, Objective]]:
    """Each teacher with its objective, by what its metrics begin with."""
    return {"": (teacher, objective), **{f"{name}/": (others[name], objective.others[name]) for name in others}}


def teach(
    teacher: Encoder, objective: Objective, images: Tensor, others: Mapping[str, Encoder] | None = None
) -> Targets:
    """What the teachers say of images (B, 3, H, W): the part of a step that the student has no share in."""
    pairs = _pairs(teacher, objective, others or {})
    return {name: _teach(encoder, own.blocks, images) for name, (encoder, own) in pairs.items()}


@torch.no_grad()
def _teach(teacher: Encoder, blocks: BlockPair | None, images: Tensor) -> tuple[Tokens, Tensor | None]:
    """A teacher's tokens, and the map (B, Ct, rows, columns) of its block where one is followed."""
    if blocks is None:
        return teacher(images), None
    tokens, maps = teacher.forward_with_blocks(images, [blocks.teacher])
    return tokens, maps[blocks.teacher]


def _views(
    student: Encoder, images: Tensor, mask: Tensor, blocks: list[int]
) -> tuple[Tokens, Tokens, dict[int, Tensor]]:
    """The student's tokens of the plain and of the masked view, and the maps of `blocks` of the plain one."""
    plain, maps = student.forward_with_blocks(images, blocks) if blocks else (student(images), {})
    if not student.is_per_sample():
        return plain, student(images, mask), maps
    rows = mask.any(dim=1).nonzero().squeeze(1)  # (R,)
    if len(rows) == 0:  # the mask token gets a zero gradient rather than none
        return plain, Tokens(plain.cls, plain.patches + 0 * student.mask_token.sum()), maps
    view = student(images[rows], mask[rows])
    masked = Tokens(plain.cls.index_copy(0, rows, view.cls), plain.patches.index_copy(0, rows, view.patches))
    return plain, masked, maps
