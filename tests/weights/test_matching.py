import pytest
import timm
import torch
from tiny_models import state_of, tiny_vit
from torch import nn

from gkd.segmentation.decoders import LinearDecoder
from gkd.weights import CheckpointError
from gkd.weights.matching import check_classes, check_state, looks_like


def test_mismatches_are_counted_and_the_first_five_named_with_shapes():
    module = nn.ModuleDict({name: nn.Linear(2, 3) for name in "abc"})
    state = {
        "a.weight": torch.ones(3, 2),
        "a.bias": torch.ones(4),
        "d.weight": torch.ones(1),
        "e.weight": torch.ones(1),
    }
    with pytest.raises(CheckpointError) as error:
        check_state(module, state, "file.safetensors (encoder)")
    assert str(error.value).splitlines() == [
        "file.safetensors (encoder) does not fit this model (7 mismatches):",
        "  missing b.weight (3, 2)",
        "  missing b.bias (3,)",
        "  missing c.weight (3, 2)",
        "  missing c.bias (3,)",
        "  unexpected d.weight (1,)",
        "  and 2 more",
    ]
    with pytest.raises(CheckpointError, match=r"1 mismatches.*\n  a.bias: \(4,\) in the file, \(3,\) in the model$"):
        check_state(module, {**module.state_dict(), "a.bias": torch.ones(4)}, "x")
    check_state(module, module.state_dict(), "x")


def test_layer_scale_is_never_dropped_or_made_up():
    plain, scaled = tiny_vit(), tiny_vit(init_values=1.0)
    with pytest.raises(CheckpointError, match=r"carries LayerScale \(backbone.blocks.0.ls1.gamma.*`init_values: 1.0`"):
        check_state(plain, scaled.state_dict(), "x")
    with pytest.raises(CheckpointError, match=r"The model has LayerScale .* the file has none: set `init_values: 1.0`"):
        check_state(scaled, plain.state_dict(), "x")
    check_state(scaled, tiny_vit(seed=1, init_values=0.1).state_dict(), "x")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("deit_small_patch16_224", "a ViT of 384 channels, 12 blocks, patch 16, without LayerScale"),
        ("vit_base_patch14_dinov2", "a ViT of 768 channels, 12 blocks, patch 14, with LayerScale"),
        ("eva02_base_patch14_224", "a ViT of 768 channels, 12 blocks, patch 14, without LayerScale"),
        ("resnet18", None),
        ("swin_tiny_patch4_window7_224", None),
    ],
)
def test_what_the_weights_of_a_model_look_like(name, text):
    with torch.device("meta"):
        state = timm.create_model(name, num_classes=0).state_dict()
    assert looks_like(state) == text


def test_another_size_says_what_the_file_looks_like():
    small, tiny = tiny_vit(48, depth=3), tiny_vit()
    with pytest.raises(CheckpointError) as error:
        check_state(tiny.backbone, state_of(small), "x")
    lines = str(error.value).splitlines()
    assert lines[1] == "  missing cls_token (1, 1, 24)" or lines[1].startswith("  unexpected blocks.2.norm1.weight")
    assert lines[6].startswith("  and ") and lines[7] == (
        "The file looks like a ViT of 48 channels, 3 blocks, patch 8, without LayerScale; the model is a ViT of 24 "
        "channels, 2 blocks, patch 8, without LayerScale"
    )


def test_a_differing_class_count_is_one_error():
    decoder, other = LinearDecoder(4, 19), LinearDecoder(4, 11).state_dict()
    with pytest.raises(CheckpointError, match=r"another number of classes \(classes: 11 in the file, 19 in the model"):
        check_classes(decoder, other, "x")
    check_classes(decoder, decoder.state_dict(), "x")
    # Another width is not a matter of classes: check_state says so.
    wider = LinearDecoder(5, 19).state_dict()
    check_classes(decoder, wider, "x")
    with pytest.raises(CheckpointError, match="5 mismatches"):
        check_state(decoder, wider, "x")
