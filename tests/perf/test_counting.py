"""Counted FLOPs against formulas written by hand, and counted memory against what a real step keeps."""

import copy

import pytest
import torch
from counting import count_distillation, count_task
from tiny_models import tiny_vit

from gkd.methods.mse import RegressionHead
from gkd.models import Encoder
from gkd.qsd import Objective, distillation_step
from gkd.segmentation.decoders import ConvDecoder, LinearDecoder, Segmentor


def vit(tokens, dim, depth, patch=16):
    """Forward FLOPs of a ViT with one class token, an image."""
    t = tokens + 1
    block = 2 * t * dim * 3 * dim + 4 * t * t * dim + 2 * t * dim * dim + 2 * 2 * t * dim * 4 * dim
    return 2 * tokens * 3 * patch**2 * dim + depth * block


def heads(tokens, student, teacher, pool=1):
    """Forward FLOPs of the three QSD heads, an image."""
    keys = tokens / pool**2
    grid = 2 * (tokens + keys) * student * teacher + 4 * tokens * keys * teacher
    return 2 * grid + 2 * 2 * student * teacher  # and the class token's


@pytest.mark.parametrize("pool", [1, 2])
def test_a_vit_step_by_hand(pool) -> None:
    with torch.device("meta"):
        student, teacher = (Encoder.create(f"vit_{name}_patch16_224", img_size=512) for name in ("small", "base"))
        objective = Objective(384, 768, pool=pool)
    flops = count_distillation(student, teacher.requires_grad_(False).eval(), objective, (512, 512)).flops
    forward = vit(1024, 384, 12)
    # Backward: twice the products; attention five products instead of two; no gradient of the images.
    attention = 12 * 4 * 1025**2 * 384
    expected = {
        "teacher": vit(1024, 768, 12),
        "student, forward": 1.5 * forward,
        "QSD and losses, forward": heads(1024, 384, 768, pool),
        "student, backward": 1.5 * (2 * (forward - attention) + 2.5 * attention - 2 * 1024 * 768 * 384),
    }
    assert {name: flops[name] for name in expected} == pytest.approx(expected, rel=0.02)


def small(**options):
    student, teacher = tiny_vit(seed=1), tiny_vit(dim=48, seed=2).requires_grad_(False).eval()
    return student, teacher, Objective(student.dim, teacher.dim, **options)


@pytest.mark.parametrize("head", [{}, {"head": RegressionHead}, {"pool": 2}, {"scaled": True, "diagonal_bias": 6.0}])
def test_activations_are_those_of_a_real_step_and_the_models_stay_as_they_are(head) -> None:
    models = small(**head)
    before = copy.deepcopy([m.state_dict() for m in models])
    cost = count_distillation(*models, (32, 32))
    torch.testing.assert_close([m.state_dict() for m in models], before, rtol=0, atol=0)
    images, mask = torch.rand(4, 3, 32, 32), torch.zeros(4, 16, dtype=torch.bool)
    mask[:2, :8] = True
    own = {t.untyped_storage().data_ptr() for m in models for t in (*m.parameters(), *m.buffers())}
    kept = {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss, _ = distillation_step(*models, images, mask)
    real = sum(size for place, size in kept.items() if place not in own)
    assert loss.requires_grad
    assert 4 * cost.activations + cost.constant == pytest.approx(real, rel=0.02)


def test_task_learning_by_hand_and_its_guide_is_a_forward_pass() -> None:
    encoder, forward = tiny_vit(), vit(16, 24, 2, patch=8)
    frozen = count_task(Segmentor(encoder, LinearDecoder(24, 5), frozen=True), (32, 32), 5).flops
    assert frozen["student, forward"] == pytest.approx(forward, rel=0.001)
    assert frozen["decoder and loss, forward"] == 2 * 16 * 24 * 5
    assert frozen["student, backward"] == 0 and frozen["teacher"] == 0
    guide = Segmentor(tiny_vit(dim=48), ConvDecoder(48, 5, 32), frozen=True)
    alone = count_task(guide, (32, 32), 5).flops
    guided = count_task(Segmentor(encoder, LinearDecoder(24, 5), frozen=False), (32, 32), 5, guide).flops
    assert guided["student, backward"] == pytest.approx(2 * forward, rel=0.1)
    assert guided["teacher"] == alone["student, forward"] + alone["decoder and loss, forward"]
