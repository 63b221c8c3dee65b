import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_vit
from tiny_params import TINY
from torch import nn

from gkd.data.windows import window_starts
from gkd.models import Encoder
from gkd.segmentation.windows import Inference, argmax_of_bands, keep_ratio_size, predict, slide

quick = settings(max_examples=25, deadline=None)


def test_starts_of_the_published_windows():
    published = {1024: [0, 341, 512], 512: [0], 720: [0, 208], 1280: [0, 341, 682, 768], 960: [0, 341, 448], 300: [0]}
    assert {length: window_starts(length, 512, 341) for length in published} == published


@quick
@given(st.integers(1, 300), st.integers(1, 60), st.data())
def test_windows_cover_every_pixel_inside_the_image(length, size, data):
    starts = window_starts(length, size, data.draw(st.integers(1, size)))
    covered = {pixel for start in starts for pixel in range(start, min(start + size, length))}
    assert covered == set(range(length))
    assert starts == sorted(set(starts)) and starts[-1] == max(length - size, 0)


def test_gaps_between_windows_are_refused():
    with pytest.raises(ValueError, match="stride 5 exceeds the window 4"):
        window_starts(20, 4, 5)
    with pytest.raises(ValueError, match="must be positive, got 0, 4 and 4"):
        window_starts(0, 4, 4)


@pytest.mark.parametrize(
    ("size", "bound", "expected"),
    [
        ((2048, 1024), (1024, 512), (1024, 512)),
        ((1280, 720), (1280, 720), (1280, 720)),
        ((1920, 1080), (960, 540), (960, 540)),
        ((2000, 1500), (1024, 512), (683, 512)),
        ((1500, 2000), (1024, 512), (512, 683)),
        ((4000, 3000), (512, 512), (512, 384)),
        ((2000, 500), (1024, 512), (1024, 256)),
    ],
)
def test_keep_ratio_sizes_of_the_published_protocol(size, bound, expected):
    assert keep_ratio_size(*size, bound) == expected


def window_dependent(images):
    """Scores that depend on the place inside the window, so that averaging and cropping show."""
    ramp = torch.arange(images.shape[2])[:, None] * 0.1 + torch.arange(images.shape[3]) * 0.01
    means = images.mean(dim=(1, 2, 3))[:, None, None]
    return torch.stack([images[:, 0] * ramp, images[:, 1] + ramp, means + ramp], 1)


