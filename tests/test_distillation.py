import copy

import numpy as np
import pytest
import torch
from tiny_models import Normed, tiny_vit

from gkd import distillation
from gkd.distillation import build_objective, distil, preview, step_mask
from gkd.methods.baselines import LinearHead
from gkd.methods.table import METHODS
from gkd.models import Encoder
from gkd.params import Blocks, Distillation, Heads
from gkd.qsd import QSD


@pytest.fixture(autouse=True)
def no_workers(monkeypatch):
    monkeypatch.setenv("GKD_WORKERS", "0")


class Photos:
    """A few images of coloured blocks; there is no label to look at."""

    def __init__(self, count=4):
        blocks = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
        self.images = blocks.repeat(8, axis=1).repeat(8, axis=2)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], None


def section(**options):
    return Distillation(**{"steps": 3, "batch_size": 4, "lr": 1e-2, "image_size": [32, 32], **options})


PLAIN = {"scale": [1.0, 1.0], "rand_augment": "", "erase_probability": 0.0}


@pytest.mark.parametrize("method", ["gkd", "mse", "gkd-diag", "gkd-light"])
def test_the_loss_falls_on_a_small_set(method):
    student, teacher = tiny_vit(24, depth=1, seed=1), tiny_vit(48, depth=1, seed=2)
    objective = build_objective(METHODS[method], student, teacher, None, seed=0)
    history = distil(student, teacher, objective, Photos(), section(steps=25, **PLAIN), 0, "run")
    assert len(history) == 25
    assert {"patch_loss", "fea_loss", "token_loss", "loss", "lr", "step"} == set(history)
    for name in ("patch_loss", "fea_loss", "token_loss"):
        assert history[name].tail(5).mean() < 0.9 * history[name].head(2).mean(), name


def test_the_teacher_is_left_as_it_was_and_in_eval_mode():
    teacher = Encoder(Normed(8))  # batch statistics would give a train mode away
    before = copy.deepcopy(teacher.state_dict())
    student = tiny_vit(24, depth=1).eval()
    start = copy.deepcopy(student.state_dict())
    objective = build_objective(METHODS["gkd"], student, teacher.train(), None, seed=0)
    distil(student, teacher, objective, Photos(), section(), 0, "run")
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    assert not teacher.training and not any(p.requires_grad or p.grad is not None for p in teacher.parameters())
    assert not student.training and not objective.training
    # The mask token starts from its own value and learns, as everything else does.
    assert [key for key, value in student.state_dict().items() if torch.equal(value, start[key])] == []


def test_a_rerun_gives_equal_bits_and_another_seed_does_not():
    def run(seed):
        student, teacher = tiny_vit(24, depth=1, seed=1), tiny_vit(24, depth=1, seed=2)
        objective = build_objective(METHODS["gkd-diag"], student, teacher, None, seed)
        history = distil(student, teacher, objective, Photos(), section(), seed, "run")
        return {**student.state_dict(), **objective.state_dict()}, history["loss"].tolist()

    (one, losses), (two, again), (_, other) = run(0), run(0), run(1)
    assert all(torch.equal(one[key], two[key]) for key in one) and losses == again != other


def test_objectives_follow_the_method_its_options_and_the_seed():
    student, teacher = tiny_vit(24, depth=1), tiny_vit(48, depth=1)
    gkd, diag, mse = (build_objective(METHODS[m], student, teacher, None, 0) for m in ("gkd", "gkd-diag", "mse"))
    assert isinstance(gkd.fea_head, QSD) and gkd.fea_head.diagonal_bias is None and gkd.fea_head.scale == 1
    assert diag.fea_head.diagonal_bias.item() == 6 and diag.fea_head.scale == pytest.approx(48**-0.5)
    assert isinstance(mse.fea_head, LinearHead)
    ours = build_objective(METHODS["gkd-diag"], student, teacher, Heads(diagonal_bias=2.0, num_heads=3), 0)
    assert ours.fea_head.diagonal_bias.item() == 2 and ours.fea_head.num_heads == 3 and ours.fea_head.scale == 0.25
    assert METHODS["gkd-diag"].head_options["diagonal_bias"] == 6.0
    same, other = (build_objective(METHODS["gkd"], student, teacher, None, seed) for seed in (0, 1))
    assert torch.equal(gkd.fea_head.proj_q[1].weight, same.fea_head.proj_q[1].weight)
    assert not torch.equal(gkd.fea_head.proj_q[1].weight, other.fea_head.proj_q[1].weight)
    assert not torch.equal(gkd.fea_head.proj_q[1].weight, gkd.patch_head.proj_q[1].weight)


