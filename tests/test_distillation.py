"""Runs of distillation, as the stages start them and as a library."""

import copy

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from tiny_models import Normed, photos, tiny_vit
from tiny_params import distillation as section

from gkd import distillation, methods
from gkd.distillation import checkpointed, distil, distil_folder, preview, step_mask
from gkd.models import Encoder
from gkd.train.resume import Resume
from gkd.train.run import FP32, Run

PLAIN = {"scale": [1.0, 1.0], "rand_augment": "", "erase_probability": 0.0}


def trained(method="gkd", run=None, student=None, teacher=None, **options):
    """Student, heads and history of a short run."""
    run, student = run or Run("run"), student or tiny_vit(24, depth=1, seed=1)
    teacher = teacher or tiny_vit(48, depth=1, seed=2)
    objective = methods.objective(method, student, teacher, seed=run.seed)
    return student, objective, distil(student, teacher, objective, photos(), section(**options), run)


@pytest.mark.parametrize("method", ["gkd", "mse", "gkd_diag", "gkd_light"])
def test_the_loss_falls_on_a_small_set(method):
    *_, history = trained(method, steps=25, **PLAIN)
    assert len(history) == 25
    assert {"patch_loss", "fea_loss", "token_loss", "loss", "lr", "step"} == set(history)
    for name in ("patch_loss", "fea_loss", "token_loss"):
        assert history[name].tail(5).mean() < 0.9 * history[name].head(2).mean(), name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_teacher_is_left_as_it_was_and_in_eval_mode(precision):
    teacher = Encoder(Normed(8))  # batch statistics would give a train mode away
    before, student = copy.deepcopy(teacher.state_dict()), tiny_vit(24, patch=16, depth=1).eval()
    start = copy.deepcopy(student.state_dict())
    run = Run("run", compute=FP32.model_copy(update={"precision": precision}))
    _, objective, history = trained(run=run, student=student, teacher=teacher.train())
    after = teacher.state_dict()
    assert all(torch.equal(v, after[k]) and v.dtype == after[k].dtype for k, v in before.items())
    assert not teacher.training and not any(p.requires_grad or p.grad is not None for p in teacher.parameters())
    assert not student.training and not objective.training and np.isfinite(history["loss"]).all()
    # The mask token starts from its own value and learns, as everything else does.
    assert [key for key, value in student.state_dict().items() if torch.equal(value, start[key])] == []


def bits(student, objective, history):
    return {**student.state_dict(), **objective.state_dict(), "losses": torch.tensor(history["loss"].tolist())}


def test_a_rerun_gives_equal_bits_and_another_seed_does_not():
    one, two, other = (bits(*trained("gkd_diag", Run("run", seed))) for seed in (0, 0, 1))
    assert all(torch.equal(one[key], two[key]) for key in one) and not torch.equal(one["losses"], other["losses"])


@pytest.fixture
def steps(monkeypatch):
    """What each step was called with from now on, and whether the student was checkpointed."""
    seen, step = [], distillation.distillation_step
    record = lambda student, *more: seen.append((getattr(student.backbone, "grad_checkpointing", None), *more[2:]))  # noqa: E731
    monkeypatch.setattr(distillation, "distillation_step", lambda *given: record(*given) or step(*given))
    return seen


@pytest.mark.parametrize(("probability", "masked"), [(0.0, [False] * 3), (1.0, [True] * 3)])
def test_a_run_without_masks_forwards_one_view(probability, masked, steps):
    trained(mask_probability=probability)
    assert [mask is not None for *_, mask in steps] == masked


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_gradient_checkpointing_keeps_every_bit(precision, steps):
    run, found = Run("run", compute=FP32.model_copy(update={"precision": precision})), []
    for wanted in (False, True):  # drop path draws the same numbers again
        student = tiny_vit(24, depth=3, seed=1, drop_path_rate=0.2)
        found.append(bits(*trained(run=run, student=student, grad_checkpointing=wanted, micro_batch=2)))
        assert not student.backbone.grad_checkpointing
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])
    assert [wanted for wanted, *_ in steps] == [False] * 6 + [True] * 6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Encoder.create("convit_tiny"), "timm has none for ConVit"),
        (lambda: Encoder.create("resnet18"), "batch statistics of ResNet would count twice"),
    ],
)
def test_models_without_gradient_checkpointing_are_refused(make, message):
    with pytest.raises(ValueError, match=f"grad_checkpointing: {message}.*use micro_batch"), checkpointed(make()):
        pass