@quick
@given(*[st.integers(1, 24)] * 2, st.integers(1, 16), st.integers(1, 5), st.integers(1, 7), st.data())
def test_slide_is_the_mean_of_the_scores_of_windows_in_bands_as_they_finish(h, w, window, multiple, batch_size, data):
    stride, height, width = data.draw(st.integers(1, window)), h, w
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(h * 41 + w), dtype=torch.float64)
    fill, bands, seen = (0.1, 0.2, 0.3), [], []
    rows, columns = (window_starts(side, window, stride) for side in (height, width))

    def model(crops):
        seen.append(crops.shape)
        return window_dependent(crops)

    for band in slide(model, image, Inference(window, stride, None, multiple, batch_size, fill)):
        bands.append(band)
        calls = sum(shape[0] for shape in seen)  # the next window is in the row where the bands end
        end = rows[calls // len(columns)] if calls < len(rows) * len(columns) else height
        assert sum(band.shape[1] for band in bands) == end

    h, w = min(window, height), min(window, width)
    total, count = np.zeros((3, height, width)), np.zeros((height, width))
    for y, x in itertools.product(rows, columns):
        colour = torch.tensor(fill, dtype=torch.float64).view(1, 3, 1, 1)
        padded = colour.repeat(1, 1, -(-h // multiple) * multiple, -(-w // multiple) * multiple)
        padded[0, :, :h, :w] = image[:, y : y + h, x : x + w]
        total[:, y : y + h, x : x + w] += window_dependent(padded)[0, :, :h, :w].numpy()
        count[y : y + h, x : x + w] += 1
    np.testing.assert_allclose(torch.cat(bands, dim=1).numpy(), total / count, atol=1e-6)
    assert all(shape[2] % multiple == 0 and shape[3] % multiple == 0 for shape in seen)
    assert max(shape[0] for shape in seen) <= batch_size


def test_slide_resizes_coarse_scores_and_upcasts_half():
    image = torch.rand(3, 16, 16)
    (result,) = slide(lambda crops: F.avg_pool2d(crops, 4).half(), image, Inference(16, 16))
    expected = F.interpolate(F.avg_pool2d(image[None], 4).half().float(), (16, 16), mode="bilinear")
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, expected[0])


@quick
@given(
    *[st.integers(1, 30)] * 2,
    *[st.integers(1, 90)] * 2,
    st.integers(1, 40),
    st.lists(st.integers(0, 30), max_size=5),
)
def test_the_argmax_of_bands_is_that_of_the_whole(height, width, rows, columns, at_once, cuts):
    generator = torch.Generator().manual_seed(height * 31 + width)
    values = torch.rand(4, height, width, generator=generator, dtype=torch.float64)
    whole = F.interpolate(values[None], (rows, columns), mode="bilinear", align_corners=False)[0]
    edges = sorted({0, height, *(cut for cut in cuts if cut < height)})
    bands = (values[:, a:b] for a, b in itertools.pairwise(edges))
    found = argmax_of_bands(bands, (height, width), (rows, columns), at_once)
    best = whole.gather(0, found[None])[0]
    torch.testing.assert_close(best, whole.amax(dim=0), rtol=0, atol=1e-9)  # a tie may go to either class


def test_memory_at_the_size_of_the_label_is_a_band(monkeypatch):
    seen, resize = [], F.interpolate
    monkeypatch.setattr(
        F, "interpolate", lambda x, size, **options: seen.append(tuple(size)) or resize(x, size, **options)
    )
    argmax_of_bands([torch.rand(3, 10, 10)], (10, 10), (700, 90), at_once=256)
    assert seen == [(256, 90), (256, 90), (188, 90)]


@quick
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 40), st.integers(1, 60))
def test_ties_go_to_the_first_class_and_rows_at_once_change_no_bit(height, width, rows, at_once):
    generator = torch.Generator().manual_seed(height * 13 + width)
    coarse = torch.randint(0, 2, (5, height, width), generator=generator).float()  # full of ties
    assert torch.equal(argmax_of_bands([coarse], (height, width), (height, width)), coarse.argmax(dim=0))
    fine = torch.rand(5, height, width, generator=generator)
    whole, parts = (argmax_of_bands([fine], (height, width), (rows, 31), count) for count in (1000, at_once))
    assert torch.equal(whole, parts)


@pytest.mark.parametrize("size", [(20, 50), (40, 24), (7, 7)])
def test_a_photo_below_the_window_is_padded_to_it_for_an_encoder_of_one_size(size):
    encoder = tiny_vit()  # of 32 pixels
    assert encoder.fixed_size
    section = TINY.inference.model_copy(update={"window": 32, "stride": 16})
    seen, photo = [], np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)

    def model(images):
        seen.append(images.shape[-2:])
        return encoder.final_map(images)

    found = predict(model, photo, size, Inference.of(section, None, encoder))
    assert set(seen) == {(32, 32)} and found.shape == size
    dynamic = Encoder.create("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=1, dynamic_img_size=True)
    assert not dynamic.fixed_size and Inference.of(section, None, dynamic).multiple == 8


@pytest.mark.parametrize("name", ["hiera_tiny_224", "levit_128s"])
def test_models_that_do_not_say_that_one_size_fits_are_found_out(name):
    """Their patch embeddings take any size; positions, or the biases of attention, do not."""
    section = TINY.inference.model_copy(update={"window": 224, "stride": 149})
    encoder = Encoder.create(name)
    assert encoder.fixed_size and Inference.of(section, None, encoder).multiple == 224
    assert not Encoder.create("test_resnet").fixed_size


def test_a_module_that_cannot_be_tried_without_computing_takes_any_size():
    class Own(nn.Module):
        num_features, feature_info = 4, [{"num_chs": 4, "reduction": 8}]

        def forward_features(self, x):
            return x.mean().item() * x[:, :1, ::8, ::8].expand(-1, 4, -1, -1)  # the meta device has no values

    assert not Encoder(Own()).fixed_size
