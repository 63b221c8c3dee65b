"""notebooks/explore_start.ipynb: what it reads of an attention."""

import nbformat
import pytest
import torch

from gkd.models import Tokens
from gkd.params import ROOT
from gkd.qsd import Objective


@pytest.mark.parametrize(
    ("bias", "options", "expected"),
    [
        (1e4, {"diagonal_bias": 0.0}, {"entropy": 0, "own place": 1, "sink": 1 / 9}),
        (None, {}, {"entropy": 1, "own place": 1 / 9, "sink": 1 / 9}),
    ],
)
def test_entropy_own_place_and_sink(bias: float | None, options: dict, expected: dict[str, float]) -> None:
    cells = nbformat.read(ROOT / "notebooks" / "explore_start.ipynb", 4).cells
    names: dict = {}
    for cell in cells:
        if cell.source.startswith(("import math", "class Watched")):
            exec(compile(cell.source, cell.id, "exec"), names)
    heads = Objective(4, 6, **options)
    for parameter in heads.fea_head.proj_q.parameters():
        torch.nn.init.zeros_(parameter)  # all logits are equal
    if bias is not None:
        heads.fea_head.diagonal_bias.data.fill_(bias)
    student, teacher = Tokens(torch.randn(2, 4), torch.randn(2, 9, 4)), Tokens(torch.randn(2, 6), torch.randn(2, 9, 6))
    loss, metrics = names["Watched"](heads)(student, student, teacher)
    assert {name: float(metrics[name]) for name in expected} == pytest.approx(expected, abs=1e-6)
    assert loss == heads(student, student, teacher)[0]
