import copy
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_models import tiny_vit

from gkd.data.domains import SOURCES
from gkd.data.labels import IGNORE
from gkd.methods.baselines import pixel_kl
from gkd.params import Evaluate, Mask2FormerOptions, TaskLearning
from gkd.params import load as load_params
from gkd.segmentation import task_learning as task
from gkd.segmentation.decoders import ConvDecoder, LinearDecoder, Segmentor
from gkd.segmentation.mask2former import Mask2Former
from gkd.segmentation.task_learning import build_segmentor, choose, learn, learn_side_by_side, measure, score_row, show
from gkd.train.resume import Resume
from gkd.weights import CheckpointError, Record, save

SOURCE = SOURCES["potsdam"]
CLASSES = len(SOURCE.classes)
PROTOCOL = Evaluate(window=32, stride=32, batch_size=4)


@pytest.fixture(autouse=True)
def no_workers(monkeypatch):
    monkeypatch.setenv("GKD_WORKERS", "0")


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


def section(**options):
    return TaskLearning(
        **{"steps": 3, "batch_size": 4, "lrs": [1e-2], "crop": [32, 32], "scale": [1.0, 1.5], **options}
    )


def segmentor(frozen=True, seed=0, decoder="conv"):
    encoder = tiny_vit(24, depth=1 if decoder == "conv" else 4, seed=seed)
    torch.manual_seed(seed)
    if decoder == "conv":
        return Segmentor(encoder, ConvDecoder(24, CLASSES, 32), frozen)
    options = Mask2FormerOptions(dim=32, queries=8, encoder_layers=1, decoder_layers=1, points=64)
    return Segmentor(encoder, Mask2Former(encoder, CLASSES, options, range(4)), frozen)


def changed(before, module):
    return [key for key, value in module.state_dict().items() if not torch.equal(value, before[key])]


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_encoder_stays_bit_equal_and_a_fine_tuned_one_learns(frozen):
    model = segmentor(frozen)
    encoder, decoder = (copy.deepcopy(part.state_dict()) for part in (model.encoder, model.decoder))
    history = learn(model, Blocks(), section(), 1e-2, 0, "run")
    assert list(history) == ["step", "lr", "ce_loss", "loss"] and len(history) == 3
    assert history["loss"].tolist() == history["ce_loss"].tolist()
    assert history["lr"].tolist() == pytest.approx([1e-2 * (1 - i / 3) ** 0.9 for i in range(3)])
    assert len(changed(decoder, model.decoder)) == len(decoder)
    expected = [] if frozen else [key for key in encoder if key != "mask_token"]  # no mask here
    assert changed(encoder, model.encoder) == expected


def test_the_encoder_learns_at_its_share_of_the_rate():
    steps = {}
    for factor in (0.1, 0.01):
        model = segmentor(frozen=False)
        before = model.encoder.backbone.pos_embed.detach().clone()
        learn(model, Blocks(), section(steps=1, encoder_lr_factor=factor, weight_decay=0.0), 1e-2, 0, "run")
        steps[factor] = (model.encoder.backbone.pos_embed - before).abs().median().item()
    # Adam's first step is the learning rate itself.
    assert steps[0.1] == pytest.approx(1e-3, rel=0.05) and steps[0.01] == pytest.approx(1e-4, rel=0.05)


def test_the_loss_falls_and_the_classes_are_learned():
    model = segmentor(frozen=False)
    before = measure(model, Blocks(), CLASSES, PROTOCOL, SOURCE.validation.name, "run")
    history = learn(model, Blocks(), section(steps=40, encoder_lr_factor=1.0), 1e-2, 0, "run")
    assert history["loss"].tail(5).mean() < 0.7 * history["loss"].head(2).mean()
    after = measure(model, Blocks(), CLASSES, PROTOCOL, SOURCE.validation.name, "run")
    assert before.sum() == after.sum() == 6 * 30 * 32  # void left out
    assert np.diag(after).sum() > 1.5 * np.diag(before).sum()


def test_the_kd_term_is_added_and_the_guide_stays_as_it_was():
    guide, model = segmentor(seed=1).train(), segmentor(frozen=False)
    guide.requires_grad_(True)
    before = copy.deepcopy(guide.state_dict())
    options = section(kd_weight=3.0, kd_temperature=2.0)
    seen = []

    def recorded(student, teacher, temperature):
        seen.append((teacher.requires_grad, temperature, pixel_kl(student, teacher, temperature)))
        return seen[-1][2]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task, "pixel_kl", recorded)
        history = learn(model, Blocks(), options, 1e-2, 0, "run", guide)
    assert [(grad, temperature) for grad, temperature, _ in seen] == [(False, 2.0)] * 3
    assert history["kd_loss"].tolist() == pytest.approx([kl.item() for *_, kl in seen])
    assert history["loss"].tolist() == pytest.approx((history["ce_loss"] + 3 * history["kd_loss"]).tolist())
    assert changed(before, guide) == [] and not guide.training
    assert not any(p.requires_grad or p.grad is not None for p in guide.parameters())
    unguided = segmentor(frozen=False)
    learn(unguided, Blocks(), options, 1e-2, 0, "run")
    assert changed(model.decoder.state_dict(), unguided.decoder) != []


