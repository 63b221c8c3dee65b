"""Average pooling of tokens over the cells of a coarser grid: what light QSD attends to."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def token_grid(count: int, grid: tuple[int, int] | None) -> tuple[int, int]:
    """Rows and columns of `count` tokens: `grid` if given (checked), else the square that they fill.

    Raises:
        ValueError: the tokens do not fill `grid`, or no grid is given and they fill no square.
    """
    if grid is None:
        side = math.isqrt(count)
        grid = side, side
        if side * side != count:
            raise ValueError(f"{count} tokens fill no square grid, and pooling needs one: pass grid=(rows, columns)")
    if grid[0] * grid[1] != count:
        raise ValueError(f"{count} tokens do not fill a grid of {grid[0]} x {grid[1]}")
    return grid


def pool_tokens(tokens: Tensor, grid: tuple[int, int], pool: int) -> Tensor:
    """Tokens (B, N, C) on `grid` -> (B, M, C), the means over cells of `pool` x `pool` tokens.

    Where `pool` does not divide the grid, the cells of the last row and column are smaller.
    """
    maps = tokens.transpose(1, 2).unflatten(2, grid)  # (B, C, rows, columns)
    pooled = F.avg_pool2d(maps, pool, ceil_mode=True)  # the divisor counts tokens, not the place beyond the border
    return pooled.flatten(2).transpose(1, 2)  # (B, M, C)


def cells(grid: tuple[int, int], pool: int, device: torch.device | None = None) -> Tensor:
    """(N, M) boolean: whether a token of `grid` lies in a cell; M = ceil(rows / pool) * ceil(columns / pool)."""
    rows, columns = (torch.arange(length, device=device) // pool for length in grid)
    cell = rows[:, None] * -(-grid[1] // pool) + columns  # (rows, columns)
    return F.one_hot(cell.flatten()).bool()


def spread(attention: Tensor, grid: tuple[int, int], pool: int) -> Tensor:
    """Attention over cells (..., M) -> over the tokens of `grid` (..., N): each token gets its share of the cell's.

    Exact: spread(A) @ v equals A @ pool_tokens(v).
    """
    inside = cells(grid, pool, attention.device).to(attention.dtype)  # (N, M)
    return attention @ (inside / inside.sum(dim=0)).T
