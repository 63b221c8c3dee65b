"""Augmentation and masks: what follows the seed, what is drawn how often, and what it leaves alone."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from gkd.data.labels import IGNORE
from gkd.data.transforms import DistillationView, LabelledView, draw_mask, seeded
from gkd.params import ROOT, load

few = settings(max_examples=20)
TINY = load(ROOT / "profiles/tiny.yaml")
MEAN, STD = torch.tensor(IMAGENET_DEFAULT_MEAN), torch.tensor(IMAGENET_DEFAULT_STD)


def noise(seed=0, *size):
    return np.random.default_rng(seed).integers(0, 256, (*(size or (48, 64)), 3), dtype=np.uint8)


def distillation(**options):
    return DistillationView(TINY.domain_agnostic.model_copy(update={"image_size": [32, 40], **options}))


def labelled(crop=(32, 32), **options):
    return LabelledView(TINY.task_learning.model_copy(update={"crop": list(crop), **options}))


def drawn(view, *arrays, key=(0,)):
    with seeded(*key):
        return view(*arrays)


@few
@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=4))
def test_seeded_fixes_the_three_generators_and_restores_them(key):
    def states():
        return random.getstate(), [*map(str, np.random.get_state())], torch.get_rng_state().tolist()

    def draws():
        return random.random(), np.random.random(), torch.rand(1).item()

    before, first = states(), drawn(draws, key=key)
    assert drawn(draws, key=key) == first
    assert all(a != b for a, b in zip(drawn(draws, key=(*key, 1)), first, strict=True))
    with pytest.raises(KeyError), seeded(1):
        raise KeyError(draws())
    assert states() == before


# --- distillation ---


@few
@given(key=st.tuples(*[st.integers(0, 10**6)] * 3))
def test_a_view_follows_its_key(key):
    view = distillation()
    first, again, other = (drawn(view, noise(), key=k) for k in (key, key, (*key, 1)))
    assert first.shape == (3, 32, 40) and first.dtype == torch.float32
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_quarter_of_the_views_is_erased():
    view, image = distillation(), np.full((48, 64, 3), 128, np.uint8)
    count, values = 600, []
    for index in range(count):
        x = drawn(view, image, key=(0, index))
        # Noise is the one thing that leaves [0, 1] or lies between the 256 levels.
        erased = ((x * 255 - (x * 255).round()).abs() > 1e-3).any(0)
        if erased.any():
            assert 0.015 < erased.float().mean() < 0.36  # 2 to 33 % of the area
            values.append(x[:, erased])
    assert abs(len(values) / count - 0.25) < 4 * (0.25 * 0.75 / count) ** 0.5
    found = torch.cat(values, dim=1)
    # Standard normal where ImageNet's statistics normalise: images themselves leave un-normalised.
    torch.testing.assert_close(found.mean(1), MEAN, rtol=0, atol=0.01)
    torch.testing.assert_close(found.std(1), STD, rtol=0, atol=0.01)
    assert found.min() < 0 and found.max() > 1


def test_erasing_leaves_the_rest_of_the_view_exactly():
    plain, erasing = distillation(erase_probability=0.0), distillation(erase_probability=1.0)
    for key in range(10):
        x, y = (drawn(view, noise(), key=(key,)) for view in (plain, erasing))
        assert torch.equal(x, (x * 255).round() / 255) and 0 <= x.min() and x.max() <= 1  # un-normalised levels
        changed = (x != y).any(0)
        rows, columns = (changed.any(axis).nonzero() for axis in (1, 0))
        assert changed[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()
        assert 0.01 < changed.float().mean() < 0.36


@pytest.mark.parametrize("level", [0.0, 5.0, 9.0, 10.0])
def test_posterising_leaves_a_bit_at_every_magnitude(level):
    (op,) = (op for op in distillation().augment.ops if op.name.startswith("Posterize"))
    (bits,) = op.level_fn(level, op.hparams)
    assert bits == max(1, 4 - int(level / 10 * 4))
    op.magnitude, op.magnitude_std, op.prob = level, 0, 1.0
    assert np.unique(np.array(op(Image.fromarray(noise())))).size == 2**bits


def test_half_of_the_views_are_flipped():
    view = distillation(erase_probability=0.0, rand_augment="", scale=[1.0, 1.0])
    image = np.zeros((32, 40, 3), np.uint8)
    image[:, :8] = 255
    views = [drawn(view, image, key=(index,)) for index in range(200)]
    assert 70 < sum(bool(x[..., 0].mean() > x[..., -1].mean()) for x in views) < 130


shares = st.sampled_from([0.0, 0.3, 0.5, 1.0])


@given(st.integers(0, 9), st.integers(1, 40), shares, shares, st.integers(0, 999))
def test_the_first_rows_lose_their_share_of_patches(batch, patches, ratio, probability, seed):
    mask, again = (draw_mask(batch, patches, ratio, probability, torch.Generator().manual_seed(seed)) for _ in range(2))
    assert mask.shape == (batch, patches) and mask.dtype == torch.bool and torch.equal(mask, again)
    rows = int(batch * probability)
    assert mask.sum(1).tolist() == [int(ratio * patches)] * rows + [0] * (batch - rows)


def test_masks_are_uniform_and_differ_between_rows():
    mask = draw_mask(4000, 8, 0.5, 0.5, torch.Generator().manual_seed(0))[:2000].float()
    expected = torch.full((8, 8), -1 / 7).fill_diagonal_(1)  # between places, by the fixed count
    assert (mask.mean(0) - 0.5).abs().max() < 0.05 and (torch.corrcoef(mask.T) - expected).abs().max() < 0.1


# --- task learning ---


sides, crops = st.integers(8, 70), st.integers(8, 40)


@few
@given(sides, sides, st.tuples(crops, crops), st.integers(0, 9999))
def test_crops_have_the_crops_size_whatever_the_photo(height, width, crop, seed):
    label = np.random.default_rng(seed).integers(0, 4, (height, width), dtype=np.uint8)
    x, y = drawn(labelled(crop), noise(seed, height, width), label, key=(seed,))
    assert x.shape == (3, *crop) and x.dtype == torch.float32 and y.shape == crop and y.dtype == torch.int64
    assert x.min() >= 0 and x.max() <= 1 and set(y.unique().tolist()) <= {0, 1, 2, 3, IGNORE}


def test_small_photos_are_padded_with_the_mean_colour_and_void():
    view = labelled((40, 40), scale=[0.5, 0.5])
    x, y = drawn(view, np.full((20, 30, 3), 200, np.uint8), np.ones((20, 30), np.uint8))
    inside = torch.zeros(40, 40, dtype=torch.bool)
    inside[:20, :30] = True
    assert torch.equal(y == 1, inside) and (y[~inside] == IGNORE).all()
    assert (x[:, ~inside] == MEAN[:, None]).all()


def test_the_class_cap_avoids_crops_of_one_class_and_void_does_not_count():
    label, share = np.zeros((64, 64), np.uint8), {}
    label[:, 24:48] = 1
    for cap in (0.75, 1.0):
        view = labelled((16, 16), scale=[4.0, 4.0], max_class_share=cap)
        crops = [drawn(view, np.zeros((64, 64, 3), np.uint8), label, key=(i,))[1] for i in range(60)]
        share[cap] = sum(y.flatten().bincount().max() >= 0.75 * 256 for y in crops) / 60
    # 14 of 49 places hold both classes in shares below 3/4, which ten draws nearly always find; 30 hold both at all.
    assert share[0.75] < 0.15 and share[1.0] > 0.4
    void = torch.full((1, 16, 17), IGNORE, dtype=torch.uint8)
    void[0, 0, :2] = torch.tensor([0, 1])
    view = labelled((16, 16), max_class_share=0.75)
    assert {drawn(view._place, void, key=(i,)) for i in range(20)} == {(0, 0)}


PALETTE = np.array([[255, 40, 40], [40, 255, 40], [40, 40, 255]], np.uint8)


@few
@given(st.integers(0, 9999), st.integers(20, 60), st.integers(20, 60))
def test_image_and_label_stay_aligned(seed, height, width):
    blocks = np.random.default_rng(seed).integers(0, 3, (8, 8), dtype=np.uint8)
    label = blocks.repeat(8, 0).repeat(8, 1)[:height, :width]
    view = labelled((32, 32), scale=[1.0, 2.0])
    view.distort = torch.nn.Identity()  # keeps the colours apart; brightness stays
    x, y = drawn(view, PALETTE[label], label, key=(seed,))
    # The strongest channel is the class, wherever a pixel is not at a border between classes.
    inner = y != IGNORE
    for axis in (0, 1):
        for shift in (-2, -1, 1, 2):
            inner &= y == y.roll(shift, axis)
    inner[:2] = inner[-2:] = inner[:, :2] = inner[:, -2:] = False
    assert inner.any() and (x.argmax(0) == y)[inner].all()


def test_photometric_distortion_changes_colours_not_labels():
    view, image = labelled((32, 32), scale=[1.0, 1.0]), noise(0, 32, 32)
    label = np.random.default_rng(0).integers(0, 3, (32, 32), dtype=np.uint8)
    plain, expected, changed = torch.from_numpy(image).permute(2, 0, 1) / 255, torch.from_numpy(label).long(), 0
    for index in range(40):
        x, y = drawn(view, image, label, key=(index,))
        if not torch.equal(y, expected):
            x, y = x.flip(-1), y.flip(-1)
        assert torch.equal(y, expected)
        changed += not torch.equal(x, plain)
    assert 30 <= changed < 40  # each of the four parts is applied to half of the crops


@pytest.mark.parametrize("policy", ["rand-m9-tweights", "rand-t3aw"])
def test_policies_with_weights_lose_those_of_what_moves(policy):
    """timm 1.0.31 draws by weights, one an operation, which must add up to one."""
    view, photo = labelled((8, 8), rand_augment=policy), np.full((8, 8, 3), 99, np.uint8)
    assert 0 < len(view.augment.ops) == len(view.augment.choice_weights)
    assert not [op.name for op in view.augment.ops if op.name.startswith(("Rotate", "Shear", "Translate"))]
    assert drawn(view, photo, np.zeros((8, 8), np.uint8), key=(0,))[0].shape == (3, 8, 8)


def test_rand_augment_of_labelled_views_changes_colours_and_moves_nothing():
    label = np.zeros((32, 32), np.uint8)
    label[:, 16:], label[20:] = 1, 2
    image, changed = np.array([[200, 90, 40], [30, 160, 220], [120, 20, 130]], np.uint8)[label], 0
    plain, view = (labelled((32, 32), scale=[1.0, 1.0], rand_augment=p) for p in (None, "rand-m9-mstd0.5-inc1"))
    plain.distort = view.distort = lambda x: x
    for index in range(60):
        (before, expected), (x, y) = (drawn(v, image, label, key=(index,)) for v in (plain, view))
        assert torch.equal(y, expected)
        inner = torch.zeros_like(y, dtype=torch.bool)
        inner[1:-1, 1:-1] = True  # sharpening mixes the colours of neighbours
        for shift, axis in ((-1, 0), (1, 0), (-1, 1), (1, 1)):
            inner &= y == y.roll(shift, axis)
        for number in range(3):
            colours = x[:, inner & (y == number)]
            assert (colours.amax(1) - colours.amin(1) < 0.01).all()
        changed += not torch.equal(x, before)
    assert 25 <= changed < 60  # two operations, each drawn at one half


def test_the_paper_profile_draws_the_published_sizes():
    section = load(ROOT / "profiles/paper.yaml").task_learning
    view = LabelledView(section)
    sizes = {tuple(drawn(view._size, (1052, 1914), key=(number,))) for number in range(400)}  # GTAV
    assert sorted(height for height, _ in sizes) == view.short_edges == [
        256, 307, 358, 409, 460, 512, 563, 614, 665, 716, 768, 819, 870, 921, 972, 1024,
    ]  # fmt: skip
    assert section.max_class_share == 0.75 and max(width for _, width in sizes) == 1863
    assert max(max(drawn(view._size, (300, 1500), key=(i,))) for i in range(200)) == 2048  # a panorama
    free, bound = labelled(scale=[2.0, 2.0]), labelled(scale=[2.0, 2.0], max_long_edge=80)
    assert (free._size((32, 64)), bound._size((32, 64)), bound._size((32, 40))) == ([64, 128], [40, 80], [64, 80])
