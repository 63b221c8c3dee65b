import numpy as np
import pytest
import torch

from gkd.data.labels import IGNORE
from gkd.mini.pretraining import OVERHEAD, STREET, Pretrain, draw_pool, pretrain
from gkd.mini.style import Style
from gkd.params import EncoderSpec

SPEC = EncoderSpec(
    name="vit_tiny_patch16_224",
    options={"img_size": 64, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 3},
    weights="a/file/that/must/not/be/read.safetensors",
)


def plain_style(_rng, kind):
    return Style(kind=kind)


def test_a_pool_holds_street_then_overhead_scenes_in_one_label_space():
    images, labels = draw_pool(plain_style, 3, seed=0)
    assert images.shape == (6, 64, 64, 3) and labels.shape == (6, 64, 64)
    assert images.dtype == labels.dtype == np.uint8 and all(image.std() > 1 for image in images)
    street, overhead = (set(np.unique(part)) - {IGNORE} for part in (labels[:3], labels[3:]))
    assert street and max(street) < STREET == 19
    assert overhead and min(overhead) >= STREET and max(overhead) < STREET + OVERHEAD == 25
    (few, fewer), (other, _) = draw_pool(plain_style, 2, 0), draw_pool(plain_style, 2, 1)
    for two, three in ((few, images), (fewer, labels)):  # scene i follows the seed and i alone
        assert np.array_equal(two[:2], three[:2]) and np.array_equal(two[2:], three[3:5])
    assert not np.array_equal(few, other)


def run(seed=0, steps=4):
    section = Pretrain(steps={"student": steps}, batch_size=4, lr={"student": 3e-3}, weight_decay=0.05, pool=4)
    return pretrain(SPEC, plain_style, section, seed, "student")


def test_pretraining_starts_from_scratch_and_returns_the_whole_segmentor(capsys):
    model, history = run(steps=10)
    assert list(history) == ["step", "lr", "loss", "accuracy"] and len(history) == 10
    assert history["loss"].tail(3).mean() < history["loss"].head(3).mean()
    assert history["accuracy"].between(0, 1).all()
    assert history["lr"].iloc[0] == pytest.approx(1.5e-3) and history["lr"].iloc[1] == pytest.approx(3e-3)  # warm-up
    assert not model.training and not model.frozen
    assert model(torch.rand(2, 3, 64, 64)).shape == (2, STREET + OVERHEAD, 32, 32)
    assert capsys.readouterr().out.startswith("student: 8 scenes drawn\n")


def test_a_rerun_gives_equal_bits():
    (one, first), (two, second), (_, other) = run(), run(), run(seed=1)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert first["loss"].tolist() == second["loss"].tolist() != other["loss"].tolist()
