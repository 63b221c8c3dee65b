import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gkd.pooling import cells, pool_tokens, spread, token_grid

GRIDS = st.tuples(st.integers(1, 7), st.integers(1, 7))


def by_hand(tokens, grid, pool):
    """Means over cells, one cell at a time."""
    maps = tokens.unflatten(1, grid)
    rows, columns = (range(0, length, pool) for length in grid)
    means = [maps[:, r : r + pool, c : c + pool].flatten(1, 2).mean(1) for r in rows for c in columns]
    return torch.stack(means, dim=1)


@settings(max_examples=40)
@given(grid=GRIDS, pool=st.integers(1, 5), seed=st.integers(0, 99))
def test_a_pooled_token_is_the_mean_of_its_cell(grid, pool, seed):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(2, grid[0] * grid[1], 3, generator=generator, dtype=torch.float64)
    pooled = pool_tokens(tokens, grid, pool)
    torch.testing.assert_close(pooled, by_hand(tokens, grid, pool))
    inside = cells(grid, pool)
    assert inside.shape == (tokens.shape[1], pooled.shape[1])
    assert (inside.sum(1) == 1).all() and inside.any(0).all()
    torch.testing.assert_close(inside.double().T @ tokens / inside.sum(0)[:, None], pooled)


@settings(max_examples=20)
@given(grid=GRIDS, pool=st.integers(1, 4), seed=st.integers(0, 99))
def test_attention_spread_over_tokens_gives_the_same_output(grid, pool, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(1, grid[0] * grid[1], 3, generator=generator, dtype=torch.float64)
    pooled = pool_tokens(values, grid, pool)
    attention = torch.rand(1, 5, pooled.shape[1], generator=generator, dtype=torch.float64).softmax(-1)
    wide = spread(attention, grid, pool)
    torch.testing.assert_close(wide @ values, attention @ pooled)
    torch.testing.assert_close(wide.sum(-1), torch.ones(1, 5, dtype=torch.float64))


def test_only_a_square_is_taken_for_granted():
    assert token_grid(16, None) == (4, 4) and token_grid(1, None) == (1, 1) and token_grid(12, (3, 4)) == (3, 4)
    with pytest.raises(ValueError, match=r"12 tokens fill no square grid.*grid=\(rows, columns\)"):
        token_grid(12, None)
    with pytest.raises(ValueError, match="12 tokens do not fill a grid of 4 x 4"):
        token_grid(12, (4, 4))
