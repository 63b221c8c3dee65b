import pytest
import torch

from gkd.models.masking import masked_embedding


class Embed(torch.nn.Module):
    """Returns what a patch embedding may: tokens in a row, on their grid, or with the grid beside them."""

    def forward(self, x):
        return x


@pytest.mark.parametrize("kind", ["row", "grid", "tuple"])
def test_the_token_stands_in_for_masked_patches_and_goes_away_again(kind):
    tokens, token = torch.rand(2, 6, 4, dtype=torch.float64), torch.full((1, 4), 7.0)
    mask = torch.zeros(2, 6, dtype=torch.bool)
    mask[1, 2] = True
    given = {"row": tokens, "grid": tokens.view(2, 2, 3, 4), "tuple": (tokens, (2, 3))}[kind]
    embed = Embed()
    with masked_embedding(embed, token, mask):
        found = embed(given)
    if kind == "tuple":
        assert found[1] == (2, 3)
        found = found[0]
    expected = tokens.clone()
    expected[1, 2] = 7
    assert found.dtype == torch.float64 and torch.equal(found.reshape(2, 6, 4), expected)
    assert embed(given) is given


def test_the_embedding_is_free_again_after_an_error():
    embed = Embed()
    with pytest.raises(KeyError), masked_embedding(embed, torch.zeros(1, 4), torch.ones(2, 6, dtype=torch.bool)):
        raise KeyError
    assert embed(torch.ones(2, 6, 4)).all()
