"""One masked distillation step of each architecture as teacher and as student, at reduced size and without weights."""

from typing import NamedTuple

import pytest
import timm
import torch

from gkd.models import Encoder
from gkd.models.backbones import is_token_model
from gkd.qsd import Objective, distillation_step

VIT = {"embed_dim": 24, "depth": 2, "num_heads": 3}
V8 = {**VIT, "patch_size": 8, "img_size": (32, 48)}  # 4 x 6 patches
V14 = {**VIT, "img_size": (28, 42)}  # 2 x 3 patches
FOUR = {"depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 4)}
SWIN = {**FOUR, "embed_dim": 16, "window_size": 2, "img_size": (64, 96)}
WIDTHS = (8, 16, 24, 32)
MVIT = timm.models.mvitv2.MultiScaleVitCfg(depths=(1, 1, 1, 1), embed_dim=8, num_heads=1)
VOLO = {"layers": (1, 1), "embed_dims": (24, 24), "num_heads": (3, 3), "stem_hidden_dim": 8, "img_size": (64, 96)}
VOLO |= {"downsamples": (True, False), "outlook_attention": (True, False), "mlp_ratio": 2, "post_layers": ("ca",)}


class Case(NamedTuple):
    """A timm model name, or a class of timm.models where the named ones cannot be made small."""

    name: str
    options: dict
    size: tuple[int, int]
    token: bool = False  # masked by the mask token


def tokens(name, options=V8):
    return Case(name, options, options["img_size"], token=True)


def pixels(name, size=(64, 96), **options):
    return Case(name, options, size)


CASES = {
    "ViT": tokens("vit_tiny_patch16_224"),
    "MAE": tokens("vit_base_patch16_224.mae"),
    "DINO": tokens("vit_small_patch16_224.dino"),
    "DINOv2": tokens("vit_small_patch14_dinov2", V14),
    "DINOv2, registers": tokens("vit_small_patch14_reg4_dinov2", V14),
    "DINOv3": tokens("vit_small_patch16_dinov3"),
    "EVA02": tokens("eva02_tiny_patch14_224"),
    "CLIP": tokens("vit_base_patch16_clip_224"),
    "SigLIP": tokens("vit_base_patch16_siglip_224"),
    "SAM": tokens("samvit_base_patch16", {**V8, "neck_chans": 16, "window_size": 2, "global_attn_indexes": (1,)}),
    "DeiT": tokens("deit_tiny_patch16_224"),
    "DeiT, distilled": tokens("deit_tiny_distilled_patch16_224"),
    "DeiT III": tokens("deit3_small_patch16_224"),
    "BEiT": tokens("beit_base_patch16_224"),
    "ViT, one register, no class token": tokens("vit_wee_patch16_reg1_gap_256"),
    "ViT, relative positions": tokens("vit_relpos_small_patch16_224"),
    "ViT on a ResNet stem": tokens("vit_tiny_r_s16_p8_224", {**VIT, "img_size": (64, 96)}),
    "CaiT": tokens("cait_xxs24_224"),
    "ConViT": tokens("convit_tiny", {**V8, "img_size": (32, 32), "local_up_to_layer": 1}),  # square images alone
    "XCiT": tokens("xcit_nano_12_p8_224", {**VIT, "img_size": (32, 48)}),
    "MLP-Mixer": pixels("MlpMixer", (32, 48), img_size=(32, 48), patch_size=8, embed_dim=24, num_blocks=2),
    "VOLO": pixels("VOLO", **VOLO),
    "Swin": pixels("swin_tiny_patch4_window7_224", **SWIN),
    "Swin V2": pixels("swinv2_tiny_window8_256", **SWIN),
    "PVT v2 (SegFormer's MiT)": pixels("pvt_v2_b0", **FOUR, embed_dims=WIDTHS),
    "Twins": pixels("twins_svt_small", **FOUR, embed_dims=WIDTHS, wss=(2, 2, 2, 2)),
    "DaViT": pixels("davit_tiny", **FOUR, embed_dims=WIDTHS, window_size=2),
    "Hiera": pixels("hiera_tiny_224", img_size=(64, 96), embed_dim=8, num_heads=1, stages=(1, 1, 1, 1)),
    "MViT v2": pixels("MultiScaleVit", (64, 64), cfg=MVIT, img_size=64),  # square images alone
    "TinyViT": pixels("tiny_vit_5m_224", **{**FOUR, "embed_dims": (8, 16, 32, 32), "window_sizes": (2, 2, 2, 2)}),
    "EfficientViT": pixels("efficientvit_b0"),
    "LeViT": pixels("levit_128s", (64, 64), img_size=64, depth=(1, 1, 1)),
    "MobileViT v2": pixels("mobilevitv2_050"),
    "EdgeNeXt": pixels("edgenext_xx_small", depths=(1, 1, 1, 1), dims=WIDTHS, heads=(2, 2, 2, 2)),
    "PoolFormer": pixels("MetaFormer", depths=(1, 1, 1, 1), dims=WIDTHS),
    "FastViT": pixels("fastvit_t8", layers=(1, 1, 1, 1), embed_dims=(16, 32, 64, 128)),
    "CoAtNet": pixels("test_coatnet", img_size=(64, 96)),
    "ResNet": pixels("resnet18", channels=WIDTHS),
    "RegNet": pixels("regnety_002"),
    "ConvNeXt": pixels("convnext_atto", depths=(1, 1, 1, 1), dims=WIDTHS),
    "MobileNetV3": pixels("mobilenetv3_small_050"),
    "MobileNetV4": pixels("mobilenetv4_conv_small_035"),
    "EfficientNet": pixels("test_efficientnet"),
    "EfficientNet-lite, stride 16": pixels("tf_efficientnet_lite0", output_stride=16),
}
# Parameters that serve pooling and classification alone: forward_features does not reach them.
HEADS = ("backbone.head.", "backbone.attn_pool.", "backbone.conv_head.", "backbone.norm_head.")
# Tokens in a row or channels last, so that a wrong order would show, and residuals strong enough, even without
# training, for a patch to stay where it is (not so with batch statistics, pooling and the convolutions behind SAM).
ORDERED = [key for key, case in CASES.items() if case.token and key != "SAM"]
ORDERED += ["VOLO", "Swin", "Swin V2", "Twins", "DaViT", "Hiera", "MViT v2", "ConvNeXt"]


def build(case):
    torch.manual_seed(0)
    if case.name[0].isupper():
        return Encoder(getattr(timm.models, case.name)(num_classes=0, **case.options))
    return Encoder.create(case.name, **case.options)


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES.keys())
def built(request):
    return build(request.param), request.param