def test_processes_get_as_many_masked_samples_each():
    masked = step_mask(section(batch_size=8), 16, 0, 5).any(dim=1)
    for count in (2, 4):
        assert [int(masked[index::count].sum()) for index in range(count)] == [4 // count] * count


def test_masks_follow_seed_and_step():
    mask = step_mask(section(), 16, 0, 5)
    assert mask.sum(1).tolist() == [8, 8, 0, 0]
    assert torch.equal(mask, step_mask(section(), 16, 0, 5))
    assert not torch.equal(mask, step_mask(section(), 16, 0, 6))
    assert not torch.equal(mask, step_mask(section(), 16, 1, 5))


@pytest.mark.parametrize("repeats", [1, 3])
def test_the_preview_is_the_first_batch_of_the_run(monkeypatch, repeats):
    seen = []
    step = distillation.distillation_step

    def recorded(student, teacher, objective, images, mask, *more):
        seen.append((images, mask))
        return step(student, teacher, objective, images, mask, *more)

    monkeypatch.setattr(distillation, "distillation_step", recorded)
    student, teacher = tiny_vit(24, depth=1), tiny_vit(24, depth=1)
    options = section(steps=1, repeats=repeats)
    views, mask = preview(Photos(), options, student, 3)
    distil(student, teacher, build_objective(METHODS["gkd"], student, teacher, None, 0), Photos(), options, 3, "run")
    ((images, used),) = seen
    assert torch.equal(views, images) and torch.equal(mask, used)


def test_grids_may_differ():
    student, teacher = tiny_vit(24, patch=16, depth=1), Encoder(Normed(8))
    objective = build_objective(METHODS["gkd"], student, teacher, None, 0)
    history = distil(student, teacher, objective, Photos(), section(), 0, "run")
    assert np.isfinite(history["loss"]).all()


OPTIONS = Heads(num_heads=3, scaled=True, temperature=2.0, diagonal_bias=1.0, pool=4, weights=[0.0, 0.5, 2.0])


def test_every_option_of_params_reaches_the_heads():
    student, teacher = tiny_vit(24, depth=1), tiny_vit(48, depth=1)
    objective = build_objective(METHODS["gkd"], student, teacher, OPTIONS, 0)
    for head in (objective.fea_head, objective.patch_head, objective.token_head):
        assert (head.num_heads, head.pool, head.diagonal_bias.item()) == (3, 4, 1)
        assert head.scale == pytest.approx(1 / 2 / (48 / 3) ** 0.5)
    assert objective.weights == [0.0, 0.5, 2.0]
    assert build_objective(METHODS["gkd-light"], student, teacher, None, 0).fea_head.pool == 2
    assert build_objective(METHODS["gkd-light"], student, teacher, Heads(pool=4), 0).fea_head.pool == 4


def test_what_params_does_not_say_stays_as_the_method_has_it():
    student, teacher = tiny_vit(24, depth=1), tiny_vit(48, depth=1)
    diag = METHODS["gkd-diag"]
    assert build_objective(diag, student, teacher, Heads(num_heads=2), 0).fea_head.diagonal_bias.item() == 6
    assert build_objective(diag, student, teacher, Heads(diagonal_bias=None), 0).fea_head.diagonal_bias is None


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("mse", Heads(num_heads=2), "heads.mse.num_heads: plain regression has no such option"),
        (
            "gkd",
            Heads(intermediate=Blocks(student=0, teacher=7)),
            "intermediate.teacher: .* blocks 0 to 0, no block 7",
        ),
        ("gkd", Heads(intermediate=Blocks(student=2, teacher=0)), "intermediate.student: .* no block 2"),
        ("gkd", Heads(num_heads=5), "num_heads=5 does not divide the teacher's 48 channels"),
    ],
)
def test_options_that_do_not_fit_are_named(method, options, message):
    with pytest.raises(ValueError, match=message):
        build_objective(METHODS[method], tiny_vit(24, depth=1), tiny_vit(48, depth=1), options, 0)


def test_regression_takes_weights_and_a_block():
    student, teacher = tiny_vit(24), tiny_vit(48)
    options = Heads(weights=[1.0, 0.0, 0.0], intermediate=Blocks(student=0, teacher=1, weight=0.5))
    objective = build_objective(METHODS["mse"], student, teacher, options, 0)
    history = distil(student, teacher, objective, Photos(), section(steps=1), 0, "run")
    expected = history["patch_loss"] + 0.5 * history["block_loss"]
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-6)


def test_further_teachers_leave_the_first_ones_heads_as_they_are():
    student, teacher = tiny_vit(24, depth=1), tiny_vit(48, depth=1)
    alone = build_objective(METHODS["gkd"], student, teacher, None, 0).state_dict()
    others = {"wide": tiny_vit(36, patch=16, depth=1)}
    options = Heads(intermediate=Blocks(student=0, teacher=0))
    both = build_objective(METHODS["gkd"], student, teacher, options, 0, others)
    state = both.state_dict()
    assert all(torch.equal(state[key], value) for key, value in alone.items())
    added = {key.rsplit(".proj", 1)[0] for key in set(state) - set(alone)}
    heads = ("fea_head", "patch_head", "token_head")
    assert added == {"block_head", *(f"others.wide.{head}" for head in heads)}
    # Block numbers are those of the first teacher.
    assert both.others["wide"].blocks is None and both.others["wide"].fea_head.proj_q[1].out_features == 36


def test_two_teachers_of_differing_grids_and_statistics_are_followed_at_once():
    student, teacher = tiny_vit(24, depth=1, seed=1), tiny_vit(48, depth=1, seed=2)
    others = {"coarse": tiny_vit(36, patch=16, depth=1, seed=3)}
    others["coarse"].mean.fill_(0.1)
    before = copy.deepcopy(others["coarse"].state_dict())
    objective = build_objective(METHODS["gkd"], student, teacher, None, 0, others)
    history = distil(student, teacher, objective, Photos(), section(steps=25, **PLAIN), 0, "run", others=others)
    for name in ("patch_loss", "fea_loss", "coarse/patch_loss", "coarse/fea_loss", "coarse/token_loss"):
        assert history[name].tail(5).mean() < 0.95 * history[name].head(2).mean(), name
    terms = [f"{who}{term}_loss" for who in ("", "coarse/") for term in ("patch", "fea", "token")]
    np.testing.assert_allclose(history["loss"], history[terms].sum(axis=1), rtol=1e-5)
    other = others["coarse"]
    assert not other.training and not any(p.requires_grad or p.grad is not None for p in other.parameters())
    assert all(torch.equal(value, before[key]) for key, value in other.state_dict().items())
