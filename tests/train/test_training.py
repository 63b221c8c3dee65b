import math
import re

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gkd.train import loop as training
from gkd.train.loop import Progress, cosine, fit, parameter_groups, poly


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


def test_one_dimensional_parameters_do_not_decay():
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


def test_groups_without_parameters_are_left_out():
    assert [g["weight_decay"] for g in parameter_groups([nn.BatchNorm2d(3)], 0.1, 0.05)] == [0.0]


def run(steps=6, seed=0, lr=0.1, spoil=None, schedule=None, name="stage member", slot=None):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.2), nn.Linear(4, 1))
    batches = [torch.randn(5, 3) for _ in range(steps)]

    def step(number, batch, _share):
        assert model.training
        loss = model(batch).square().mean() * (math.nan if number == spoil else 1)
        return loss, {"loss": loss.detach(), "half": loss.detach() / 2}

    groups = parameter_groups([model], lr, 0.05)
    return model, fit(
        step, [model], groups, lambda start: batches[start:], steps, schedule or poly(steps, 1.0), name, slot=slot
    )


def test_history_has_a_row_a_step_with_metrics_and_learning_rate():
    model, history = run()
    assert isinstance(history, pd.DataFrame) and list(history) == ["step", "lr", "loss", "half"]
    assert history["step"].tolist() == list(range(6))
    assert history["lr"].tolist() == pytest.approx([0.1 * (1 - i / 6) for i in range(6)])
    assert history["half"].tolist() == pytest.approx((history["loss"] / 2).tolist())
    assert not model.training


def test_equal_seeds_give_equal_bits():
    (one, first), (two, second), (other, _) = run(), run(), run(seed=1)
    for key, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[key])
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert not torch.equal(one[0].weight, other[0].weight)


def test_the_steps_are_those_of_adamw_under_the_schedule():
    weight = nn.Linear(2, 2)
    mirror = nn.Linear(2, 2)
    mirror.load_state_dict(weight.state_dict())
    batches = torch.randn(4, 5, 2).unbind()
    schedule = poly(4, 0.9)
    fit(
        lambda _n, x, _s: (weight(x).square().mean(), {}),
        [weight],
        parameter_groups([weight], 0.1, 0.5),
        lambda _start: batches,
        4,
        schedule,
        "x",
    )
    optimizer = torch.optim.AdamW(
        [{"params": [mirror.weight], "weight_decay": 0.5}, {"params": [mirror.bias], "weight_decay": 0.0}], lr=0.1
    )
    for number, x in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * schedule(number)
        optimizer.zero_grad()
        mirror(x).square().mean().backward()
        optimizer.step()
    torch.testing.assert_close(weight.state_dict(), mirror.state_dict())


def test_groups_keep_the_ratio_of_their_learning_rates():
    slow, fast = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    before = slow.weight.item(), fast.weight.item()
    groups = parameter_groups([slow], 0.01, 0.0) + parameter_groups([fast], 0.1, 0.0)
    ones = torch.ones(1, 1)

    def step(_number, x, _share):
        return (slow(x) + fast(x)).mean(), {}

    fit(step, [slow, fast], groups, lambda _: [ones], 1, poly(1, 1.0), "x")
    # Adam's first step is the learning rate itself.
    assert before[0] - slow.weight.item() == pytest.approx(0.01, rel=1e-3)
    assert before[1] - fast.weight.item() == pytest.approx(0.1, rel=1e-3)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_it():
    with pytest.raises(
        FloatingPointError, match=r"stage member: the loss is nan at step 2; lower the learning rate \(0.1\)"
    ):
        run(spoil=2)


def test_progress_is_plain_lines(capsys, monkeypatch):
    now = iter([0.0, 1.0, 6.0, 7.0, 70.0])
    monkeypatch.setattr(training.time, "monotonic", lambda: next(now))
    progress = Progress("task_agnostic f2l-gkd", 100)
    for done, loss in ((1, 3.0), (6, 2.5), (7, 2.0), (20, 1.25)):
        progress(done, 16, loss)
    assert capsys.readouterr().out.splitlines() == [
        "task_agnostic f2l-gkd  step 6/100  loss 2.5000  5.3 images/s  1:34 left",
        "task_agnostic f2l-gkd  step 20/100  loss 1.2500  0.9 images/s  4:40 left",
    ]


def test_a_short_run_prints_its_last_step(capsys):
    run(steps=3, name="x")
    (line,) = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"x  step 3/3  loss \d+\.\d{4}  \d+\.\d images/s  0:00 left", line)


def test_threads_are_pinned_and_kernels_deterministic():
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    try:
        training.fix_threads(1)
        assert torch.get_num_threads() == 1 and torch.are_deterministic_algorithms_enabled()
        training.fix_threads(0)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
