import copy
import re
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from small_runs import segmentor as built
from tiny_params import TINY
from tiny_params import learning as section

from gkd.data.labels import IGNORE
from gkd.datasets import official
from gkd.params import Inference
from gkd.segmentation import task_learning as task
from gkd.segmentation.measure import EvaluationSet, measure_all
from gkd.segmentation.scores import scores
from gkd.segmentation.task_learning import (
    Guide,
    build_segmentor,
    choose,
    learn_side_by_side,
)
from gkd.train.guard import Diverged
from gkd.train.pixel_kl import pixel_kl
from gkd.train.resume import Resume, Slot
from gkd.train.run import Run
from gkd.weights import CheckpointError, Record, save

CLASSES = len(official().sources["potsdam_rgb"].classes)
PROTOCOL = Inference(window=32, stride=32, batch_size=4)
RUN = Run("run")
segmentor = partial(built, classes=CLASSES)


class Blocks:
    """Images whose colour is the class."""

    def __init__(self, count=6, seed=0):
        rng = np.random.default_rng(seed)
        self.labels = rng.integers(0, CLASSES, (count, 2, 2), dtype=np.uint8).repeat(16, axis=1).repeat(16, axis=2)
        self.images = np.random.default_rng(9).integers(0, 256, (CLASSES, 3), dtype=np.uint8)[self.labels]
        self.labels[:, :2] = IGNORE

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.images[index], self.labels[index]


def on(data=None):
    return EvaluationSet("potsdam_rgb_hold_out", data or Blocks(seed=1), CLASSES, PROTOCOL)


def learn(model, data, options, lr, run, guide=None):
    return learn_side_by_side({lr: model}, data, options, run, guide)[lr]


def changed(before, module):
    return [key for key, value in module.state_dict().items() if not torch.equal(value, before[key])]


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_encoder_stays_bit_equal_and_a_fine_tuned_one_learns(frozen):
    model = segmentor(frozen)
    encoder, decoder = (copy.deepcopy(part.state_dict()) for part in (model.encoder, model.decoder))
    history = learn(model, Blocks(), section(), lr=1e-2, run=RUN)
    assert list(history) == ["step", "lr", "ce_loss", "loss"] and len(history) == 3
    assert history["loss"].tolist() == history["ce_loss"].tolist()
    assert history["lr"].tolist() == pytest.approx([1e-2 * (1 - i / 3) ** 0.9 for i in range(3)])
    assert len(changed(decoder, model.decoder)) == len(decoder)
    expected = [] if frozen else [key for key in encoder if key != "mask_token"]  # no mask here
    assert changed(encoder, model.encoder) == expected


@pytest.mark.parametrize("pool", [None, 4])
def test_labels_without_a_class_are_refused_at_the_start(pool):
    data, options = Blocks(), section(steps=30, pool=pool)
    data.labels[:] = IGNORE
    with pytest.raises(ValueError, match="^run: no label in the first 30 batches holds a class; see `gkd doctor`$"):
        learn(segmentor(frozen=True), data, options, 0.1, RUN)


def test_the_guides_term_is_added_and_the_guide_stays_as_it_was():
    teacher, model = segmentor(seed=1).train(), segmentor(frozen=False)
    teacher.requires_grad_(True)
    before, seen = copy.deepcopy(teacher.state_dict()), []

    def recorded(student, target, temperature):
        seen.append((target.requires_grad, temperature, pixel_kl(student, target, temperature)))
        return seen[-1][2]

    options = section(kd_weight=3.0, kd_temperature=2.0)
    history = learn(model, Blocks(), options, lr=1e-2, run=RUN, guide=Guide(teacher, recorded))
    assert [(grad, temperature) for grad, temperature, _ in seen] == [(False, 2.0)] * 3
    assert history["kd_loss"].tolist() == pytest.approx([term.item() for *_, term in seen])
    assert history["loss"].tolist() == pytest.approx((history["ce_loss"] + 3 * history["kd_loss"]).tolist())
    assert changed(before, teacher) == [] and not teacher.training
    assert not any(p.requires_grad or p.grad is not None for p in teacher.parameters())
    unguided = segmentor(frozen=False)
    learn(unguided, Blocks(), options, lr=1e-2, run=RUN)
    assert changed(model.decoder.state_dict(), unguided.decoder) != []


