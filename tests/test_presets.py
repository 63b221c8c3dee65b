"""The `paper` profiles: names that timm has with weights, options that fit, published hyper-parameters."""

import pytest
import timm
import torch
import yaml

from gkd.methods import objective, row
from gkd.models import Encoder
from gkd.params import ROOT, EncoderSpec, load

# Rows of Table 1 and of the F2F results, and what the published scripts have besides: profile, teacher, student.
ROWS = {
    "paper": ("vit_base_patch14_dinov2.lvd142m", "f2l", "deit_small_patch16_224.fb_in1k"),
    "paper-base": ("vit_large_patch14_dinov2.lvd142m", "f2l", "deit_base_patch16_224.fb_in1k"),
    "paper-dino": ("vit_base_patch14_dinov2.lvd142m", "f2l", "vit_small_patch16_224.dino"),
    "paper-dino-base": ("vit_large_patch14_dinov2.lvd142m", "f2l", "vit_base_patch16_224.dino"),
    "paper-f2f": ("vit_base_patch14_dinov2.lvd142m", "f2f", "vit_small_patch14_dinov2.lvd142m"),
    "paper-f2f-base": ("vit_large_patch14_dinov2.lvd142m", "f2f", "vit_base_patch14_dinov2.lvd142m"),
    "paper-eva02": ("eva02_base_patch14_224.mim_in22k", "f2l", "eva02_small_patch14_224.mim_in22k"),
    "paper-eva02-base": ("eva02_large_patch14_224.mim_m38m", "f2l", "eva02_base_patch14_224.mim_in22k"),
}
WIDTH = {"small": 384, "base": 768, "large": 1024}


def test_every_row_has_its_preset() -> None:
    profiles = yaml.safe_load((ROOT / "params.yaml").read_text())["profiles"]
    assert set(ROWS) == {name for name in profiles if name.startswith("paper")}
    for name, (teacher, setting, student) in ROWS.items():
        params = load(name)
        assert (params.models.teacher.name, params.models.students[setting].name) == (teacher, student)
        assert params.plan.settings == [setting] and list(params.models.students) == [setting]


def shallow(spec: EncoderSpec) -> Encoder:
    """The encoder at two blocks and full width, without memory behind it."""
    assert spec.name in timm.list_pretrained() and spec.weights == "hub"
    assert timm.get_pretrained_cfg(spec.name).hf_hub_id
    return Encoder.create(spec.name, depth=2, **spec.options)


@pytest.mark.parametrize("preset", ROWS)
def test_encoders_have_weights_and_patches_of_16_pixels_and_methods_have_heads_for_them(preset: str) -> None:
    params = load(preset)
    with torch.device("meta"):
        student, teacher = (shallow(spec) for spec in (*params.models.students.values(), params.models.teacher))
        for encoder, name in ((student, ROWS[preset][2]), (teacher, ROWS[preset][0])):
            for section, side in ((params.task_agnostic, 16), (params.domain_agnostic, 32)):
                cls, patches = encoder(torch.rand(1, 3, *section.image_size))
                (width,) = [width for size, width in WIDTH.items() if f"_{size}_" in name]
                assert (patches.shape, cls.shape) == ((1, side * side, width), (1, width)) and encoder.stride == 16
        for method in params.plan.methods:
            if row(method).distils:
                objective(method, student, teacher, params.heads.get(method))


@pytest.mark.parametrize("preset", ROWS)
def test_the_hyper_parameters_are_the_published_ones(preset: str) -> None:
    params = load(preset)
    for section, batch in ((params.task_agnostic, 512), (params.domain_agnostic, 128)):
        assert section.batch_size == batch and section.lr == pytest.approx(5e-4 * batch / 512)
        assert (section.min_lr, section.warmup_steps, section.weight_decay) == (1e-5, 0, 0.05)
        assert (section.mask_ratio, section.mask_probability, section.repeats) == (0.5, 0.5, 3)
    # 1,281,167 images and 100 epochs, then 300 epochs; an epoch is floor(N // 256 * 256 / batch) steps.
    assert params.task_agnostic.steps == 1281167 // 256 * 256 // 512 * 100
    sizes = {"gtav": 24966, "cityscapes": 2975, "potsdam": 3456}
    epochs = {source: count // 256 * 256 // 128 * 300 for source, count in sizes.items()}
    assert {source: params.domain_agnostic.for_source(source).steps for source in sizes} == epochs
    assert (params.task_learning.steps, params.task_learning.batch_size, params.task_learning.lrs) == (40000, 4, [1e-4])
    assert params.task_learning.crop == [512, 512] and (params.evaluate.window, params.evaluate.stride) == (512, 341)
