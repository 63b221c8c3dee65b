"""What is asked of a backbone, against what its forward pass does."""

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gkd.models import Encoder
from gkd.models.backbones import dry_grid, is_token_model, patch_size, prefix_tokens

PVT = {"depths": (1, 1, 1, 1), "embed_dims": (8, 16, 24, 32), "num_heads": (1, 1, 2, 4)}
ANY_SIZE = {
    "test_resnet": {},  # rounds up
    "test_convnext": {},  # rounds down
    "mobilevitv2_050": {},  # an even number of cells
    "pvt_v2_b0": PVT,
    "twins_svt_small": {**PVT, "wss": (2, 2, 2, 2)},  # returns tokens in a row
    "test_mambaout": {},  # channels last
}


def on_meta(name, **options):
    with torch.device("meta"):
        return timm.create_model(name, num_classes=0, **options)


@pytest.fixture(scope="module", params=ANY_SIZE)
def encoder(request):
    return Encoder.create(request.param, **ANY_SIZE[request.param]).eval()


@settings(max_examples=3)
@given(st.integers(32, 130), st.integers(32, 130))
def test_the_grid_is_that_of_the_forward_pass(encoder, height, width):
    with torch.no_grad():
        images = torch.rand(1, 3, height, width)
        patches = encoder(images).patches
        last = encoder.intermediate(images, [-1])[0]
    rows, columns = encoder.grid((height, width))
    assert (rows, columns) == last.shape[2:] and patches.shape[1] == rows * columns


@pytest.mark.parametrize("name", ["test_resnet", "xcit_nano_12_p8_224"])
def test_a_dry_run_leaves_the_model_and_the_random_numbers_alone(name):
    encoder = Encoder.create(name, drop_path_rate=0.5).train()
    encoder.backbone.forward_features = None  # what an instance has in its place is not called
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    state = torch.get_rng_state()
    assert encoder.grid((64, 64)) == encoder.grid([64, 64])
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())  # and on its device
    assert all(module.training for module in encoder.modules())


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("crossvit_tiny_240", (240, 240), "CrossVit returns several token grids"),
        ("pit_ti_224", (224, 224), "PoolingVisionTransformer returns its class token alone"),
        ("swin_tiny_patch4_window7_224", (64, 96), "SwinTransformer cannot take images of 64 x 96 .*Input.*img_size"),
    ],
)
def test_models_without_one_grid_of_patches_and_sizes_that_one_refuses_are_named(name, size, expected):
    backbone = on_meta(name)
    with pytest.raises(ValueError, match=expected):
        dry_grid(backbone, size)
    with pytest.raises(ValueError, match=expected):
        Encoder(backbone).to("meta")(torch.zeros(1, 3, *size, device="meta"))


@pytest.mark.parametrize(
    ("name", "token", "prefix", "patch"),
    [
        ("deit_tiny_distilled_patch16_224", True, 2, 16),
        ("vit_small_patch14_reg4_dinov2", True, 5, 14),
        ("vit_base_patch16_siglip_224", True, 0, 16),
        ("vit_tiny_r_s16_p8_224", True, 1, 32),
        ("volo_d1_224", False, 1, 16),
        ("hiera_tiny_224", False, 0, 32),
    ],
)
def test_what_a_model_says_of_itself(name, token, prefix, patch):
    backbone = on_meta(name)
    assert (is_token_model(backbone), prefix_tokens(backbone), patch_size(backbone)) == (token, prefix, patch)