def test_choose_keeps_the_best_rate_on_the_validation_part_and_records_all(capsys):
    model, validation = segmentor(), on()
    start = copy.deepcopy(model.state_dict())
    options = section(steps=12, lrs=[1e-6, 1e-2, 1e-5])
    trained = choose(model, Blocks(), validation, section=options, run=RUN)
    assert changed(start, model) == []  # every rate starts from the same weights
    assert trained.choice["lr"].tolist() == options.lrs
    assert trained.lr == 1e-2 == options.lrs[trained.choice["miou"].idxmax()]
    lines = [line for line in capsys.readouterr().out.splitlines() if "source validation mIoU" in line]
    rates = trained.choice.itertuples(index=False, name=None)
    assert lines == [f"run lr {lr:g}  source validation mIoU {miou:.2f}" for lr, miou in rates]
    alone = copy.deepcopy(model)
    history = learn(alone, Blocks(), section(steps=12), lr=1e-2, run=Run("alone"))
    assert changed(alone.state_dict(), trained.model) == []
    pd.testing.assert_frame_equal(trained.history, history, check_exact=True)
    confusion = measure_all({"": alone}, validation, RUN)[""]
    assert np.array_equal(trained.confusion, confusion)
    assert scores(confusion).miou == trained.choice["miou"].max()


@pytest.mark.parametrize("frozen", [True, False])
def test_a_rate_that_diverges_is_left_out_and_changes_nothing_for_the_others(capsys, tmp_path, monkeypatch, frozen):
    """Also where the choice is killed after it was left out."""

    def learn(lrs, states):
        run = Run("run", resume=Resume(tmp_path / states, "key", 0))
        return choose(segmentor(frozen), Blocks(), on(), section=section(lrs=lrs), run=run)

    def kill(slot, state):
        if "1e+35" not in slot.file.name and len(state["history"]) == 2:
            raise KeyboardInterrupt
        save(slot, state)

    learned = [learn([1e-2, 1e-3], "without"), learn([1e-2, 1e35, 1e-3], "with")]
    save = Slot.save
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(Slot, "save", kill)
        learn([1e-2, 1e35, 1e-3], "killed")
    capsys.readouterr()
    learned.append(learn([1e-2, 1e35, 1e-3], "killed"))
    said = capsys.readouterr().out
    assert re.search(r"run lr 0.01, 1e\+35, 0.001 .*1e\+35\)\. Left out; the others begin anew", said), said
    assert "run lr 0.01, 0.001 (losses summed)  continues after step 1" in said
    expected, *others = learned
    for found in others:
        assert changed(expected.model.state_dict(), found.model) == [] and found.lr == expected.lr
        assert found.choice["lr"].tolist() == [1e-2, 1e35, 1e-3] and found.choice["miou"].isna().tolist() == [0, 1, 0]
        assert found.choice["miou"].dropna().tolist() == expected.choice["miou"].tolist()
    with pytest.raises(Diverged, match="lower the learning rate"):
        choose(segmentor(frozen), Blocks(), on(), section=section(lrs=[1e35, 1e36]), run=RUN)


def test_many_rates_and_rates_that_look_alike_are_as_good_as_others(tmp_path):
    lrs = [1e-2, *(1.23456781e-3 + number * 1e-11 for number in range(39))]
    assert f"{lrs[1]:g}" == f"{lrs[2]:g}"
    run = Run("task_learning f2l-gkd_diag-potsdam_rgb-0", resume=Resume(tmp_path, "key", 0))
    trained = choose(segmentor(), Blocks(), on(), section=section(steps=1, lrs=lrs), run=run)
    assert trained.choice["lr"].tolist() == lrs and trained.choice["miou"].notna().all()


def test_the_validation_part_is_read_once_for_all_rates(monkeypatch):
    part, reads, real = Blocks(3), [], Blocks.__getitem__
    monkeypatch.setattr(
        Blocks, "__getitem__", lambda self, i: (reads.append(i) if self is part else None) or real(self, i)
    )
    choose(segmentor(), Blocks(), on(part), section=section(lrs=[1e-2, 1e-3, 1e-4]), run=RUN)
    assert sorted(reads) == [0, 1, 2]


def test_a_killed_choice_continues_where_it_was(tmp_path, monkeypatch):
    options, run = section(lrs=[1e-2, 1e-3]), Run("run", resume=Resume(tmp_path / "member", "key", 0))
    expected = choose(segmentor(), Blocks(), on(), section=options, run=RUN)
    real, done = task.scores, []

    def killed(confusion):
        done.append(confusion)
        if len(done) == 2:
            raise KeyboardInterrupt
        return real(confusion)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(task, "scores", killed)
        choose(segmentor(), Blocks(), on(), section=options, run=run)
    photos, validation = Blocks(), on()
    monkeypatch.setattr(Blocks, "__getitem__", lambda *_: pytest.fail("trained or evaluated again"))
    trained = choose(segmentor(), photos, validation, section=options, run=run)
    assert changed(expected.model.state_dict(), trained.model) == [] and trained.lr == expected.lr
    pd.testing.assert_frame_equal(trained.history, expected.history, check_exact=True)
    pd.testing.assert_frame_equal(trained.choice, expected.choice, check_exact=True)