# The set loss of a mask2former is a sum over layers, tens of times a cross-entropy.
@pytest.mark.parametrize(("decoder", "steps", "weight"), [("conv", (15, 25), 5.0), ("mask2former", (8, 16), 500.0)])
def test_kd_leads_to_the_guide(decoder, steps, weight):
    guide, model = segmentor(seed=1, decoder=decoder), segmentor(frozen=False, decoder=decoder)
    learn(guide, Blocks(), section(steps=steps[0]), 1e-2, 0, "guide")
    history = learn(model, Blocks(), section(steps=steps[1], kd_weight=weight), 1e-2, 0, "run", guide)
    assert history["kd_loss"].tail(5).mean() < 0.7 * history["kd_loss"].head(2).mean()


def test_choose_keeps_the_best_rate_on_the_validation_part_and_records_all(capsys):
    model = segmentor()
    start = copy.deepcopy(model.state_dict())
    options = section(steps=12, lrs=[1e-6, 1e-2, 1e-5])
    trained = choose(model, Blocks(), Blocks(seed=1), SOURCE, options, PROTOCOL, 0, "run")
    assert changed(start, model) == []  # every rate starts from the same weights
    assert trained.choice["lr"].tolist() == options.lrs
    assert trained.lr == 1e-2 == options.lrs[trained.choice["miou"].idxmax()]
    alone = copy.deepcopy(model)
    history = learn(alone, Blocks(), section(steps=12), 1e-2, 0, "alone")
    assert changed(alone.state_dict(), trained.model) == []
    pd.testing.assert_frame_equal(trained.history, history, check_exact=True)
    confusion = measure(alone, Blocks(seed=1), CLASSES, PROTOCOL, SOURCE.validation.name, "run")
    assert np.array_equal(trained.confusion, confusion)
    who = {"setting": "f2l", "method": "gkd", "source": "potsdam", "seed": 0}
    row = score_row(who, SOURCE.validation.name, confusion, trained.lr)
    assert list(row) == [*who, "domain", "miou", "macc", "aacc", "lr"]
    assert row["miou"] == trained.choice["miou"].max()
    lines = [line for line in capsys.readouterr().out.splitlines() if "source validation mIoU" in line]
    assert lines == [
        f"run lr {lr:g}  source validation mIoU {miou:.2f}"
        for lr, miou in trained.choice.itertuples(index=False, name=None)
    ]


def test_a_killed_choice_continues_where_it_was(tmp_path, monkeypatch, capsys):
    options = section(lrs=[1e-2, 1e-3])
    expected = choose(segmentor(), Blocks(), Blocks(seed=1), SOURCE, options, PROTOCOL, 0, "run")
    resume = Resume(tmp_path / "member", "key", 0)
    real, done = task.scores, []

    def killed(confusion):
        done.append(confusion)
        if len(done) == 2:
            raise KeyboardInterrupt
        return real(confusion)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(task, "scores", killed)
        choose(segmentor(), Blocks(), Blocks(seed=1), SOURCE, options, PROTOCOL, 0, "run", resume=resume)
    photos, validation = Blocks(), Blocks(seed=1)
    monkeypatch.setattr(Blocks, "__getitem__", lambda *_: pytest.fail("trained or evaluated again"))
    trained = choose(segmentor(), photos, validation, SOURCE, options, PROTOCOL, 0, "run", resume=resume)
    assert changed(expected.model.state_dict(), trained.model) == [] and trained.lr == expected.lr
    pd.testing.assert_frame_equal(trained.history, expected.history, check_exact=True)
    pd.testing.assert_frame_equal(trained.choice, expected.choice, check_exact=True)


@pytest.mark.parametrize("decoder", ["conv", "mask2former"])
@pytest.mark.parametrize("frozen", [True, False])
def test_side_by_side_gives_the_bytes_of_one_after_another(frozen, decoder):
    guide, start = segmentor(seed=1, decoder=decoder), segmentor(frozen, decoder=decoder)
    together = {lr: copy.deepcopy(start) for lr in (1e-3, 1e-2)}
    if frozen:
        together[1e-2].encoder = together[1e-3].encoder
    histories = learn_side_by_side(together, Blocks(), section(), 0, "run", guide)
    assert list(histories) == [1e-3, 1e-2]
    for lr, model in together.items():
        alone = copy.deepcopy(start)
        torch.manual_seed(int(1e6 * lr))  # nothing but the seed of the run counts
        history = learn(alone, Blocks(), section(), lr, 0, "run", guide)
        assert changed(alone.state_dict(), model) == []
        pd.testing.assert_frame_equal(histories[lr], history, check_exact=True)
    assert changed(together[1e-3].decoder.state_dict(), together[1e-2].decoder) != []


