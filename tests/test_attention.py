import numpy as np
import pytest
import torch
from tiny_models import tiny_vit

from gkd.attention import attention_maps
from gkd.methods.baselines import LinearHead
from gkd.models import resample_tokens
from gkd.qsd import Objective


@pytest.mark.parametrize("patch", [8, 16])
def test_maps_lie_on_the_teachers_grid_and_are_those_of_training(patch):
    student, teacher = tiny_vit(24, patch).eval(), tiny_vit(48).eval()
    objective, image = Objective(24, 48).eval(), torch.rand(3, 32, 32)
    maps = attention_maps(student, teacher, objective, image)
    assert list(maps) == ["fea_head", "patch_head", "teacher cosine"]
    assert {m.shape for m in maps.values()} == {(16, 16)}
    with torch.no_grad():
        tokens = resample_tokens(student(image[None]), student.grid((32, 32)), (4, 4)).patches
        target = teacher(image[None]).patches
        for name in ("fea_head", "patch_head"):
            head = getattr(objective, name)
            out = torch.from_numpy(maps[name]) @ head.proj_v(tokens)[0]
            torch.testing.assert_close(out, head(tokens, target)[0], rtol=1e-4, atol=1e-5)


def test_several_heads_are_averaged():
    student, teacher, image = tiny_vit(24).eval(), tiny_vit(48).eval(), torch.rand(3, 32, 32)
    objective = Objective(24, 48, num_heads=2).eval()
    maps = attention_maps(student, teacher, objective, image)
    with torch.no_grad():
        each = objective.patch_head.attention_map(student(image[None]).patches, teacher(image[None]).patches)[0]
    np.testing.assert_allclose(maps["patch_head"], each.mean(0).numpy(), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(maps["fea_head"].sum(axis=1), 1, rtol=1e-5)


def test_the_cosine_is_the_teachers_own():
    teacher, image = tiny_vit(24).eval(), torch.rand(3, 32, 32)
    found = attention_maps(tiny_vit(24).eval(), teacher, Objective(24, 24), image)["teacher cosine"]
    with torch.no_grad():
        tokens = teacher(image[None]).patches[0].numpy()
    norms = np.linalg.norm(tokens, axis=1)
    np.testing.assert_allclose(found, tokens @ tokens.T / np.outer(norms, norms), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.diag(found), 1, rtol=1e-5)


def test_heads_without_attention_are_named():
    with pytest.raises(TypeError, match="objective.fea_head is a LinearHead"):
        attention_maps(tiny_vit(24), tiny_vit(24), Objective(24, 24, head=LinearHead), torch.rand(3, 32, 32))


@pytest.mark.parametrize("pool", [2, 3])
@pytest.mark.parametrize("size", [(32, 32), (32, 48)])
def test_maps_of_light_qsd_are_spread_over_the_patches(pool, size):
    student, teacher = (tiny_vit(dim, dynamic_img_size=True).eval() for dim in (24, 48))
    objective, image = Objective(24, 48, num_heads=2, pool=pool).eval(), torch.rand(3, *size)
    maps, grid = attention_maps(student, teacher, objective, image), teacher.grid(size)
    with torch.no_grad():
        head, tokens = objective.fea_head, student(image[None]).patches
        each = head.attention_map(tokens, teacher(image[None]).patches, grid)[0].mean(0)  # (N, cells)
    patches = grid[0] * grid[1]
    assert maps["fea_head"].shape == (patches, patches)
    np.testing.assert_allclose(maps["fea_head"].sum(axis=1), 1, rtol=1e-5)
    # The first cell's patches share its attention.
    first = maps["fea_head"].reshape(patches, *grid)[:, :pool, :pool]
    np.testing.assert_allclose(first.sum(axis=(1, 2)), each[:, 0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(first[:, 0, 0], first[:, 1, 1], rtol=1e-5)
