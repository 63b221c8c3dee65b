import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import SWIN, Average, tiny_vit

from gkd.models import Encoder, Tokens, resample_patches

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 3}
NO_CLS = {**VIT, "class_token": False, "global_pool": "avg"}
# name, options, image size, grid, dim
MODELS = {
    "vit": ("vit_tiny_patch16_224", VIT, (32, 32), (4, 4), 24),
    "vit without cls": ("vit_tiny_patch16_224", NO_CLS, (32, 32), (4, 4), 24),
    "vit with registers": ("vit_tiny_patch16_224", {**VIT, "reg_tokens": 2}, (32, 32), (4, 4), 24),
    "registers without cls": ("vit_tiny_patch16_224", {**NO_CLS, "reg_tokens": 2}, (32, 32), (4, 4), 24),
    "any size": ("vit_tiny_patch16_224", {**VIT, "dynamic_img_size": True}, (16, 48), (2, 6), 24),
    "eva02": ("eva02_tiny_patch14_224", VIT, (32, 32), (4, 4), 24),
    "resnet": ("resnet10t", {}, (64, 96), (2, 3), 512),
    "efficientnet": ("tf_efficientnet_lite0", {"output_stride": 16}, (64, 96), (4, 6), 320),
    "swin": ("swin_tiny_patch4_window7_224", SWIN, (64, 64), (2, 2), 128),
    "enlarged": ("vit_tiny_patch16_224", {**VIT, "dynamic_img_size": True, "enlarge": 2}, (16, 24), (4, 6), 24),
    "efficientnet enlarged": ("tf_efficientnet_lite0", {"output_stride": 16, "enlarge": 2}, (32, 48), (4, 6), 320),
}


@pytest.fixture(params=MODELS.values(), ids=MODELS.keys())
def case(request):
    name, options, size, grid, dim = request.param
    torch.manual_seed(0)
    return Encoder.create(name, **options).eval(), torch.rand(2, 3, *size), grid, dim


def test_tokens_and_grid(case):
    encoder, images, grid, dim = case
    tokens = encoder(images)
    assert tokens.cls.shape == (2, dim) and tokens.patches.shape == (2, grid[0] * grid[1], dim)
    assert encoder.dim == dim and encoder.grid(images.shape[-2:]) == grid
    assert encoder.mask_token.shape[0] == 1 and not encoder.mask_token.any()
    assert set(encoder.state_dict()) == {"mask_token", *(f"backbone.{key}" for key in encoder.backbone.state_dict())}
    found = encoder.final_map(images)
    assert found.shape == (2, dim, *grid) and torch.equal(found.flatten(2).transpose(1, 2), tokens.patches)


def test_an_efficientnet_ends_at_its_last_stage_unless_it_is_the_users_own():
    name, options, size, _, dim = MODELS["efficientnet"]
    encoder, images = Encoder.create(name, **options).eval(), torch.rand(1, 3, *size)
    torch.testing.assert_close(encoder.final_map(images), encoder.intermediate(images, [-1])[0], rtol=0, atol=0)
    theirs = timm.create_model(name, num_classes=0, **options)
    assert Encoder(theirs).dim == theirs.num_features == 1280 > dim


def test_a_mask_changes_its_own_sample_alone_and_nothing_is_left_behind(case):
    encoder, images, grid, _ = case
    mask = torch.zeros(2, grid[0] * grid[1], dtype=torch.bool)
    mask[1, 0] = True
    with torch.no_grad():
        plain, masked, again = encoder(images), encoder(images, mask), encoder(images)
        none = encoder(images, torch.zeros_like(mask))
    torch.testing.assert_close(masked.patches[0], plain.patches[0])
    assert (masked.patches[1] - plain.patches[1]).abs().max() > 1e-5
    assert (masked.cls[1] - plain.cls[1]).abs().max() > 1e-6
    torch.testing.assert_close(none, plain)
    torch.testing.assert_close(again, plain, rtol=0, atol=0)


