import re

import pandas as pd
import pytest
import torch
from torch import nn

from gkd.train import loop, progress
from gkd.train.loop import Training, fit
from gkd.train.run import Run
from gkd.train.schedules import parameter_groups, poly


def test_history_has_a_row_a_step_with_metrics_and_learning_rate_and_the_last_step_is_printed(capsys):
    model = nn.Linear(3, 1).eval()

    def step(_number, batch, _share):
        assert model.training
        loss = model(batch).square().mean()
        return loss, {"loss": loss.detach(), "half": loss.detach() / 2}

    groups = parameter_groups([model], 0.1, 0.05)
    history = fit(Training(step, [model], groups, lambda _: torch.randn(6, 5, 3), 6, poly(6, 1.0)), Run("x"))
    assert isinstance(history, pd.DataFrame) and list(history) == ["step", "lr", "loss", "half"]
    assert history["step"].tolist() == list(range(6))
    assert history["lr"].tolist() == pytest.approx([0.1 * (1 - i / 6) for i in range(6)])
    assert history["half"].tolist() == pytest.approx((history["loss"] / 2).tolist())
    assert not model.training
    (line,) = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"x  step 6/6  loss \d+\.\d{4}  \d+\.\d images/s  0:00 left", line)


def test_the_steps_are_those_of_adamw_under_the_schedule():
    weight, mirror = nn.Linear(2, 2), nn.Linear(2, 2)
    mirror.load_state_dict(weight.state_dict())
    batches = torch.randn(4, 5, 2).unbind()
    step = lambda _n, x, _s: (weight(x).square().mean(), {})  # noqa: E731
    groups, others = (
        [
            {"params": [module.weight], "weight_decay": 0.5, "lr": 0.1},
            {"params": [module.bias], "weight_decay": 0.0, "lr": 0.01},
        ]
        for module in (weight, mirror)
    )
    fit(Training(step, [weight], groups, lambda _: batches, 4, poly(4, 0.9)), Run("x"))
    optimizer = torch.optim.AdamW(others)
    for number, x in enumerate(batches):
        for group, base in zip(optimizer.param_groups, (0.1, 0.01), strict=True):
            group["lr"] = base * poly(4, 0.9)(number)
        optimizer.zero_grad()
        mirror(x).square().mean().backward()
        optimizer.step()
    torch.testing.assert_close(weight.state_dict(), mirror.state_dict())


def test_a_micro_batch_that_does_not_divide_the_batch_is_refused():
    model = nn.Linear(1, 1)
    step = lambda _n, x, _s: (model(x).mean(), {})  # noqa: E731
    training = Training(
        step, [model], parameter_groups([model], 0.1, 0), lambda _: [torch.ones(5, 1)], 1, poly(1, 1), 2
    )
    with pytest.raises(ValueError, match="micro_batch: 2 does not divide the 5 samples"):
        fit(training, Run("x"))


def test_progress_is_plain_lines_whose_pace_leaves_out_what_comes_before_the_first_step(capsys, monkeypatch):
    now = iter([0.0, 100.0, 105.0, 106.0, 169.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    told = progress.Progress("task_agnostic f2l-gkd", 100)
    for done, loss in ((1, 3.0), (6, 2.5), (7, 2.0), (20, 1.25)):
        told(done, 16, loss)
    assert capsys.readouterr().out.splitlines() == [
        "task_agnostic f2l-gkd  step 1/100  loss 3.0000",
        "task_agnostic f2l-gkd  step 6/100  loss 2.5000  3.2 images/s  1:34 left",
        "task_agnostic f2l-gkd  step 20/100  loss 1.2500  0.7 images/s  4:50 left",
    ]


def test_threads_are_pinned_kernels_deterministic_and_subnormal_numbers_zero():
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    small, supported = torch.tensor([1e-30]), torch.set_flush_denormal(False)
    assert (small * 1e-10).item() > 0
    try:
        loop.fix_threads(1)
        assert torch.get_num_threads() == 1 and torch.are_deterministic_algorithms_enabled()
        assert ((small * 1e-10).item() == 0) == supported
        loop.fix_threads(0)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
