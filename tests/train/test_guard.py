"""A loss, a gradient or a weight that is not finite ends a run, names it and the step, and is not saved."""

import math
import re

import pytest
import torch
from torch import nn

from gkd.train.guard import Diverged
from gkd.train.loop import Training, fit
from gkd.train.resume import Resume
from gkd.train.run import Run
from gkd.train.schedules import parameter_groups

STEPS = 6
MESSAGES = {
    "loss": "the loss is {value} (in loss 0.1) at step {step}",  # of the candidate that broke, not of the others
    "gradient": "the gradient of 0.weight is not finite at step {step}",
    "weight": "the weight of 0.weight is not finite after {steps} steps",
}


def train(what, at, value=math.nan, resume=None):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))

    def step(number, batch, _share):
        loss = model(batch).square().mean()
        if (what, at) == ("loss", number):
            loss = loss * value
        if (what, at) == ("gradient", number):  # of value 0, whose gradient is 0 / 0
            loss = loss + (model[0].weight - model[0].weight.detach()).abs().sqrt().sum()
        return loss, {"loss 0.1": loss.detach(), "loss 0.01": torch.zeros(())}

    training = Training(
        step=step,
        modules=[model, nn.Linear(1, 1)],
        labels=["0.1", "0.01"],
        groups=parameter_groups([model], 0.1, 0.05),
        batches=lambda start: [torch.ones(5, 3)] * (STEPS - start),
        steps=STEPS,
        schedule=lambda number: value if (what, at) == ("weight", number) else 1.0,
    )
    return fit(training, Run("stage member", resume=resume))


@pytest.mark.parametrize("what", MESSAGES)
@pytest.mark.parametrize("at", [0, 2, STEPS - 1])
@pytest.mark.parametrize("seconds", [0.0, 1e9, None])
def test_what_is_not_finite_ends_the_run_before_it_is_saved(tmp_path, what, at, seconds):
    resume = None if seconds is None else Resume(tmp_path, "key", seconds)
    text = f"stage member: {MESSAGES[what]}; lower the learning rate (0.1)".format(value="nan", step=at, steps=at + 1)
    with pytest.raises(Diverged, match=f"^{re.escape(text)}$") as caught:
        train(what, at, resume=resume)
    assert [*caught.value.labels] == ["0.1"]
    if resume is not None:
        state = resume.slot("stage member").load()
        assert (0 if state is None else len(state["history"])) == (at if seconds == 0 else 0)
        assert state is None or all(v.isfinite().all() for v in state["modules"].values())


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_infinities_count_and_large_numbers_do_not(value):
    with pytest.raises(FloatingPointError, match=f"the loss is {value}.* at step 1"):
        train("loss", 1, value)
    assert len(train("loss", 1, value=1e30)) == STEPS  # squares of its gradients are infinite in fp32


def test_weights_that_are_not_finite_at_the_start_are_found_at_once():
    model = nn.Linear(2, 2)
    model.register_parameter("unused", nn.Parameter(torch.tensor([math.nan])))
    groups = parameter_groups([model], 0.1, 0.0)
    step = lambda _n, batch, _s: (model(batch).sum(), {})  # noqa: E731
    with pytest.raises(FloatingPointError, match="x: the weight of unused is not finite after 0 steps"):
        fit(Training(step, [model], groups, lambda _: [torch.ones(1, 2)], 1, lambda _: 1.0), Run("x"))