def small_vit(size):
    """The other side of the step: 16-pixel patches, padded where the size is none of their multiples."""
    options = {"embed_dim": 24, "depth": 1, "num_heads": 3, "img_size": size}
    return Encoder.create("vit_tiny_patch16_224", **options, dynamic_img_size=True, dynamic_img_pad=True)


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_masked_step_gives_gradients_where_they_are_due(built, role):
    encoder, case = built
    torch.manual_seed(0)
    vit = small_vit(case.size)
    student, teacher = (encoder, vit) if role == "student" else (vit, encoder)
    student.train().zero_grad()
    teacher.eval().zero_grad()
    images = torch.rand(2, 3, *case.size)
    rows, columns = student.grid(case.size)
    mask = torch.zeros(2, rows * columns, dtype=torch.bool)
    mask[0, ::2] = True
    objective = Objective(student.dim, teacher.dim)
    loss, metrics = distillation_step(student, teacher, objective, images, mask)
    loss.backward()

    assert loss.shape == () and all(torch.isfinite(value) and value > 0 for value in metrics.values())
    assert [k for k, p in teacher.named_parameters() if p.grad is not None] == []
    assert [k for k, p in objective.named_parameters() if p.grad is None] == []
    found = {k: p.grad for k, p in student.named_parameters() if not k.startswith(HEADS)}
    token = found.pop("mask_token")
    assert [k for k, g in found.items() if g is None] == []
    assert all(torch.isfinite(g).all() for g in found.values())
    assert next(g for g in found.values() if g.ndim == 4).any()  # of the patch embedding or the first convolution
    assert (token is not None and bool(token.any())) == (case.token or role == "teacher")


def test_grid_tokens_and_levels_agree(built):
    encoder, case = built
    encoder.eval()
    images = torch.rand(2, 3, *case.size)
    count = len(encoder.backbone.feature_info)
    with torch.no_grad():
        cls, patches = encoder(images)
        maps = encoder.intermediate(images, range(count))
        tokens, blocks = encoder.forward_with_blocks(images, [count - 1, 0])  # of one pass
        final = encoder.final_map(images).flatten(2).transpose(1, 2)
    for one, other in (
        (final, patches),
        (tokens.patches, patches),
        (blocks[0], maps[0]),
        (blocks[count - 1], maps[-1]),
    ):
        assert torch.equal(one, other)
    rows, columns = encoder.grid(case.size)
    assert is_token_model(encoder.backbone) is case.token
    assert cls.shape == (2, encoder.dim) and patches.shape == (2, rows * columns, encoder.dim)
    assert len(maps) == count and maps[-1].shape[2:] == (rows, columns)
    for found, (channels, stride) in zip(maps, encoder.intermediate_dims(range(count)), strict=True):
        assert found.shape[:2] == (2, channels)
        for length, pixel in zip(found.shape[2:], case.size, strict=True):
            assert abs(length - pixel / stride) < 1.01  # MobileViT rounds to an even number of cells
    assert encoder.intermediate_dims([-1])[0][1] == encoder.stride


@pytest.mark.parametrize("built", {k: CASES[k] for k in ORDERED}.values(), ids=ORDERED, indirect=True)
def test_what_is_masked_changes_most_at_its_own_place(built):
    encoder, case = built
    torch.manual_seed(0)
    encoder.eval()
    images, (rows, columns) = torch.rand(1, 3, *case.size), encoder.grid(case.size)
    with torch.no_grad():
        encoder.mask_token.normal_()
        plain = encoder(images).patches
        for cell in range(rows * columns):
            mask = torch.arange(rows * columns)[None] == cell
            assert (encoder(images, mask).patches - plain).norm(dim=-1).argmax() == cell
