import pytest
import torch

from gkd.models.blocks import block_tokens


def test_tokens_lie_on_the_teachers_grid_and_the_target_is_standardised():
    teacher = torch.randn(2, 6, 3, 4, dtype=torch.float64) * torch.tensor([1, 1, 500, 1, 1, 1])[:, None, None] + 7
    own, target, grid = block_tokens(torch.rand(2, 5, 6, 8, dtype=torch.float64), teacher)
    assert own.shape == (2, 12, 5) and target.shape == (2, 12, 6) and grid == (3, 4)
    torch.testing.assert_close(target.mean(-1), torch.zeros(2, 12, dtype=torch.float64))
    torch.testing.assert_close(
        target.std(-1, unbiased=False), torch.ones(2, 12, dtype=torch.float64), rtol=0, atol=1e-4
    )
    one = teacher[1, :, 2, 1]
    wanted = (one - one.mean()) / (one.var(unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(target[1, 2 * 4 + 1], wanted)


@pytest.mark.parametrize("cell", [(0, 0), (2, 3)])
def test_equal_grids_keep_every_value_at_its_place(cell):
    student = torch.rand(1, 2, 3, 4)
    own, _, (_, columns) = block_tokens(student, torch.rand(1, 2, 3, 4))
    torch.testing.assert_close(own[0, cell[0] * columns + cell[1]], student[0, :, *cell])