def test_a_mask2former_of_another_seed_draws_other_points():
    first, second = segmentor(decoder="mask2former"), segmentor(decoder="mask2former")
    whole = {"scale": [1.0, 1.0], "batch_size": 6, "steps": 1}
    histories = [learn(m, Blocks(), section(**whole), 1e-3, seed, "run") for m, seed in ((first, 0), (second, 1))]
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
    calls = []
    model = segmentor()
    model.encoder.backbone.patch_embed.register_forward_hook(lambda *_: calls.append("batch"))
    choose(model, Blocks(), Blocks(2), SOURCE, section(lrs=[1e-3, 1e-2]), PROTOCOL, 0, "run")
    training = 3  # steps; the rest is the evaluation of two candidates on two images of one window batch each
    assert calls.count("batch") == training + 2 * 2


def test_methods_without_distillation_get_their_share_of_source_steps():
    options = section(steps=3, undistilled_steps=4)
    assert options.for_method(distils=True).steps == 3 and options.for_method(distils=False).steps == 7
    assert options.for_method(distils=False).lrs == options.lrs


@pytest.mark.parametrize(("values", "expected"), [((10.0, 30.0, 20.0), 1), ((30.0, 10.0, 30.0), 0)])
def test_ties_go_to_the_first_rate(monkeypatch, values, expected):
    found = iter(values)
    monkeypatch.setattr(task, "learn_side_by_side", lambda models, *_: dict.fromkeys(models, pd.DataFrame()))
    monkeypatch.setattr(task, "measure", lambda *_: np.eye(CLASSES))
    monkeypatch.setattr(task, "scores", lambda _: SimpleNamespace(miou=next(found)))
    trained = choose(segmentor(), None, None, SOURCE, section(lrs=[0.1, 0.2, 0.3]), PROTOCOL, 0, "run")
    assert trained.lr == [0.1, 0.2, 0.3][expected] and trained.choice["miou"].tolist() == list(values)


def test_build_segmentor_takes_the_encoder_of_a_stage_and_a_seeded_decoder(tmp_path):
    params = load_params("tiny")
    spec = params.models.students["f2l"].model_copy(update={"weights": "none"})
    torch.manual_seed(5)
    first = build_segmentor(params, spec, CLASSES, True, seed=0)
    init = save(tmp_path / "stage.safetensors", {"encoder": first.encoder}, Record())
    second, other = (build_segmentor(params, spec, CLASSES, False, seed, init) for seed in (0, 1))
    assert changed(first.encoder.state_dict(), second.encoder) == []
    assert changed(first.decoder.state_dict(), second.decoder) == []
    assert changed(first.decoder.state_dict(), other.decoder) != []
    assert first.frozen and not second.frozen
    with pytest.raises(CheckpointError, match="is missing"):
        build_segmentor(params, spec, CLASSES, True, 0, tmp_path / "absent.safetensors")


@pytest.mark.parametrize(("count", "rows"), [(1, [0]), (3, [0, 2, 5]), (9, [0, 1, 2, 3, 4, 5])])
def test_show_gives_samples_spread_over_the_domain(count, rows):
    data, model = Blocks(), Segmentor(tiny_vit(24, depth=1), LinearDecoder(24, CLASSES), True)
    photos, labels, maps = show(model, data, PROTOCOL, "vaihingen-irrg", count)
    assert len(photos) == len(labels) == len(maps) == len(rows)
    for row, photo, label, found in zip(rows, photos, labels, maps, strict=True):
        assert np.array_equal(photo, data.images[row]) and np.array_equal(label, data.labels[row])
        assert found.shape == label.shape and 0 <= found.min() and found.max() < CLASSES


def test_the_bound_of_the_domain_is_used(monkeypatch):
    used = []

    def record(models, data, classes, *_):
        used.extend(how for _, how in models.values())
        return {name: np.zeros((classes, classes), dtype=np.int64) for name in models}

    monkeypatch.setattr(task, "evaluate_all", record)
    protocol = Evaluate(window=64, stride=43, batch_size=4, bounds={"a": [128, 64]})
    for domain in ("a", "b"):
        measure(segmentor(), Blocks(), CLASSES, protocol, domain, "run")
    assert [how.bound for how in used] == [(128, 64), None]
    assert all((how.window, how.stride, how.multiple, how.batch_size) == (64, 43, 8, 4) for how in used)
