import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from gkd.methods.baselines import LinearHead, pixel_kl
from gkd.qsd import Objective


def test_the_linear_head_is_layer_norm_and_linear_and_ignores_the_teacher():
    head = LinearHead(5, 7)
    s = torch.randn(2, 3, 5)
    norm, linear = head.proj
    expected = F.linear(F.layer_norm(s, (5,), norm.weight, norm.bias, 1e-5), linear.weight, linear.bias)
    torch.testing.assert_close(head(s, torch.randn(2, 3, 7)), expected)
    assert list(head.state_dict()) == ["proj.0.weight", "proj.0.bias", "proj.1.weight", "proj.1.bias"]


def test_it_fits_into_the_objective():
    keys = [f"proj.{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")]
    expected = [f"{head}.{key}" for head in ("fea_head", "patch_head", "token_head") for key in keys]
    assert list(Objective(5, 7, head=LinearHead).state_dict()) == expected


@settings(max_examples=20)
@given(st.integers(1, 2), st.integers(2, 4), st.integers(1, 3), st.sampled_from([0.5, 1.0, 4.0]), st.integers(0, 99))
def test_pixel_kl_is_its_formula(batch, classes, side, temperature, seed):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, classes, side, side)
    student, teacher = (3 * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    total = 0.0
    for b in range(batch):
        for y in range(side):
            for x in range(side):
                p, q = ((z[b, :, y, x] / temperature).softmax(0) for z in (student, teacher))
                total += (q * (q / p).log()).sum()
    expected = temperature**2 * total / (batch * side * side)
    torch.testing.assert_close(pixel_kl(student, teacher, temperature), expected, rtol=1e-9, atol=1e-9)


def test_equal_logits_cost_nothing_and_the_gradient_leads_there():
    teacher = torch.randn(1, 3, 4, 4)
    assert pixel_kl(teacher, teacher).abs() < 1e-6
    student = torch.zeros_like(teacher, requires_grad=True)
    before = pixel_kl(student, teacher)
    before.backward()
    with torch.no_grad():
        assert pixel_kl(student - 10 * student.grad, teacher) < before


def test_the_teachers_logits_are_resized_to_the_students():
    teacher = torch.randn(1, 3, 1, 1)
    student = torch.randn(1, 3, 4, 4)
    torch.testing.assert_close(pixel_kl(student, teacher), pixel_kl(student, teacher.expand(1, 3, 4, 4)))


def test_half_types_are_computed_in_float32():
    student, teacher = (torch.randn(1, 3, 4, 4, dtype=torch.float16) for _ in range(2))
    loss = pixel_kl(student, teacher)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, pixel_kl(student.float(), teacher.float()))


def test_differing_classes_are_named():
    with pytest.raises(ValueError, match="teacher's segmentor has 6 classes and the student's 19"):
        pixel_kl(torch.zeros(1, 19, 2, 2), torch.zeros(1, 6, 2, 2))
