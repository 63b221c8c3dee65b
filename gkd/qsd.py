"""Query-based soft distillation (QSD) and the three-term objective of GKD (arXiv 2603.02554).

objective = Objective(student.dim, teacher.dim)
loss, metrics = distillation_step(student, teacher, objective, images, mask)
maps = attention_maps(student, teacher, objective, image)           # where each patch looks
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from gkd.models import Encoder, Tokens, resample_patches

Grid = tuple[int, int]  # rows and columns of patches
Metrics = dict[str, Tensor]  # detached scalars


class TokensAndMaps(NamedTuple):
    """`Tokens` for an objective that names inner blocks."""

    cls: Tensor
    patches: Tensor
    maps: dict[int, Tensor]  # by block number (B, C, rows, columns): its own grid, no final norm


def projection(in_dim: int, out_dim: int) -> nn.Sequential:
    """LayerNorm + Linear: the query and value maps of QSD."""
    return nn.Sequential(nn.LayerNorm(in_dim, eps=1e-5), nn.Linear(in_dim, out_dim))


class QSD(nn.Module):
    """Query-based soft distillation: softmax(q(s) t^T) v(s), to be compared with t.

    Queries and values are projected *student* tokens, keys are the raw teacher tokens, so the teacher only shapes the
    attention. The published form has one head and no 1/sqrt(C) (the defaults).

    Args:
        student_dim, teacher_dim: channels Cs and Ct of the tokens; the output has Ct.
        num_heads: attention heads; they split the Ct channels.
        scaled: divide the logits by sqrt(Ct / num_heads).
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
        diagonal_bias: float | None = None,
        pool: int = 1,
    ) -> None:
        super().__init__()
        if pool < 1:
            raise ValueError(f"pool={pool}: the side of a cell in tokens is 1 or more")
        if num_heads < 1 or teacher_dim % num_heads:
            raise ValueError(f"num_heads={num_heads} does not divide the teacher's {teacher_dim} channels")
        self.num_heads, self.pool = num_heads, pool
        self.scale = 1.0 / (math.sqrt(teacher_dim / num_heads) if scaled else 1.0)
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
                "student's onto the teacher's grid first (gkd.models.resample_patches)"
            )
        q = self._split(self.proj_q(student_tokens))  # (B, h, N, Ct/h)
        k = self._split(pool_tokens(teacher_tokens, grid, self.pool))  # (B, h, M, Ct/h), M = N without pooling
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
        k = self._split(pool_tokens(teacher_tokens, grid, self.pool))
        logits, bias = q @ k.transpose(-2, -1) * self.scale, self._bias(q, grid)  # (B, h, N, M)
        return (logits if bias is None else logits + bias).softmax(dim=-1)

    def values(self, student_tokens: Tensor, grid: Grid | None = None) -> Tensor:
        """What the attention weighs: projected student tokens (B, N, Cs) -> (B, M, Ct), averaged over cells."""
        norm, linear = self.proj_v
        # The mean of a linear map is the linear map of the mean, which costs 1/pool^2.
        return linear(pool_tokens(norm(student_tokens), grid, self.pool))

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, N, C) -> (B, h, N, C/h)

    def _bias(self, q: Tensor, grid: Grid | None) -> Tensor | None:
        if self.diagonal_bias is None:
            return None
        n, device = q.shape[-2], q.device
        own = torch.eye(n, device=device) if self.pool == 1 else cells(token_grid(n, grid), self.pool, device)
        return self.diagonal_bias.to(q.dtype) * own.to(q.dtype)  # (N, M)