@pytest.mark.parametrize("key", ["resnet", "swin"])
def test_the_cells_of_a_map_become_patches_row_by_row(key):
    name, options, size, grid, dim = MODELS[key]
    encoder, images = Encoder.create(name, **options).eval(), torch.rand(2, 3, *size)
    features = encoder.backbone.forward_features((images - encoder.mean) / encoder.std)
    if key == "resnet":
        features = features.movedim(1, -1)  # NCHW; swin keeps channels last
    assert features.shape == (2, *grid, dim)
    cls, patches = encoder(images)
    torch.testing.assert_close(patches.unflatten(1, grid), features)
    torch.testing.assert_close(cls, features.mean(dim=(1, 2)))


@pytest.mark.parametrize("name", ["test_resnet", "vit_tiny_patch16_224"])
def test_an_enlarging_encoder_sees_images_twice_as_large(name):
    options = {} if name == "test_resnet" else {**VIT, "dynamic_img_size": True}
    encoder, images = Encoder.create(name, enlarge=2, **options).eval(), torch.rand(2, 3, 32, 48)
    plain = Encoder(encoder.backbone, encoder.mean.flatten().tolist(), encoder.std.flatten().tolist()).eval()
    large = torch.nn.functional.interpolate(images, (64, 96), mode="bilinear")
    for found, expected in zip(encoder(images), plain(large), strict=True):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(encoder.intermediate(images, [0]), plain.intermediate(large, [0]))
    assert (encoder.stride, encoder.grid((32, 48))) == (plain.stride // 2, plain.grid((64, 96)))
    assert encoder.intermediate_dims([0]) == [
        (channels, stride // 2) for channels, stride in plain.intermediate_dims([0])
    ]
    assert encoder.options == {**options, "enlarge": 2}
    half = images[..., : encoder.stride - 1]
    with pytest.raises(ValueError, match=f"a patch has {encoder.stride} x {encoder.stride} pixels"):
        encoder(half)


@pytest.mark.parametrize("factor", [0, -2, 3, 1.5, "2"])
def test_a_factor_that_does_not_divide_the_stride_is_refused(factor):
    with pytest.raises(ValueError, match=f"enlarge={factor}: expected a whole number that divides the stride of 8"):
        Encoder.create("vit_tiny_patch16_224", enlarge=factor, **VIT)


@pytest.mark.parametrize("kind", ["resnet", "enlarged", "vit"])
def test_the_final_map_can_be_exported_for_any_size(kind):
    options = {"enlarge": 2} if kind == "enlarged" else {}
    encoder = tiny_vit(depth=1, dynamic_img_size=True) if kind == "vit" else Encoder.create("test_resnet", **options)
    free = dict.fromkeys((0, 2, 3), torch.export.Dim.AUTO)
    wrapped = torch.nn.Module()
    wrapped.encoder, wrapped.forward = encoder.eval(), encoder.final_map
    program = torch.export.export(wrapped, (torch.rand(2, 3, 64, 96),), dynamic_shapes=(free,))
    images = torch.rand(1, 3, 96, 160)
    torch.testing.assert_close(program.module()(images), encoder.final_map(images))


def test_intermediate_maps_are_those_of_the_blocks_asked_for_without_the_final_norm():
    encoder, images = tiny_vit(depth=3).eval(), torch.rand(2, 3, 32, 32)
    first, second, third = encoder.intermediate(images, [0, 1, 2])
    assert first.shape == third.shape == (2, 24, 4, 4) and not torch.allclose(first, third)
    tokens = third.flatten(2).transpose(1, 2)  # (B, N, C)
    torch.testing.assert_close(encoder.backbone.norm(tokens), encoder(images).patches)
    for found, expected in zip(encoder.intermediate(images, [-1, 0, 2, 1]), (third, first, third, second), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert encoder.intermediate_dims([-1, 0]) == [(24, 8), (24, 8)]
    assert Encoder.create("test_resnet").intermediate_dims([0, 1, -1]) == [(32, 2), (32, 4), (96, 32)]
    for block in (3, -4):
        with pytest.raises(ValueError, match=f"VisionTransformer has blocks 0 to 2, no block {block}"):
            encoder.intermediate_dims([0, block])
        for call in (encoder.intermediate, encoder.forward_with_blocks):
            with pytest.raises(ValueError, match=f"VisionTransformer has blocks 0 to 2, no block {block}"):
                call(images, [0, block])


@pytest.mark.parametrize("patch", [8, 14, 16])
def test_an_image_smaller_than_a_patch_is_refused(patch):
    encoder = tiny_vit(patch=patch, size=4 * patch, dynamic_img_size=True)
    for size in ((patch - 1, 64), (64, patch - 1)):
        expected = f"cannot take images of {size[0]} x {size[1]} pixels: a patch has {patch} x {patch} pixels"
        for call in (encoder, lambda x, e=encoder: e.grid(x.shape[-2:]), lambda x, e=encoder: e.intermediate(x, [0])):
            with pytest.raises(ValueError, match=expected):
                call(torch.rand(1, 3, *size))


def test_a_size_that_the_model_refuses_says_what_to_do():
    with pytest.raises(ValueError, match="Transformer cannot take images of 64 x 32 pixels: Input height.*img_size"):
        tiny_vit()(torch.rand(1, 3, 64, 32))
    encoder = tiny_vit(dynamic_img_size=True)
    for call in (encoder, encoder.final_map, lambda images: encoder.intermediate(images, [0])):
        with pytest.raises(ValueError, match="36 x 32 pixels: Input height .36. should be divisible by patch size"):
            call(torch.rand(1, 3, 36, 32))


def test_an_error_of_torch_says_what_to_do_where_the_size_is_at_fault(monkeypatch):
    encoder = Encoder.create("hiera_tiny_224", img_size=64)
    with pytest.raises(ValueError, match="Hiera cannot take images of 64 x 96 pixels: .*img_size"):
        encoder(torch.rand(1, 3, 64, 96))

    def full(_images):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(encoder.backbone, "forward_features", full)
    with pytest.raises(RuntimeError, match="out of memory"):
        encoder(torch.rand(1, 3, 64, 64))


@pytest.mark.parametrize("shape", [(2, 9), (1, 16), (2, 4, 4)])
def test_a_mask_on_another_grid_is_refused(shape):
    with pytest.raises(ValueError, match=r"mask of shape .* fit 2 images .* grid of 4 x 4: expected \(2, 16\)"):
        tiny_vit()(torch.rand(2, 3, 32, 32), torch.zeros(shape, dtype=torch.bool))


@pytest.mark.parametrize("key", ["vit", "vit with registers", "registers without cls"])
def test_cls_is_the_class_token_or_the_mean(key):
    encoder, images = Encoder.create(MODELS[key][0], **MODELS[key][1]).eval(), torch.rand(2, 3, 32, 32)
    cls, patches = encoder(images)
    features = encoder.backbone.forward_features((images - encoder.mean) / encoder.std)
    features = encoder.backbone.fc_norm(features)
    torch.testing.assert_close(patches, features[:, -16:])
    torch.testing.assert_close(cls, patches.mean(dim=1) if "without" in key else features[:, 0])


def test_the_encoder_normalises_with_the_statistics_of_its_model():
    encoder = Encoder.create("deit_tiny_patch16_224", **VIT).eval()
    assert encoder.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert encoder.std.flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])
    assert Encoder.create("vit_tiny_patch16_224", **VIT).mean.unique().tolist() == [0.5]
    images = 4 * torch.randn(2, 3, 32, 32)  # far outside [0, 1]: nothing is clamped
    raw = Encoder(encoder.backbone)
    torch.testing.assert_close(encoder(images), raw((images - encoder.mean) / encoder.std))


def test_photos_of_bytes_are_refused():
    with pytest.raises(TypeError, match=r"expected floats from 0 to 1, found torch.uint8; divide photos by 255"):
        tiny_vit(24)(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed size", "any size"])
def test_the_mask_token_replaces_the_embedding_before_positions(dynamic):
    encoder = tiny_vit(24, depth=1, dynamic_img_size=dynamic)
    encoder.backbone.blocks = torch.nn.Identity()  # so that a patch stays alone
    encoder.backbone.norm = torch.nn.Sequential()
    mask = torch.zeros(1, 16, dtype=torch.bool)
    mask[0, [3, 9]] = True
    images = torch.rand(1, 3, 32, 32)
    plain, masked = encoder(images).patches[0], encoder(images, mask).patches[0]
    positions = encoder.backbone.pos_embed[0, 1:]
    torch.testing.assert_close(masked[mask[0]], (encoder.mask_token + positions)[mask[0]])
    torch.testing.assert_close(masked[~mask[0]], plain[~mask[0]])


def test_masked_pixels_of_a_convolutional_model_take_the_mean_colour():
    encoder = Encoder(Average(8), mean=(0.2, 0.4, 0.6), std=(0.5, 0.25, 1.0))
    mask = torch.zeros(2, 6, dtype=torch.bool)
    mask[1, 4] = True
    images = torch.rand(2, 3, 16, 24)
    masked, plain = encoder(images, mask).patches, encoder(images).patches
    assert not masked[1, 4].any()  # zero once normalised
    torch.testing.assert_close(masked[~mask], plain[~mask])


@pytest.mark.parametrize("option", ["pretrained", "checkpoint_path"])
def test_options_that_have_timm_read_weights_are_refused(option):
    with pytest.raises(ValueError, match=f"resnet10t: {option} is no option of an encoder: `weights` says"):
        Encoder.create("resnet10t", **{option: "x"})


def tokens_of(maps):
    return Tokens(torch.zeros(len(maps), maps.shape[1]), maps.flatten(2).transpose(1, 2))


@settings(max_examples=30)
@given(st.tuples(*[st.integers(1, 9)] * 4), st.floats(-2, 2, width=32))
def test_resampling_keeps_constants(sizes, value):
    grid, target = sizes[:2], sizes[2:]
    patches = torch.full((2, grid[0] * grid[1], 3), value)
    out = resample_patches(patches, grid, target)
    assert (out is patches) == (grid == target)
    torch.testing.assert_close(out, torch.full((2, target[0] * target[1], 3), value))


@pytest.mark.parametrize("target", [(2, 2), (4, 2), (8, 8)])
def test_bf16_is_resampled_as_fp32_and_stays_bf16(target):
    """torch 2.14 antialiases no bf16 on a CPU: "compute_index_ranges_weights" not implemented for 'BFloat16'."""
    patches = torch.randn(2, 16, 3).bfloat16()
    found = resample_patches(patches, (4, 4), target)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, resample_patches(patches.float(), (4, 4), target).bfloat16())


@pytest.mark.parametrize("target", [(2, 8), (8, 2)])
def test_an_axis_that_gets_coarser_is_averaged_whatever_the_other_does(target):
    stripes = torch.tensor([0.0, 1.0]).repeat(2)  # four rows or columns
    maps = stripes.view(4, 1) if target[0] < 4 else stripes.view(1, 4)
    out = resample_patches(tokens_of(maps.expand(4, 4)[None, None]).patches, (4, 4), target)
    assert out.min() > 0.3 and out.max() < 0.7


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(2, 4))
def test_resampling_to_a_finer_grid_follows_a_ramp_and_keeps_rows_and_columns_apart(rows, columns, times):
    y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
    tokens = tokens_of(torch.stack([y, x])[None])
    out = resample_patches(tokens.patches, (rows, columns), (rows * times, columns * times))[0]
    sides = ((torch.arange(side * times) + 0.5) / times for side in (rows, columns))
    fine = torch.meshgrid(*sides, indexing="ij")
    expected = [fine[0].clamp(0.5, rows - 0.5), fine[1].clamp(0.5, columns - 0.5)]
    torch.testing.assert_close(out, torch.stack(expected, dim=-1).flatten(0, 1))


def test_pretrained_batch_norm_keeps_its_statistics_in_training():
    encoder = Encoder(timm.create_model("resnet10t", num_classes=0)).train()
    assert not encoder.is_per_sample()
    encoder.keep_statistics = True
    encoder.train()
    assert encoder.is_per_sample() and encoder.backbone.training
    before = {name: value.clone() for name, value in encoder.named_buffers()}
    encoder(torch.rand(2, 3, 64, 64))
    assert all(torch.equal(before[name], value) for name, value in encoder.named_buffers())
