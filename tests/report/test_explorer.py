import io

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import tiny_vit

from gkd.qsd import Objective
from gkd.report.explorer import AttentionExplorer, crops


def test_it_redraws_on_a_patch_and_computes_once_per_image():
    calls, trio = [], (*(tiny_vit(dim, dynamic_img_size=True).eval() for dim in (24, 48)), Objective(24, 48).eval())
    trio[0].register_forward_hook(lambda *_: calls.append(1))
    app = AttentionExplorer({"wide": torch.rand(3, 16, 32), "small": torch.rand(3, 8, 8)}, *trio)
    assert (app.row.value, app.column.value, app.row.max, app.column.max) == (1, 2, 1, 3)
    first = app.picture.value
    assert Image.open(io.BytesIO(first)).size[0] > 300
    app.column.value = 3
    second = app.picture.value
    assert second != first and len(calls) == 1
    app.image.value = "small"  # both sliders move to the edge
    assert len(calls) == 2 and app.picture.value != second
    assert (app.row.max, app.column.max, app.row.value, app.column.value) == (0, 0, 0, 0)
    app.image.value = "wide"
    assert (app.row.max, app.column.max) == (1, 3)
    with pytest.raises(ValueError, match="one image or more"):
        AttentionExplorer({}, *trio)


def test_crops_are_the_middle_of_the_first_photo_of_each():
    photo = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    found = crops({"day": [(photo, None)], "night": [(photo + 1, None)]}, [2, 4])
    assert list(found) == ["day", "night"] and found["day"].shape == (3, 2, 4)
    np.testing.assert_allclose(255 * found["night"].permute(1, 2, 0), photo[2:4, 2:6] + 1, rtol=1e-5)