def test_masks_follow_seed_and_step_and_are_shared_evenly():
    mask = step_mask(section(), 16, 0, 5)
    assert mask.sum(1).tolist() == [8, 8, 0, 0] and torch.equal(mask, step_mask(section(), 16, 0, 5))
    assert not torch.equal(mask, step_mask(section(), 16, 0, 6))
    assert not torch.equal(mask, step_mask(section(), 16, 1, 5))
    masked = step_mask(section(batch_size=8), 16, 0, 5).any(dim=1)
    for count in (2, 4):  # processes
        assert [int(masked[index::count].sum()) for index in range(count)] == [4 // count] * count


@pytest.mark.parametrize("repeats", [1, 3])
def test_the_preview_is_the_first_batch_of_the_run(steps, repeats):
    student = tiny_vit(24, depth=1)
    views, mask = preview(photos(), section(repeats=repeats), student, 3)
    trained(run=Run("run", 3), student=student, steps=1, repeats=repeats)
    ((_, images, used),) = steps
    assert torch.equal(views, images) and torch.equal(mask, used)


TINY = {"img_size": 32, "patch_size": 8, "depth": 1, "num_heads": 3, "num_classes": 5}


@pytest.fixture
def folder(tmp_path):
    for index, (image, _) in enumerate(photos()):
        path = tmp_path / "a" / "b" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return tmp_path


def test_any_two_timm_models_and_a_folder_make_a_distilled_student(folder):
    teacher = timm.create_model("vit_tiny_patch16_224", embed_dim=48, **TINY)
    student = timm.create_model("deit_tiny_patch16_224", embed_dim=24, **TINY)
    before, twin = copy.deepcopy(student.state_dict()), copy.deepcopy(student)
    history = distil_folder(student, teacher, str(folder), steps=2, batch_size=4)
    same = {key for key, value in student.state_dict().items() if torch.equal(value, before[key])}
    assert same == {"head.weight", "head.bias"}
    # What the stages do, each model with its own pixel statistics.
    pair = Encoder(twin, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD), Encoder(teacher, (0.5,) * 3, (0.5,) * 3)
    expected = distil(*pair, methods.objective("gkd", *pair), photos(), section(steps=2, lr=5e-4 * 4 / 512), Run("x"))
    pd.testing.assert_frame_equal(history, expected, check_exact=True)


@pytest.mark.parametrize("trained", [True, False])
def test_batch_norm_keeps_the_statistics_of_a_trained_model_and_finds_those_of_a_new_one(folder, trained):
    student, teacher = timm.create_model("resnet10t"), timm.create_model("vit_tiny_patch16_224", **TINY)
    if trained:
        torch.nn.init.uniform_(student.bn1.running_mean)
    before = student.bn1.running_mean.clone()
    history = distil_folder(student, teacher, folder, steps=1, batch_size=2, image_size=(32, 32))
    assert np.isfinite(history["loss"]).all() and torch.equal(student.bn1.running_mean, before) == trained


def test_every_image_below_the_folder_is_seen_whatever_its_folders_are_called(folder, monkeypatch):
    (folder / "a" / "b").rename(folder / "train")  # a class of COCO
    Image.fromarray(photos()[0][0]).save(folder / "car.png")
    seen = []
    monkeypatch.setattr(distillation, "distil", lambda *given: seen.append(len(given[3])))
    distil_folder(tiny_vit(), tiny_vit(), folder, steps=1)
    assert seen == [len(photos()) + 1]


def test_states_serve_an_equal_call_alone(folder, tmp_path):
    """A script that is run again continues; another folder, option, seed or model starts anew."""
    losses, resume = [], Resume(tmp_path / "states", "key", 0)
    for seed, options in ((0, {}), (0, {}), (0, {"lr": 1e-3}), (0, {"steps": 1}), (1, {})):
        student, teacher, run = tiny_vit(24, seed=1), tiny_vit(48), Run("run", seed, resume)
        objective = methods.objective("gkd", student, teacher, seed=0)
        options = {"steps": 2, "batch_size": 2} | options
        losses.append(distil_folder(student, teacher, folder, objective=objective, run=run, **options)["loss"].tolist())
    assert losses[0] == losses[1] and losses[0] not in losses[2:] and [len(own) for own in losses[2:]] == [2, 1, 2]


def test_what_does_not_fit_says_which_of_the_two_it_is(folder):
    with pytest.raises(ValueError, match="^teacher: VisionTransformer cannot take images of 32 x 32"):
        distil_folder(tiny_vit(), tiny_vit(size=64), folder, steps=1)
    with pytest.raises(
        ValueError, match=r"^teacher: expected weights in float32, found torch.bfloat16; call .float\(\)"
    ):
        distil_folder(tiny_vit(), tiny_vit().bfloat16(), folder, steps=1)


def test_what_is_no_model_and_a_folder_without_images_are_named(folder):
    with pytest.raises(TypeError, match="expected a timm model or a gkd.models.Encoder, got Linear"):
        distil_folder(torch.nn.Linear(2, 2), tiny_vit(), folder, steps=1)
    with pytest.raises(ValueError, match="nothing"):
        distil_folder(tiny_vit(), tiny_vit(), folder / "nothing", steps=1)
