import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_vit
from torch import nn

from gkd.segmentation.decoders import LinearDecoder
from gkd.weights.strict import _SIZES, CheckpointError, check_classes, load_state, looks_like


def test_mismatches_are_counted_and_the_first_five_named_with_shapes():
    module = nn.ModuleDict({name: nn.Linear(2, 3) for name in "abc"})
    before = {key: value.clone() for key, value in module.state_dict().items()}
    state = {
        "a.weight": torch.ones(3, 2),
        "a.bias": torch.ones(4),
        "d.weight": torch.ones(1),
        "e.weight": torch.ones(1),
    }
    with pytest.raises(CheckpointError) as error:
        load_state(module, state, "file.safetensors (encoder)")
    assert str(error.value).splitlines() == [
        "file.safetensors (encoder) does not fit this model (7 mismatches):",
        "  missing b.weight (3, 2)",
        "  missing b.bias (3,)",
        "  missing c.weight (3, 2)",
        "  missing c.bias (3,)",
        "  unexpected d.weight (1,)",
        "  and 2 more",
    ]
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    with pytest.raises(CheckpointError, match=r"1 mismatches.*\n  a.bias: \(4,\) in the file, \(3,\) in the model$"):
        load_state(module, {**module.state_dict(), "a.bias": torch.ones(4)}, "x")


def test_layer_scale_is_never_dropped_or_made_up():
    plain, scaled = tiny_vit(), tiny_vit(init_values=1.0)
    with pytest.raises(CheckpointError, match=r"carries LayerScale \(backbone.blocks.0.ls1.gamma.*`init_values: 1.0`"):
        load_state(plain, scaled.state_dict(), "x")
    with pytest.raises(CheckpointError, match=r"The model has LayerScale .* the file has none: set `init_values: 1.0`"):
        load_state(scaled, plain.state_dict(), "x")
    load_state(scaled, tiny_vit(seed=1, init_values=0.1).state_dict(), "x")


def test_another_size_says_which_model_the_file_looks_like():
    with torch.device("meta"):
        base, small = (timm.create_model(f"vit_{size}_patch16_224", num_classes=0) for size in ("base", "small"))
    with pytest.raises(CheckpointError) as error:
        load_state(small, base.state_dict(), "x")
    lines = str(error.value).splitlines()
    assert lines[1] == "  cls_token: (1, 1, 768) in the file, (1, 1, 384) in the model"
    assert len(lines) == 8 and lines[6].startswith("  and ")
    assert lines[7].startswith(
        "The file looks like a ViT of 768 channels, 12 blocks, patch 16, without LayerScale (such"
    )
    assert "vit_base_patch16_224" in lines[7] and "the model is a ViT of 384 channels" in lines[7]
    with torch.device("meta"):
        convolutional = timm.create_model("resnet18", num_classes=0)
    with pytest.raises(CheckpointError, match="the model is no ViT"):
        load_state(convolutional, small.state_dict(), "x")


@pytest.mark.parametrize(
    "name",
    ["deit_small_patch16_224", "vit_base_patch14_dinov2", "vit_base_patch14_reg4_dinov2", "eva02_base_patch14_224"],
)
def test_a_model_of_timm_looks_like_itself(name):
    with torch.device("meta"):
        state = timm.create_model(name, num_classes=0).state_dict()
    assert name in looks_like(state)


@settings(max_examples=20)
@given(st.sampled_from([*_SIZES, (24, 2)]), st.sampled_from([14, 16, 8]), st.booleans())
def test_width_depth_and_patch_are_read_from_the_shapes(size, patch, scaled):
    width, depth = size
    state = {"patch_embed.proj.weight": torch.empty(width, 3, patch, patch, device="meta")}
    for i in range(depth):
        state[f"blocks.{i}.norm1.weight"] = torch.empty(width, device="meta")
        if scaled:
            state[f"blocks.{i}.ls1.gamma"] = torch.empty(width, device="meta")
    text = looks_like(state)
    assert text.startswith(f"a ViT of {width} channels, {depth} blocks, patch {patch}, ")
    assert ("with LayerScale" in text) == scaled
    names = text.partition("(such as ")[2].rstrip(")").split(", ")
    assert names == [""] or all(timm.is_model(name) and f"patch{patch}" in name for name in names)
    assert size != (24, 2) or names == [""]


def test_weights_without_blocks_look_like_no_vit():
    assert looks_like({}) is None
    assert looks_like({"patch_embed.proj.weight": torch.ones(4, 3, 2, 2), "layers.0.blocks.0.x": torch.ones(1)}) is None


def test_a_differing_class_count_is_one_error():
    decoder, other = LinearDecoder(4, 19), LinearDecoder(4, 11).state_dict()
    with pytest.raises(CheckpointError, match=r"another number of classes \(classes: 11 in the file, 19 in the model"):
        check_classes(decoder, other, "x")
    check_classes(decoder, decoder.state_dict(), "x")
    # Another width is not a matter of classes: load_state says so.
    wider = LinearDecoder(5, 19).state_dict()
    check_classes(decoder, wider, "x")
    with pytest.raises(CheckpointError, match="5 mismatches"):
        load_state(decoder, wider, "x")
