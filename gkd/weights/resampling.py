"""Position and patch embeddings brought to another grid and patch size, as the published code does it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gkd.weights.tensors import CheckpointError

RESAMPLED = ("pos_embed", "patch_embed.proj.weight")
MOST_PREFIXES = 16  # class, distillation and register tokens that may have a position of their own


def resample_bicubic(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """A copy of `state` whose `pos_embed` and `patch_embed.proj.weight` fit the grid and patch size of `model`.

    Plain bicubic interpolation (a = -0.75, half-pixel centres), without antialiasing and without a correction of the
    kernels' scale, for both. timm's own loading antialiases positions and fits kernels by pseudo-inverse (FlexiViT).
    Other tensors, and what fits already, pass as they are. Rows of prefix tokens (class, distillation) are kept as many
    as `state` has: strict loading then names a surplus.

    Args:
        state: names as in `model.state_dict()`.
        model: timm ViT-like backbone, or an `Encoder` around it.

    Raises:
        CheckpointError: the grid of a position embedding is not square, so its rows and columns are unknown.
    """
    own = model.state_dict()
    result = dict(state)
    for key, value in state.items():
        if key not in own or not key.endswith(RESAMPLED) or value.ndim != own[key].ndim:
            continue
        parent, _, name = key.rpartition(".")
        if name == "pos_embed" and value.ndim == 3:
            grid = getattr(getattr(model.get_submodule(parent), "patch_embed", None), "grid_size", None)
            if grid is not None:
                result[key] = _positions(value, tuple(grid), own[key].shape[1], key)
        elif value.shape == own[key].shape:
            continue
        elif name == "pos_embed":  # (1, rows, columns, C)
            result[key] = _bicubic(value.permute(0, 3, 1, 2), own[key].shape[1:3]).permute(0, 2, 3, 1)
        elif value.ndim == 4:  # (C, 3, p, p)
            result[key] = _bicubic(value, own[key].shape[2:])
    return result


def _positions(positions: Tensor, grid: tuple[int, int], wanted: int, key: str) -> Tensor:
    """(1, prefix + side * side, C) -> (1, prefix + rows * columns, C), where the model has `wanted` rows in all.

    A file says no more than its number of rows. Published grids are square, so as many rows as a wide grid has, where
    they make a square one, are taken for a square one.
    """
    side = math.isqrt(positions.shape[1])
    prefix = positions.shape[1] - side * side
    fits = positions.shape[1] == wanted and prefix != wanted - math.prod(grid)
    if fits or grid == (side, side):
        return positions
    if prefix > MOST_PREFIXES:
        raise CheckpointError(
            f"{key} has {positions.shape[1]} rows: no square grid with up to {MOST_PREFIXES} prefix tokens, so its "
            "rows and columns are unknown; resample it before"
        )
    maps = positions[:, prefix:].unflatten(1, (side, side)).permute(0, 3, 1, 2)  # (1, C, side, side)
    maps = _bicubic(maps, grid)
    return torch.cat([positions[:, :prefix], maps.flatten(2).transpose(1, 2)], dim=1)


def _bicubic(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, h, w) -> (B, C, *size) in at least fp32, in the type that came in."""
    wide = maps.to(torch.promote_types(maps.dtype, torch.float32))
    return F.interpolate(wide, tuple(size), mode="bicubic", align_corners=False, antialias=False).to(maps.dtype)