class Objective(nn.Module):
    """The three-term objective of GKD; each head is a `head(student_dim, teacher_dim, **options)` of its own.

    `weights` are the factors (patch, fea, token) of the three losses; 1, 1, 1 in the paper.
    """

    def __init__(
        self,
        student_dim: int,
        teacher_dim: int,
        head: type[nn.Module] = QSD,
        weights: Sequence[float] = (1.0, 1.0, 1.0),
        **options: object,
    ) -> None:
        super().__init__()
        if len(weights) != 3:
            raise ValueError(f"weights={list(weights)}: expected three, of the patch, fea and token losses")
        self.weights = tuple(weights)
        heads = (head(student_dim, teacher_dim, **options) for _ in range(3))
        self.fea_head, self.patch_head, self.token_head = heads

    def forward(
        self, unmasked: Tokens, masked: Tokens, teacher: Tokens, grid: Grid | None = None
    ) -> tuple[Tensor, Metrics]:
        """See `distillation_loss`. As published, the masked term runs over all patches of all samples, and CLS counts
        twice: by itself and as one token beside the patches."""
        place = (grid,) if getattr(self.fea_head, "pool", 1) > 1 else ()  # heads that pool are told the grid
        cls_t = teacher.cls.unsqueeze(1)  # (B, 1, Ct)
        cls = self.token_head(unmasked.cls.unsqueeze(1), cls_t)  # (B, 1, Ct)
        fea = self.fea_head(unmasked.patches, teacher.patches, *place)  # (B, N, Ct)
        patch = self.patch_head(masked.patches, teacher.patches, *place)  # (B, N, Ct)

        patch_loss = _mse(patch, teacher.patches)
        fea_loss = _mse(torch.cat([cls, fea], dim=1), torch.cat([cls_t, teacher.patches], dim=1))
        token_loss = _mse(cls, cls_t)
        a, b, c = self.weights
        loss = a * patch_loss + b * fea_loss + c * token_loss
        metrics = {"patch_loss": patch_loss, "fea_loss": fea_loss, "token_loss": token_loss, "loss": loss}
        return loss, {name: value.detach() for name, value in metrics.items()}


