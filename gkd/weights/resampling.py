"""Position and patch embeddings brought to another grid and patch size, as the published code does it.

Without this, timm's own filter does it when it loads pretrained weights (antialiased positions, and kernels by
pseudo-inverse as in FlexiViT).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST_PREFIXES = 16  # class, distillation and register tokens that may have a position of their own


def resample_bicubic(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """A copy of `state` whose `pos_embed` and `patch_embed.proj.weight` fit the grid and patch size of `model`.

    Plain bicubic interpolation (a = -0.75, half-pixel centres), without antialiasing and without a correction of the
    kernels' scale: protocol section 6, item 15. Other tensors, and what fits already, pass as they are. Rows of
    prefix tokens (class, distillation) are kept as many as `state` has: strict loading then names a surplus.

    Args:
        state: names as in `model.state_dict()`; published names are converted before.
        model: timm ViT-like backbone, or an `Encoder` around it.
    """
    own = model.state_dict()
    result = dict(state)
    for key, value in state.items():
        if key not in own or value.shape == own[key].shape:
            continue
        parent, _, name = key.rpartition(".")
        if key.endswith("patch_embed.proj.weight") and value.ndim == own[key].ndim == 4:
            result[key] = _bicubic(value, own[key].shape[2:])  # (C, 3, p, p)
        elif name == "pos_embed" and value.ndim == own[key].ndim == 4:  # (1, rows, columns, C)
            result[key] = _bicubic(value.permute(0, 3, 1, 2), own[key].shape[1:3]).permute(0, 2, 3, 1)
        elif name == "pos_embed" and value.ndim == own[key].ndim == 3:
            result[key] = _positions(value, model.get_submodule(parent).patch_embed.grid_size, key)
    return result


def _positions(positions: Tensor, grid: tuple[int, int], key: str) -> Tensor:
    """(1, prefix + side * side, C) -> (1, prefix + rows * columns, C); a file says no more than its number of rows."""
    side = math.isqrt(positions.shape[1])
    prefix = positions.shape[1] - side * side
    if prefix > MOST_PREFIXES:
        raise ValueError(
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
