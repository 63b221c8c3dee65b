"""Counted FLOPs against formulas written by hand, and counted memory against what a real step keeps."""

import pytest
import torch
from tiny_models import tiny_vit

from gkd.counting import count_distillation, count_task
from gkd.methods.baselines import LinearHead
from gkd.models import Encoder
from gkd.qsd import Objective, distillation_step
from gkd.segmentation.decoders import ConvDecoder, LinearDecoder, Segmentor
from gkd.train.compute import frozen_copy


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


def shapes(name, **options):
    with torch.device("meta"):
        return Encoder.create(name, **options)


@pytest.fixture(scope="module")
def pair():
    student, teacher = (shapes(f"vit_{size}_patch16_224", img_size=512) for size in ("small", "base"))
    return student, teacher.requires_grad_(False).eval()


def objective(pair, **options):
    with torch.device("meta"):
        return Objective(pair[0].dim, pair[1].dim, **options)


def test_a_vit_step_by_hand(pair) -> None:
    flops = count_distillation(*pair, objective(pair), (512, 512)).flops
    student, teacher = vit(1024, 384, 12), vit(1024, 768, 12)
    assert flops["teacher"] == pytest.approx(teacher, rel=0.02)
    assert flops["student, forward"] == pytest.approx(1.5 * student, rel=0.02)
    assert flops["QSD and losses, forward"] == pytest.approx(heads(1024, 384, 768), rel=0.02)
    # Backward: twice the products; attention five products instead of two; no gradient of the images.
    attention = 12 * 4 * 1025**2 * 384
    backward = 1.5 * (2 * (student - attention) + 2.5 * attention - 2 * 1024 * 768 * 384)
    assert flops["student, backward"] == pytest.approx(backward, rel=0.02)


def test_light_qsd_by_hand(pair) -> None:
    flops = count_distillation(*pair, objective(pair, pool=2), (512, 512)).flops
    assert flops["QSD and losses, forward"] == pytest.approx(heads(1024, 384, 768, pool=2), rel=0.02)


def small(**options):
    student, teacher = tiny_vit(seed=1), tiny_vit(dim=48, seed=2).requires_grad_(False).eval()
    return student, teacher, Objective(student.dim, teacher.dim, **options)


@pytest.mark.parametrize("masked, views", [(0, 1), (0.25, 1.25), (0.5, 1.5), (1, 2)])
def test_masked_views_are_counted(masked, views) -> None:
    flops = count_distillation(*small(), (32, 32), masked=masked).flops
    assert flops["student, forward"] == pytest.approx(views * vit(16, 24, 2, patch=8), rel=0.001)


def test_counting_leaves_the_models_alone() -> None:
    models = small()
    state = lambda: [t.clone() for m in models for t in m.state_dict().values()]  # noqa: E731
    before = state()
    flags = [p.requires_grad for m in models for p in m.parameters()]
    count_distillation(*models, (32, 32), torch.bfloat16)
    assert all(torch.equal(a, b) for a, b in zip(before, state(), strict=True))
    assert flags == [p.requires_grad for m in models for p in m.parameters()]
    assert all(p.grad is None for m in models for p in m.parameters())


@pytest.mark.parametrize("head", [{}, {"head": LinearHead}, {"pool": 2}, {"scaled": True, "diagonal_bias": 6.0}])
def test_activations_are_those_of_a_real_step(head) -> None:
    student, teacher, heads = small(**head)
    cost = count_distillation(student, teacher, heads, (32, 32))
    images, mask = torch.rand(4, 3, 32, 32), torch.zeros(4, 16, dtype=torch.bool)
    mask[:2, :8] = True
    own = {t.untyped_storage().data_ptr() for m in (student, teacher, heads) for t in (*m.parameters(), *m.buffers())}
    kept = {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss, _ = distillation_step(student, teacher, heads, images, mask)
    real = sum(size for place, size in kept.items() if place not in own)
    assert loss.requires_grad
    assert 4 * cost.activations + cost.constant == pytest.approx(real, rel=0.02)


def test_bf16_halves_the_activations_and_keeps_cast_weights() -> None:
    student, teacher, heads = small()
    full = count_distillation(student, teacher, heads, (32, 32))
    half = count_distillation(student, frozen_copy(teacher, torch.float32), heads, (32, 32), torch.bfloat16)
    assert half.flops == full.flops
    assert 0.45 < half.activations / full.activations < 0.75  # losses stay fp32
    weights = sum(2 * p.numel() for m in (student, heads) for p in m.parameters())
    assert full.constant == 0
    assert 0.8 * weights < half.constant <= weights


def test_task_learning_by_hand() -> None:
    encoder = tiny_vit()
    frozen = count_task(Segmentor(encoder, LinearDecoder(24, 5), frozen=True), (32, 32), 5).flops
    forward = vit(16, 24, 2, patch=8)
    assert frozen["student, forward"] == pytest.approx(forward, rel=0.001)
    assert frozen["decoder and loss, forward"] == 2 * 16 * 24 * 5
    assert frozen["student, backward"] == 0 and frozen["teacher"] == 0
    tuned = count_task(Segmentor(encoder, LinearDecoder(24, 5), frozen=False), (32, 32), 5).flops
    assert tuned["student, backward"] == pytest.approx(2 * forward, rel=0.1)


def test_the_guide_of_kd_is_a_forward_pass() -> None:
    student, teacher = tiny_vit(), tiny_vit(dim=48)
    guide = Segmentor(teacher, ConvDecoder(48, 5, 32), frozen=True)
    model = Segmentor(student, ConvDecoder(24, 5, 32), frozen=False)
    alone = count_task(guide, (32, 32), 5).flops
    guided = count_task(model, (32, 32), 5, guide).flops
    assert guided["teacher"] == alone["student, forward"] + alone["decoder and loss, forward"]
