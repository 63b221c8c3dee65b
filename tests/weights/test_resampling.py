"""Published resampling against a bicubic interpolation written out."""

import numpy as np
import pytest
import timm
import torch
from timm.models.vision_transformer import checkpoint_filter_fn

from gkd.weights.fitting import resample_bicubic


def vit(size, patch, **options):
    torch.manual_seed(0)
    options = {"embed_dim": 6, "depth": 1, "num_heads": 1, **options}
    return timm.create_model("vit_tiny_patch16_224", img_size=size, patch_size=patch, num_classes=0, **options)


def bicubic(values, target):
    """One axis (the first) of an array, brought to `target` places: Keys' kernel, a = -0.75, borders repeated."""
    a, count = -0.75, len(values)
    out = np.zeros((target, *values.shape[1:]))
    for i in range(target):
        place = (i + 0.5) * count / target - 0.5
        for tap in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3):
            x = abs(place - tap)
            near = (a + 2) * x**3 - (a + 3) * x**2 + 1
            weight = near if x <= 1 else a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
            out[i] += weight * values[min(max(tap, 0), count - 1)]
    return out


def plane(values, size):
    """(h, w, ...) -> (*size, ...)"""
    return bicubic(bicubic(values, size[0]).swapaxes(0, 1), size[1]).swapaxes(0, 1)


def test_518_pixels_of_patch_14_become_512_of_patch_16_by_literal_bicubic():
    published, model = vit(518, 14), vit(512, 16)
    torch.nn.init.normal_(published.pos_embed)
    state = published.state_dict()
    found = resample_bicubic(state, model)
    before, after = state["pos_embed"][0].double().numpy(), found["pos_embed"][0].numpy()
    assert before.shape == (1 + 37 * 37, 6) and after.shape == (1 + 32 * 32, 6)
    np.testing.assert_array_equal(after[0], before[0])  # the class token has no place
    grid = plane(before[1:].reshape(37, 37, 6), (32, 32))
    np.testing.assert_allclose(after[1:], grid.reshape(-1, 6), atol=1e-5)
    kernels = state["patch_embed.proj.weight"].double().permute(2, 3, 0, 1).numpy()  # (14, 14, C, 3)
    resized = found["patch_embed.proj.weight"].permute(2, 3, 0, 1).numpy()
    np.testing.assert_allclose(resized, plane(kernels, (16, 16)), atol=1e-6)

    model.load_state_dict(found)  # strict
    assert state["pos_embed"].shape[1] == 1 + 37 * 37  # the state that came in is as it was
    same = [key for key in state if key not in ("pos_embed", "patch_embed.proj.weight")]
    assert all(found[key] is state[key] for key in same)
    # timm's own way is another one, and leaves alone what fits.
    assert all(torch.equal(value, found[key]) for key, value in checkpoint_filter_fn(dict(found), model).items())
    timms = checkpoint_filter_fn(dict(state), model)
    for key in ("pos_embed", "patch_embed.proj.weight"):
        assert (timms[key] - found[key]).abs().max() > 1e-3


def test_positions_in_rows_and_columns():
    options = {"embed_dim": 6, "depth": 1, "num_heads": 1, "neck_chans": 4, "num_classes": 0}
    published, model = (timm.create_model("samvit_base_patch16", img_size=s, **options) for s in (64, (48, 80)))
    torch.nn.init.normal_(published.pos_embed)
    found = resample_bicubic({"pos_embed": published.pos_embed.detach()}, model)["pos_embed"]
    np.testing.assert_allclose(found[0], plane(published.pos_embed[0].detach().double().numpy(), (3, 5)), atol=1e-5)


@pytest.mark.parametrize("grid", [(2, 2), (2, 3), (3, 8), (1, 5)])
def test_what_fits_and_what_is_unknown_passes(grid):
    model = vit((16 * grid[0], 16 * grid[1]), 16)  # 3 x 8 and a class token: as many rows as a square of 5
    state = {"pos_embed": model.pos_embed, "other.pos_embed": torch.zeros(1, 7, 2), "head.weight": torch.zeros(3, 6)}
    assert all(value is state[key] for key, value in resample_bicubic(state, model).items())