@pytest.mark.parametrize("decoder", ["conv", "mask2former"])
@pytest.mark.parametrize("frozen", [True, False])
def test_side_by_side_gives_the_bytes_of_one_after_another(frozen, decoder):
    guide, start = Guide(segmentor(seed=1, decoder=decoder), pixel_kl), segmentor(frozen, decoder=decoder)
    together = {lr: copy.deepcopy(start) for lr in (1e-3, 1e-2)}
    if frozen:
        together[1e-2].encoder = together[1e-3].encoder
    histories = learn_side_by_side(together, Blocks(), section(), RUN, guide)
    assert list(histories) == [1e-3, 1e-2]
    for lr, model in together.items():
        alone = copy.deepcopy(start)
        torch.manual_seed(int(1e6 * lr))  # nothing but the seed of the run counts
        history = learn(alone, Blocks(), section(), lr=lr, run=RUN, guide=guide)
        assert changed(alone.state_dict(), model) == []
        pd.testing.assert_frame_equal(histories[lr], history, check_exact=True)
    assert changed(together[1e-3].decoder.state_dict(), together[1e-2].decoder) != []


def test_a_mask2former_of_another_seed_draws_other_points():
    whole = section(scale=[1.0, 1.0], batch_size=6, steps=1)
    models = [segmentor(decoder="mask2former") for _ in range(2)]
    histories = [learn(model, Blocks(), whole, lr=1e-3, run=Run("run", seed)) for seed, model in enumerate(models)]
    assert list(histories[0]) == ["step", "lr", "cls_loss", "mask_loss", "dice_loss", "loss"]
    assert histories[0]["mask_loss"][0] != histories[1]["mask_loss"][0]


def test_the_decoder_says_what_does_not_decay():
    model = segmentor(frozen=False, decoder="mask2former")
    decayed, plain, *encoder = task._groups(model, section(weight_decay=0.2, encoder_lr_factor=0.1), 1e-3)
    assert (decayed["weight_decay"], plain["weight_decay"], plain["lr"]) == (0.2, 0.0, 1e-3)
    bias = model.decoder.classifier.bias
    assert any(p is bias for p in decayed["params"]) and not any(p is bias for p in plain["params"])
    assert len(decayed["params"]) + len(plain["params"]) == len(list(model.decoder.parameters()))
    assert [group["lr"] for group in encoder] == [pytest.approx(1e-4)] * 2


def test_frozen_candidates_run_their_encoder_once_a_batch():
    calls, model = [], segmentor()
    model.encoder.backbone.patch_embed.register_forward_hook(lambda *_: calls.append("batch"))
    choose(model, Blocks(), on(Blocks(2)), section=section(lrs=[1e-3, 1e-2]), run=RUN)
    assert len(calls) == 3 + 2 * 2  # steps; then two candidates on two images of one window batch each


@pytest.mark.parametrize(
    ("values", "expected"), [((10.0, 30.0, 20.0), 1), ((30.0, 10.0, 30.0), 0), ((30.001, 30.004, 30.0), 1)]
)
def test_the_choice_is_by_unrounded_scores_and_ties_go_to_the_first_rate(monkeypatch, values, expected):
    found = iter(values)
    monkeypatch.setattr(task, "learn_side_by_side", lambda models, *_: dict.fromkeys(models, pd.DataFrame()))
    monkeypatch.setattr(task, "measure_all", lambda models, *_: dict.fromkeys(models, np.eye(CLASSES)))
    monkeypatch.setattr(task, "scores", lambda _: SimpleNamespace(miou=next(found)))
    trained = choose(segmentor(), None, on(), section=section(lrs=[0.1, 0.2, 0.3]), run=RUN)
    assert trained.lr == [0.1, 0.2, 0.3][expected] and trained.choice["miou"].tolist() == list(values)


def test_build_segmentor_takes_the_encoder_of_a_stage_and_a_seeded_decoder(tmp_path):
    spec = TINY.student("f2l").model_copy(update={"weights": "none"})
    torch.manual_seed(5)
    first = build_segmentor(TINY.models, spec, CLASSES, True, seed=0)
    init = save(tmp_path / "stage.safetensors", {"encoder": first.encoder}, Record())
    second, other = (build_segmentor(TINY.models, spec, CLASSES, False, seed, init) for seed in (0, 1))
    assert changed(first.encoder.state_dict(), second.encoder) == []
    assert changed(first.decoder.state_dict(), second.decoder) == []
    assert changed(first.decoder.state_dict(), other.decoder) != []
    assert first.frozen and not second.frozen
    with pytest.raises(CheckpointError, match="is missing"):
        build_segmentor(TINY.models, spec, CLASSES, True, 0, tmp_path / "absent.safetensors")
