import time

import pytest
import torch
from profiling import PARTS, medians, spent, step_marks
from tiny_models import tiny_vit

from gkd.qsd import Objective


@pytest.fixture
def models():
    torch.manual_seed(0)
    student, teacher = tiny_vit(seed=1), tiny_vit(dim=48, seed=2).requires_grad_(False).eval()
    return student.train(), teacher, Objective(student.dim, teacher.dim)


def batch(masked=2):
    mask = torch.zeros(4, 16, dtype=torch.bool)
    mask[:masked, :8] = True
    return torch.rand(4, 3, 32, 32), mask


def test_the_parts_add_up_to_a_training_step_and_waiting_is_data(models) -> None:
    def slow():
        for _ in range(2):
            time.sleep(0.2)
            yield batch()

    before = [p.clone() for p in models[0].parameters()]
    steps = list(step_marks(*models, slow(), lr=1e-3))
    parts = spent(steps[0])
    assert tuple(parts) == PARTS and all(seconds > 0 for seconds in parts.values()) and parts["data"] >= 0.2
    assert sum(parts.values()) == pytest.approx(steps[0][-1][1] - steps[0][0][1])
    assert medians(steps)["teacher"] == pytest.approx(sum(spent(marks)["teacher"] for marks in steps) / 2)
    assert any((a != b).any() for a, b in zip(before, models[0].parameters(), strict=True))
    assert not models[0]._forward_hooks and not models[0]._forward_pre_hooks