def qsd_objective(
    student_dim: int,
    teacher_dim: int,
    num_heads: PositiveInt = 1,
    scaled: bool = False,
    diagonal_bias: float | None = None,
    pool: PositiveInt = 1,
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Objective:
    """`Objective` with heads of QSD; its signature is what params.yaml may say of them."""
    options = {"num_heads": num_heads, "scaled": scaled, "diagonal_bias": diagonal_bias, "pool": pool}
    return Objective(student_dim, teacher_dim, QSD, weights, **options)


def _mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over (B, N, C) in at least fp32: half types are upcast, float64 stays."""
    dtype = torch.promote_types(prediction.dtype, torch.float32)
    return F.mse_loss(prediction.to(dtype), target.to(dtype))


def distillation_loss(
    objective: nn.Module, unmasked: Tokens, masked: Tokens, teacher: Tokens, grid: Grid | None = None
) -> tuple[Tensor, Metrics]:
    """The loss of an objective and its metrics (of `Objective`: patch_loss, fea_loss, token_loss, loss) on tokens.

    Student tokens, cls (B, Cs) and patches (B, N, Cs), of the plain view and of that in which some samples have masked
    patches; teacher tokens, (B, Ct) and (B, N, Ct), of the plain view. `grid`, the rows and columns of the N patches,
    is for heads that pool; None = they fill a square.
    """
    return objective(unmasked, masked, teacher, grid)


def distillation_step(
    student: Encoder, teacher: Encoder, objective: nn.Module, images: Tensor, mask: Tensor | None
) -> tuple[Tensor, Metrics]:
    """One distillation step on a batch, without the backward pass.

    Args:
        student, teacher: encoders. The teacher runs without gradients, on the plain view, and should be in eval mode.
        objective: the heads. One that follows inner blocks names them in `student_blocks` and `teacher_blocks` (numbers
            from 0): then `unmasked` and `teacher` reach it as `TokensAndMaps`, from the same forward pass.
        images: (B, 3, H, W), un-normalised floats; each encoder normalises with its own statistics.
        mask: (B, N) boolean on the student's grid, True = replaced; a row may be all False. None: no patch is.

    Rows without a masked patch are not forwarded twice: their tokens are those of the plain view. Encoders whose
    samples are not independent (batch statistics) or whose forward is random (drop path) run both views in full, but
    with None for a mask the plain view serves as both.
    """
    with torch.no_grad():
        target = _tokens(teacher, images, getattr(objective, "teacher_blocks", ()))
    plain = _tokens(student, images, getattr(objective, "student_blocks", ()))
    size = images.shape[-2:]
    grid, there = student.grid(size), teacher.grid(size)
    unmasked, masked = (
        view._replace(patches=resample_patches(view.patches, grid, there))
        for view in (plain, _masked_view(student, plain, images, mask))
    )
    return distillation_loss(objective, unmasked, masked, target, there)


def _tokens(encoder: Encoder, images: Tensor, blocks: Sequence[int]) -> Tokens | TokensAndMaps:
    if not blocks:
        return encoder(images)
    tokens, maps = encoder.forward_with_blocks(images, blocks)
    return TokensAndMaps(*tokens, maps)


def _masked_view(student: Encoder, plain: Tokens | TokensAndMaps, images: Tensor, mask: Tensor | None) -> Tokens:
    """The student's tokens of the masked view, by a forward pass of as few samples as give it."""
    if mask is not None and not student.is_per_sample():
        return student(images, mask)
    rows = () if mask is None else mask.any(dim=1).nonzero().squeeze(1)  # (R,)
    if len(rows) == 0:  # the mask token gets a zero gradient rather than none
        return Tokens(plain.cls, plain.patches + 0 * student.mask_token.sum())
    view = student(images[rows], mask[rows])
    return Tokens(plain.cls.index_copy(0, rows, view.cls), plain.patches.index_copy(0, rows, view.patches))


@torch.inference_mode()
def attention_maps(student: Encoder, teacher: Encoder, objective: nn.Module, image: Tensor) -> dict[str, np.ndarray]:
    """What each patch of one image (3, H, W) attends to among the teacher's patches.

    Returns "fea_head" and "patch_head", the attention of the two QSD heads averaged over heads (rows sum to one),
    and "teacher cosine", the similarity of the teacher's own tokens; all (N, N) float on the teacher's grid, as in
    training. Light QSD attends to cells; its maps are spread over the patches of each. The modules, in eval mode, lie
    on one device; the image is moved there. TypeError for heads without attention (plain regression).
    """
    size = image.shape[-2:]
    grid = teacher.grid(size)
    images = image[None].to(next(student.parameters()).device)  # (1, 3, H, W)
    tokens = resample_patches(student(images).patches, student.grid(size), grid)  # (1, M, Cs)
    target = teacher(images).patches  # (1, M, Ct)
    unit = F.normalize(target[0], dim=-1)
    maps = {}
    for name in ("fea_head", "patch_head"):
        head = getattr(objective, name, None)
        if not hasattr(head, "attention_map"):
            raise TypeError(f"objective.{name} is a {type(head).__name__} without attention; a QSD head is needed")
        attention = head.attention_map(tokens, target, grid)[0].mean(dim=0)  # (N, M), or (N, cells) where it pools
        maps[name] = attention if head.pool == 1 else spread(attention, grid, head.pool)
    maps["teacher cosine"] = unit @ unit.T
    return {name: found.float().cpu().numpy() for name, found in maps.items()}


def token_grid(count: int, grid: Grid | None) -> Grid:
    """Rows and columns of `count` tokens: `grid`, or the square that they fill; ValueError where they fill neither."""
    if grid is None:
        grid = math.isqrt(count), math.isqrt(count)
        if grid[0] ** 2 != count:
            raise ValueError(f"{count} tokens fill no square grid, and pooling needs one: pass grid=(rows, columns)")
    if grid[0] * grid[1] != count:
        raise ValueError(f"{count} tokens do not fill a grid of {grid[0]} x {grid[1]}")
    return grid


def pool_tokens(tokens: Tensor, grid: Grid | None, pool: int) -> Tensor:
    """Tokens (B, N, C) on `grid` -> (B, M, C), the means over cells of `pool` x `pool` tokens, fewer at the border."""
    if pool == 1:
        return tokens
    maps = tokens.transpose(1, 2).unflatten(2, token_grid(tokens.shape[1], grid))  # (B, C, rows, columns)
    pooled = F.avg_pool2d(maps, pool, ceil_mode=True)  # the divisor counts tokens, not the place beyond the border
    return pooled.flatten(2).transpose(1, 2)  # (B, M, C)


def cells(grid: Grid, pool: int, device: torch.device | None = None) -> Tensor:
    """(N, M) boolean: whether a token of `grid` lies in a cell; M = ceil(rows / pool) * ceil(columns / pool)."""
    rows, columns = (torch.arange(length, device=device) // pool for length in grid)
    cell = rows[:, None] * -(-grid[1] // pool) + columns  # (rows, columns)
    return F.one_hot(cell.flatten()).bool()


def spread(attention: Tensor, grid: Grid, pool: int) -> Tensor:
    """Attention over cells (..., M) -> over the tokens of `grid` (..., N): spread(A) @ v is A @ pool_tokens(v)."""
    inside = cells(grid, pool, attention.device).to(attention.dtype)  # (N, M)
    return attention @ (inside / inside.sum(dim=0)).T
