import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gkd.train.pixel_kl import pixel_kl


@settings(max_examples=20)
@given(st.integers(1, 2), st.integers(2, 4), st.integers(1, 3), st.sampled_from([0.5, 1.0, 4.0]), st.integers(0, 99))
def test_pixel_kl_is_its_formula(batch, classes, side, temperature, seed):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, classes, side, side)
    student, teacher = (3 * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    total = 0.0
    for b, y, x in itertools.product(range(batch), range(side), range(side)):
        p, q = ((z[b, :, y, x] / temperature).softmax(0) for z in (student, teacher))
        total += (q * (q / p).log()).sum()
    expected = temperature**2 * total / (batch * side * side)
    torch.testing.assert_close(pixel_kl(student, teacher, temperature), expected, rtol=1e-9, atol=1e-9)


def test_pixel_kl_resizes_computes_in_float32_and_names_differing_classes():
    teacher, student = torch.randn(1, 3, 1, 1), torch.randn(1, 3, 4, 4)
    torch.testing.assert_close(pixel_kl(student, teacher), pixel_kl(student, teacher.expand(1, 3, 4, 4)))
    half = student.half(), teacher.half()
    loss = pixel_kl(*half)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, pixel_kl(*(logits.float() for logits in half)))
    with pytest.raises(ValueError, match="teacher's segmentor has 6 classes and the student's 19"):
        pixel_kl(torch.zeros(1, 19, 2, 2), torch.zeros(1, 6, 2, 2))
