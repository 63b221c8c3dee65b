import pytest
import torch

from gkd.models.masking import masked_embedding


class Embed(torch.nn.Module):
    """Returns what a patch embedding may: tokens in a row, on their grid, or with the grid beside them."""

    def forward(self, x):
        return x


@pytest.mark.parametrize("kind", ["row", "grid", "tuple"])
def test_the_token_stands_in_for_masked_patches_and_goes_away_again(kind):
    tokens, token, embed = torch.rand(2, 6, 4, dtype=torch.float64), torch.full((1, 4), 7.0), Embed()
    mask = torch.arange(12).view(2, 6) == 8
    given = {"row": tokens, "grid": tokens.view(2, 2, 3, 4), "tuple": (tokens, (2, 3))}[kind]
    with masked_embedding(embed, token, mask):
        found = embed(given)
    if kind == "tuple":
        found, grid = found
        assert grid == (2, 3)
    expected = torch.where(mask[..., None], 7, tokens)
    assert found.dtype == torch.float64 and torch.equal(found.reshape(2, 6, 4), expected)
    assert embed(given) is given
    with pytest.raises(KeyError), masked_embedding(embed, token, mask):
        raise KeyError
    assert embed(given) is given
