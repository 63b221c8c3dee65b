import io

import ipywidgets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from gkd.models import Tokens
from gkd.qsd import QSD, Objective
from gkd.report.explorer import AttentionExplorer, attention_maps


class Patches(nn.Module):
    """A stand-in encoder: one linear map of each patch."""

    def __init__(self, patch, dim):
        super().__init__()
        self.embed = nn.Conv2d(3, dim, patch, patch)
        self.patch = patch
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        patches = self.embed(images).flatten(2).transpose(1, 2)
        return Tokens(patches.mean(dim=1), patches)

    def grid(self, size):
        return size[0] // self.patch, size[1] // self.patch


@pytest.fixture
def trio():
    torch.manual_seed(0)
    return Patches(8, 6), Patches(8, 4), Objective(6, 4, QSD, num_heads=2)


def test_maps_are_the_heads_attention_and_the_teachers_cosine(trio):
    student, teacher, objective = trio
    image = torch.rand(3, 16, 32)
    maps = attention_maps(*trio, image)
    assert list(maps) == ["fea_head", "patch_head", "teacher cosine"]
    assert all(values.shape == (8, 8) for values in maps.values())
    with torch.no_grad():
        s, t = student(image[None]).patches, teacher(image[None]).patches
        expected = objective.fea_head.attention_map(s, t).mean(dim=1)[0]
    np.testing.assert_allclose(maps["fea_head"], expected, atol=1e-6)
    np.testing.assert_allclose(maps["patch_head"].sum(axis=1), 1, atol=1e-5)
    assert not np.allclose(maps["fea_head"], maps["patch_head"])
    np.testing.assert_allclose(np.diag(maps["teacher cosine"]), 1, atol=1e-5)
    np.testing.assert_allclose(maps["teacher cosine"][1, 6], F.cosine_similarity(t[0, 1], t[0, 6], dim=0), atol=1e-5)


def test_maps_lie_on_the_teachers_grid():
    torch.manual_seed(0)
    maps = attention_maps(Patches(4, 6), Patches(8, 4), Objective(6, 4), torch.rand(3, 16, 32))
    assert maps["fea_head"].shape == (8, 8)


def test_heads_without_attention_are_refused(trio):
    student, teacher, objective = trio
    objective.patch_head = nn.Linear(6, 4)
    with pytest.raises(TypeError, match="objective.patch_head is a Linear without attention"):
        attention_maps(student, teacher, objective, torch.rand(3, 16, 16))


def test_explorer_redraws_on_a_patch_and_computes_once_per_image(trio):
    student = trio[0]
    app = AttentionExplorer({"wide": torch.rand(3, 16, 32), "tall": torch.rand(3, 24, 8)}, *trio)
    assert isinstance(app, ipywidgets.VBox)
    assert (app.row.value, app.column.value) == (1, 2)
    first = app.picture.value
    assert Image.open(io.BytesIO(first)).size[0] > 300
    app.column.value = 3
    second = app.picture.value
    assert second != first
    assert student.calls == 1
    app.image.value = "tall"
    assert student.calls == 2
    assert (app.row.max, app.column.max) == (2, 0)
    assert app.column.value == 0
    assert app.picture.value != second
    app.image.value = "wide"
    assert (app.row.max, app.column.max) == (1, 3)


def test_explorer_without_images_is_refused(trio):
    with pytest.raises(ValueError, match="one image or more"):
        AttentionExplorer({}, *trio)
