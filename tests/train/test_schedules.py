import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gkd.train.schedules import cosine, parameter_groups, poly


@given(st.integers(1, 500), st.floats(1e-6, 1.0), st.floats(0, 1), st.integers(0, 40))
def test_cosine_warms_up_and_falls_from_the_base_to_the_minimum(steps, base, share, warmup):
    warmup = min(warmup, steps - 1)
    factor = cosine(steps, base, minimum=share * base, warmup=warmup)
    assert factor(warmup) == pytest.approx(1)
    assert factor(steps) == factor(steps + 10) == pytest.approx(share)
    assert factor((steps + warmup) / 2) == pytest.approx((1 + share) / 2)
    values = [factor(step) for step in range(steps + 1)]
    assert values[:warmup] == pytest.approx([(i + 1) / (warmup + 1) for i in range(warmup)])
    assert all(a >= b - 1e-12 for a, b in zip(values[warmup:], values[warmup + 1 :], strict=False))


@given(st.integers(1, 500), st.sampled_from([0.5, 0.9, 1.0, 2.0]))
def test_poly_falls_from_one_to_zero(steps, power):
    factor = poly(steps, power)
    assert factor(0) == 1 and factor(steps) == factor(steps + 1) == 0
    assert factor(steps / 2) == pytest.approx(0.5**power)


def test_one_dimensional_parameters_do_not_decay_and_empty_groups_are_left_out():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 2))
    model.register_parameter("bias", nn.Parameter(torch.tensor(6.0)))
    model.register_parameter("positions", nn.Parameter(torch.zeros(1, 5, 4)))
    model[2].weight.requires_grad_(False)
    decay, plain = parameter_groups([model], 0.1, 0.05)
    assert (decay["weight_decay"], plain["weight_decay"]) == (0.05, 0.0) and decay["lr"] == plain["lr"] == 0.1
    assert {id(p) for p in decay["params"]} == {id(model[0].weight), id(model.positions)}
    assert {id(p) for p in plain["params"]} == {
        id(p) for p in (model[0].bias, model[1].weight, model[1].bias, model[2].bias, model.bias)
    }
    assert [g["weight_decay"] for g in parameter_groups([nn.BatchNorm2d(3)], 0.1, 0.05)] == [0.0]
